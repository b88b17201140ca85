"""What docs/other-clients.md says that only a client can tell."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.docs.pages import ROOT, sections
from tests.docs.serving import Stage, run


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def test_the_sdk_reads_what_the_page_serves(stage: Stage) -> None:
    page = sections(ROOT / "docs" / "other-clients.md")
    (section,) = [section for section in page if section.title == "An API for the openai SDK"]
    module, _ = run(section)
    with stage.serving(module.app) as port:
        base_url = f"http://127.0.0.1:{port}/v1"
        assert module.ask(base_url, "tram", "When?") == "Line 4 leaves in two minutes."
        with pytest.raises(openai.NotFoundError, match="no model 'bus'"):
            module.ask(base_url, "bus", "When?")
