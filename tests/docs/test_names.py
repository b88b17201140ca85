"""Every public name and every option stands in the documentation, and every link leads somewhere."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import tidings
import tidings.errors
import tidings.fastapi
import tidings.stream
import tidings.wire
from tests.docs.pages import PAGES, ROOT, anchors, prose
from tidings.stream.response import Options

TEXT = "\n".join(page.read_text() for page in PAGES)
STREAMS = (ROOT / "docs" / "streams.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *(f"tidings.{name}" for name in tidings.__all__),
        *(
            f"tidings.{module}.{name}"
            for module in ("errors", "fastapi", "stream", "wire")
            for name in getattr(tidings, module).__all__
        ),
    ],
)
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name.rpartition('.')[2]}\b[^`\n]*`", TEXT)


def test_every_option_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \| \w+ \| .+ \|$", STREAMS, flags=re.MULTILINE))
    options = get_type_hints(Options)
    assert rows == {name: repr(getattr(tidings.EventSourceResponse, name)) for name in options}


def test_the_fields_of_an_event_are_in_a_table() -> None:
    for field in tidings.ServerSentEvent.__slots__:
        assert re.search(rf"^\| `{field}` \| ", STREAMS, flags=re.MULTILINE), field


def test_numbers_that_the_text_repeats() -> None:
    assert "512 by default" in STREAMS
    assert tidings.EventSourceResponse.max_sync_streams == 512


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, page.name
