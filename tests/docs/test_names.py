"""Every public name and every option stands in the documentation, and every link leads somewhere."""

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest

import tidings
import tidings.broker
import tidings.client
import tidings.errors
import tidings.fastapi
import tidings.stream
import tidings.testing
import tidings.tickets
import tidings.wire
from tests.docs.pages import PAGES, ROOT, anchors, prose
from tidings.broker import log
from tidings.broker.resume import Reset
from tidings.broker.sqlite import reader
from tidings.stream.response import Options

TEXT = "\n".join(page.read_text() for page in PAGES)
STREAMS = (ROOT / "docs" / "streams.md").read_text()
CHANNELS = (ROOT / "docs" / "channels.md").read_text()
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
OBSERVABILITY = (ROOT / "docs" / "observability.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *(f"tidings.{name}" for name in tidings.__all__),
        *(
            f"tidings.{module}.{name}"
            for module in ("broker", "client", "errors", "fastapi", "stream", "testing", "tickets", "wire")
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


def test_every_option_of_a_broker_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \| \w+ \| .+ \|$", CHANNELS, flags=re.MULTILINE))
    parameters = list(inspect.signature(tidings.Broker).parameters.values())[1:]  # the first is the URL
    assert rows == {parameter.name: repr(parameter.default) for parameter in parameters}


@pytest.mark.parametrize("kind", [tidings.Broker, tidings.Subscription, tidings.broker.DeliveredEvent])
def test_what_users_call_of_a_broker_is_documented(kind: type) -> None:
    internal = {"open", "ended", "ready_frames", "listen", "position_frame"}  # what a response asks of its source
    for name in vars(kind):
        if not name.startswith("_") and name not in internal:
            assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", CHANNELS), name


def test_every_reason_of_a_reset_is_in_a_table() -> None:
    resuming = (ROOT / "docs" / "resuming.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", resuming, flags=re.MULTILINE)) >= set(Reset)


def test_every_instrument_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `(tidings\.[\w.]+)` \| `\w+` \| .+ \| .+ \|$", OBSERVABILITY, flags=re.MULTILINE))
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("metrics.py"))
    assert named == set(re.findall(r'^    "(tidings\.\w+\.\w+)",', source, flags=re.MULTILINE))


def test_every_module_is_in_the_table_of_the_architecture() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", ARCHITECTURE, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w/.]+)`", row)}
    package = ROOT / "src" / "tidings"
    for path in package.rglob("*.py"):
        module = path.relative_to(package)
        if path.name != "__init__.py" and module.parts[0] != "demo":
            assert named & {str(module), f"{module.parent}/"}, module


def test_the_fields_of_an_event_are_in_a_table() -> None:
    for field in tidings.ServerSentEvent.__slots__:
        assert re.search(rf"^\| `{field}` \| ", STREAMS, flags=re.MULTILINE), field


def test_numbers_that_the_text_repeats() -> None:
    assert "512 by default" in STREAMS
    assert tidings.EventSourceResponse.max_sync_streams == 512
    assert "1,000 events or 8 MiB of each" in DEPLOYMENT
    assert (log._TAIL_ENTRIES, log._TAIL_BYTES) == (1_000, 8 << 20)
    assert re.search(r"16\s+readers at each turn", ARCHITECTURE)
    assert re.search(r"turn after\s+16 entries, and wait while more than 256", ARCHITECTURE)
    assert (log._SLICE, log._PUBLISHED_A_TURN, log._PUBLISHED_A_ROUND) == (16, 16, 256)
    assert "look for news every 20 ms" in (ROOT / "docs" / "several-workers.md").read_text()
    assert reader._POLL == 0.02


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
