"""The clients of the documentation print what the page says, against the applications beside them."""

from __future__ import annotations

import asyncio
import inspect
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.pages import ORIGIN, ROOT, Section, sections
from tests.docs.serving import Stage, run
from tidings.client import AsyncEventSource, EventSource

PAGE = ROOT / "docs" / "client.md"

CLIENTS = [section for section in sections(PAGE) if any("def main()" in block.text for block in section.of("python"))]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.mark.parametrize("section", CLIENTS, ids=lambda section: section.title)
def test_a_client_prints_what_the_page_shows(
    section: Section, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    local = f"http://127.0.0.1:{stage.port}"
    served = replace(
        section, blocks=[replace(block, text=block.text.replace(ORIGIN, local)) for block in section.blocks]
    )
    module, _ = run(served)
    with stage.serving(module.app):
        if hasattr(module, "publish"):
            urllib.request.urlopen(urllib.request.Request(f"{local}/news", method="POST")).close()
        result = module.main()
        if inspect.isawaitable(result):
            asyncio.run(result)  # type: ignore[arg-type]
    [expected] = section.of("text")
    assert capsys.readouterr().out == expected.text


def test_every_option_is_in_the_table_with_its_default() -> None:
    rows = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `") and line.count("|") == 5:
            name, default, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = default.strip("`")
    for kind in (AsyncEventSource, EventSource):
        parameters = list(inspect.signature(kind).parameters.values())[1:]  # the first is the URL
        assert rows == {parameter.name: repr(parameter.default) for parameter in parameters}
