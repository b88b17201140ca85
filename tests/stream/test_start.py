"""When a response starts, and what it starts with."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import HTTPException

from tests.asgi import Connection, app_of, fetch
from tidings import EventSourceResponse, ServerSentEvent
from tidings.errors import ItemError
from tidings.stream import Ending

pytestmark = pytest.mark.anyio


async def nothing_for_ever() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield "never"


async def test_the_first_item_starts_the_response_before_the_delay_is_over() -> None:
    async def source() -> AsyncIterator[str]:
        yield "dawn"
        await asyncio.Event().wait()

    async with Connection(EventSourceResponse(source(), start_delay=3600)) as client:
        await client.until(b'data: "dawn"\n\n')
        assert [message["type"] for message in client.messages] == ["http.response.start", "http.response.body"]


async def test_without_an_item_the_response_starts_after_the_delay_with_one_empty_comment() -> None:
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        await gate.wait()
        yield "dawn"
        await asyncio.sleep(0.001)
        yield "day"

    async with Connection(EventSourceResponse(source(), start_delay=0.02)) as client:
        await client.until(b":\n\n")
        gate.set()
        await client.end()
    assert client.body == b':\n\ndata: "dawn"\n\ndata: "day"\n\n'


async def test_a_response_that_starts_with_an_item_has_no_empty_comment() -> None:
    async def source() -> AsyncIterator[str]:
        await asyncio.sleep(0.001)
        yield "dawn"
        await asyncio.sleep(0.001)

    assert (await fetch(EventSourceResponse(source(), start_delay=5))).body == b'data: "dawn"\n\n'


async def test_retry_goes_first_and_takes_the_place_of_the_comment() -> None:
    async with Connection(EventSourceResponse(nothing_for_ever(), retry=2500, start_delay=0.01)) as client:
        await client.until(b"retry: 2500\n\n")
    assert client.body == b"retry: 2500\n\n"
    assert (await fetch(EventSourceResponse(["a"], retry=0))).body == b'retry: 0\n\ndata: "a"\n\n'


async def test_a_delay_of_zero_starts_as_soon_as_the_source_has_to_wait() -> None:
    async with Connection(EventSourceResponse(nothing_for_ever(), start_delay=0)) as client:
        await client.until(b":\n\n")
        assert len(client.messages) == 2


async def test_without_a_delay_the_response_waits_for_the_first_item() -> None:
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        await gate.wait()
        yield "late"

    # Neither a ping comes before the start.
    async with Connection(EventSourceResponse(source(), start_delay=None, ping_interval=0.01)) as client:
        await asyncio.sleep(0.15)
        assert client.messages == []
        gate.set()
        await client.end()
    assert client.body == b'data: "late"\n\n'


async def test_without_a_delay_an_exception_after_a_long_wait_still_has_its_status() -> None:
    async def endpoint() -> AsyncIterable[str]:
        await asyncio.sleep(0.15)
        raise HTTPException(410, "dried up")
        yield ""

    class Patient(EventSourceResponse):
        start_delay = None
        ping_interval = 0.01

    client = await fetch(app_of(endpoint, response_class=Patient))
    assert (client.status, client.body) == (410, b'{"detail":"dried up"}')


async def test_a_source_that_ends_without_an_item_gets_headers_and_no_comment() -> None:
    async def at_once() -> AsyncIterator[str]:
        return
        yield

    async def after_a_wait() -> AsyncIterator[str]:
        await asyncio.sleep(0.001)
        return
        yield

    for source in (at_once(), after_a_wait(), [], iter(())):
        response = EventSourceResponse(source, start_delay=5)
        client = await fetch(response)
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.body == b""
        assert client.complete
        assert response.ending is Ending.EXHAUSTED


async def test_an_http_exception_before_the_first_item_becomes_its_response() -> None:
    async def lookup(name: str) -> AsyncIterable[str]:
        await asyncio.sleep(0.001)
        raise HTTPException(404, f"no island {name}", headers={"X-Map": "4"})
        yield name

    client = await fetch(app_of(lookup), "/?name=Thule")
    assert client.status == 404
    assert client.headers["x-map"] == "4"
    assert client.headers["content-type"] == "application/json"
    assert client.body == b'{"detail":"no island Thule"}'


async def test_an_http_exception_of_a_sync_generator_becomes_its_response() -> None:
    def lookup(name: str) -> Iterator[str]:
        raise HTTPException(404, f"no island {name}")
        yield name

    client = await fetch(app_of(lookup), "/?name=Thule")
    assert (client.status, client.body) == (404, b'{"detail":"no island Thule"}')


async def test_an_exception_handler_of_the_application_sees_what_the_source_raised_first() -> None:
    async def endpoint() -> AsyncIterable[str]:
        raise LookupError("no such island")
        yield ""

    async def handle(_request: Any, error: Exception) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(str(error), 404)

    app = app_of(endpoint)
    app.add_exception_handler(LookupError, handle)
    client = await fetch(app)
    assert (client.status, client.body) == (404, b"no such island")


async def test_any_other_exception_before_the_first_item_is_a_500() -> None:
    async def endpoint() -> AsyncIterable[str]:
        raise LookupError("the chart is lost")
        yield ""

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(LookupError, match="the chart is lost"):
            await client.end()
    assert client.status == 500


async def test_a_first_item_that_does_not_fit_is_a_500_and_closes_the_source() -> None:
    closed = []

    async def endpoint() -> AsyncIterable[int]:
        try:
            yield "not a number"  # type: ignore[misc]
        finally:
            closed.append(True)

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(ItemError):
            await client.end()
    assert client.status == 500
    assert closed == [True]


async def test_an_exception_after_the_delay_finds_the_response_started() -> None:
    gate = asyncio.Event()

    async def endpoint() -> AsyncIterable[str]:
        await gate.wait()
        raise HTTPException(404, "too late for a status")
        yield ""

    async with Connection(app_of(endpoint)) as client:
        await client.until(b":\n\n")
        gate.set()
        with pytest.raises(Exception, match=r"too late|already started"):
            await client.end()
    assert client.status == 200
    assert not client.complete


async def test_the_first_item_may_be_a_comment() -> None:
    async def source() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(comment="hello")
        await asyncio.Event().wait()

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b": hello\n\n")
    assert client.body == b": hello\n\n"


async def test_an_item_and_an_exception_right_behind_it_are_a_started_response() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise LookupError("fell overboard")

    async with Connection(EventSourceResponse(source())) as client:
        with pytest.raises(LookupError):
            await client.end()
    assert client.status == 200
    assert client.body == b"data: 1\n\n"
    assert not client.complete
