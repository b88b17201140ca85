"""What the demo puts on the wire beside its panels: the log, the page, and the description of it all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from tidings.demo.app import create_app
from tidings.demo.settings import Settings
from tidings.testing import AsyncStream, lifespan, open_stream
from tidings.wire import ReceivedEvent

pytestmark = pytest.mark.anyio

TIMEOUT = 30.0


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with lifespan(app):
        yield app


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def lines(stream: AsyncStream, count: int) -> list[str]:
    events: list[ReceivedEvent] = await stream.take(count, TIMEOUT)
    assert {event.event for event in events} == {"logged"}
    return [event.json()["text"] for event in events]


async def opening(stream: AsyncStream) -> Any:
    event = await stream.next(TIMEOUT)
    assert event.event == "opened"
    return event.json()


async def test_a_log_begins_with_its_opening_then_its_lines(app: FastAPI, log: Path) -> None:
    async with open_stream(app, "/log") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert await opening(stream) == {"file": str(log), "own": False, "resumed": False, "reason": None}
        assert await lines(stream, 5) == [f"ship {number}" for number in range(5)]


async def test_the_header_resumes_and_the_query_does_too_and_the_header_is_newer(app: FastAPI) -> None:
    async with open_stream(app, "/log") as stream:
        ids = [event.id for event in await stream.take(6, TIMEOUT)]
    older, newer = quote(ids[1]), ids[3]
    for path, last_event_id, seen in [
        ("/log", newer, 3),
        (f"/log?last_event_id={older}", None, 1),
        (f"/log?last_event_id={older}", newer, 3),
    ]:
        async with open_stream(app, path, last_event_id=last_event_id) as stream:
            assert (await opening(stream))["resumed"] is True
            assert await lines(stream, 5 - seen) == [f"ship {number}" for number in range(seen, 5)]


async def test_an_id_that_is_none_starts_over_and_says_so(app: FastAPI) -> None:
    async with open_stream(app, "/log", last_event_id="elsewhere-7") as stream:
        assert (await opening(stream))["reason"] == "unknown"
        assert await lines(stream, 1) == ["ship 0"]


async def test_the_position_is_told_even_if_nothing_passes_the_filter(app: FastAPI, log: Path) -> None:
    async with open_stream(app, "/log?keyword=submarine") as stream:
        await opening(stream)
        before = stream.last_event_id
        append(log, "ship 5\nship 6\n")
        while stream.last_event_id == before:
            await stream.advance(0.1)
        position = stream.last_event_id
    append(log, "ship 7\n")
    async with open_stream(app, "/log", last_event_id=position) as stream:
        assert (await opening(stream))["resumed"] is True
        assert await lines(stream, 1) == ["ship 7"]


async def test_a_log_that_is_gone_is_unavailable_until_it_is_back(app: FastAPI, log: Path) -> None:
    log.unlink()
    async with open_stream(app, "/log") as stream:
        assert stream.status == 503
        assert await stream.json(TIMEOUT) == {"detail": "the log can't be opened: No such file or directory"}
    append(log, "back\n")
    async with open_stream(app, "/log") as stream:
        await opening(stream)
        assert await lines(stream, 1) == ["back"]


async def test_a_filter_that_is_too_long_is_refused(app: FastAPI) -> None:
    async with open_stream(app, "/log?keyword=" + "x" * 201) as stream:
        assert stream.status == 422
        assert (await stream.json(TIMEOUT))["detail"][0]["loc"] == ["query", "keyword"]


async def test_the_streams_are_documented(app: FastAPI) -> None:
    async with open_stream(app, "/openapi.json") as response:
        document = await response.json(TIMEOUT)
    names = {
        path: {
            option["properties"]["event"].get("const")
            for option in operations["get"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]["oneOf"]
        }
        for path, operations in document["paths"].items()
        if path in {"/figures", "/desk", "/log"}
    }
    assert names == {
        "/figures": {"served", "host", "sample", "count", "worker", "reset"},
        # The tokens of the chat have no name.
        "/desk": {"served", "headline", "progress", "result", "question", "done", None}
        | {"reset", "stopped", "failed", "aborted"},
        "/log": {"opened", "logged", "restarted"},
    }


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/style.css", "text/css"),
        ("/main.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
    ],
)
async def test_the_page_is_served_as_what_it_is_and_looked_up_anew(app: FastAPI, path: str, content_type: str) -> None:
    async with open_stream(app, path) as response:
        assert response.status == 200
        assert response.headers["content-type"].split(";")[0] == content_type
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["content-security-policy"] == "default-src 'self'"


async def test_another_name_for_this_machine_is_refused(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"local": True}))
    async with lifespan(app):
        for host, status in [("harbour.example", 400), ("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200)]:
            for path in ("/log", "/"):
                async with open_stream(app, path, headers={"host": host}) as response:
                    assert response.status == status
