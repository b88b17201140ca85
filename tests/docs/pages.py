"""The pages of the documentation, taken apart: sections, blocks, commands and links.

The Python blocks of a section (up to the next `##` heading) are one module: run in order, in one namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ORIGIN = "http://127.0.0.1:8000"
"""Where the documentation runs its applications."""

EPOCH = "4k9tz2m7qa"
"""The epoch of the ids that the documentation shows; in each run it is another."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code; `line` is that of its first line of code."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command, and what it prints. `interrupted`: the page leaves it with Ctrl+C."""

    text: str
    output: str
    interrupted: bool

    @property
    def name(self) -> str:
        return self.text.split(maxsplit=1)[0]


@dataclass
class Section:
    """A heading and the blocks below it."""

    page: Path
    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.page.name}: {self.title}"

    def of(self, *languages: str) -> list[Block]:
        return [block for block in self.blocks if block.language in languages]

    @property
    def commands(self) -> list[Command]:
        """Those that talk to the section's application, or write a file that it reads."""
        commands = [command for block in self.of("console") for command in _commands(block.text)]
        return [command for command in commands if command.text.startswith(("curl ", "printf ", "tidings tail "))]


def sections(page: Path) -> list[Section]:
    found = [Section(page, "the top")]
    lines = page.read_text().splitlines()
    fence: str | None = None
    code: list[str] = []
    for number, line in enumerate(lines, start=1):
        if fence is not None:
            if line.strip() == "```":
                text = "".join(f"{each}\n" for each in code)
                found[-1].blocks.append(Block(fence, text, number - len(code)))
                fence = None
            else:
                code.append(line)
        elif line.startswith("```"):
            fence = line[3:].strip()
            code = []
        elif line.startswith("## "):
            found.append(Section(page, line[3:].strip()))
    assert fence is None, f"{page}: a block is not closed"
    return found


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        # A command goes on in the next line behind a backslash; what it prints begins after it.
        match = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n", part)
        assert match is not None, part
        output = part[match.end() :]
        yield Command(match[0].strip(), output.removesuffix("^C\n"), output.endswith("^C\n"))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What links can point to in a page, as GitHub names headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
