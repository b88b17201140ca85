"""The Python blocks of every page run, and the requests beside them print what the page says."""

import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Command, Section, sections
from tests.docs.serving import PATIENCE, Running, Stage, run, with_epoch_of
from tidings import EventSourceResponse

ALL_SECTIONS = [section for page in PAGES for section in sections(page) if section.of("python")]

ALONE = [section for section in ALL_SECTIONS if any("set_meter_provider(" in block.text for block in section.blocks)]
"""Those that set up what a process has once."""

SECTIONS = [section for section in ALL_SECTIONS if section not in ALONE]

LANGUAGES = {
    "python",
    "console",
    "text",
    "json",
    "javascript",
    "html",
    "diff",
    "nginx",
    "haproxy",
    "caddy",
    "ini",
    "toml",
    "yaml",
    "sh",
    "bash",
}


def test_there_is_something_to_test() -> None:
    assert {"getting-started.md", "streams.md", "typed-events.md"} <= {section.page.name for section in SECTIONS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_names_its_language(page: Path) -> None:
    for section in sections(page):
        for block in section.blocks:
            assert block.language in LANGUAGES, f"{page}:{block.line}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.id)
def test_a_section_is_a_module_that_does_what_the_page_shows(
    section: Section, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in section.of("html"):
        (tmp_path / "page.html").write_text(block.text)
    module, printed = run(section)
    for block, following in zip(section.blocks, section.blocks[1:], strict=False):
        if printed.get(block):
            assert following.language in {"text", "json"}, f"{section.page}:{block.line} prints what no block shows"
            expected = with_epoch_of(module, following.text).rstrip("\n")
            assert printed[block].rstrip("\n") == expected, f"{section.page}:{following.line}"
    if not section.commands:
        return
    if not any(re.search("^:$", command.output, re.MULTILINE) for command in section.commands):
        # The first item comes before the opening comment, also on a busy machine.
        monkeypatch.setattr(EventSourceResponse, "start_delay", PATIENCE)
    with stage.serving(module.app) as port, ExitStack() as interrupted:
        left_open = 0
        for shown in section.commands:
            command = replace(shown, text=with_epoch_of(module, shown.text), output=with_epoch_of(module, shown.output))
            running = Running(command, port, tmp_path)
            if command.interrupted:
                # It goes on beside those that follow, as in a terminal of its own.
                interrupted.callback(check, command, running)
                left_open += 1
            else:
                check(command, running)
                stage.until_answered(left_open)


@pytest.mark.parametrize("section", ALONE, ids=lambda section: section.id)
def test_a_section_that_sets_up_its_process_has_one_of_its_own(section: Section, tmp_path: Path) -> None:
    code = "".join(block.text for block in section.of("python"))
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(block.text for block in section.of("text", "json"))
    assert not section.commands, "who would answer them?"


def check(command: Command, running: Running) -> None:
    assert _comparable(running.output()) == _comparable(command.output), command.text


def test_requests_stand_in_sections_with_an_application() -> None:
    for page in PAGES:
        for section in sections(page):
            if section.commands and page.parent != ROOT:
                assert section.of("python"), f"{section.id}: a request to what?"


def _comparable(text: str) -> str:
    """Without what differs from run to run and from curl to curl."""
    text = text.replace("\r\n", "\n")
    text = re.sub(r"^date: .*$", "date: …", text, flags=re.MULTILINE)
    text = re.sub(r"^(curl: \(\d+\)).*$", r"\1", text, flags=re.MULTILINE)
    # JSON answers end without a line end, which no page can show.
    return text if text.endswith("\n") else text + "\n"
