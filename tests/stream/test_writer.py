"""A connection that fails, blocks or breaks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.background import BackgroundTask

from tests.asgi import Connection
from tidings import EventSourceResponse, ServerSentEvent
from tidings.stream import Ending

pytestmark = pytest.mark.anyio


class Source:
    """Ticks when it is told to, and notes its end."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.closed = False

    async def __call__(self) -> AsyncIterator[int]:
        try:
            yield 1
            await self.gate.wait()
            yield 2
            await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_an_exception_after_the_start_is_raised_behind_the_items_and_leaves_the_response_open() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0.001)
        yield 2
        yield 3
        raise LookupError("the mast is gone")

    response = EventSourceResponse(source())
    async with Connection(response) as client:
        with pytest.raises(LookupError, match="the mast is gone"):
            await client.end()
    assert client.body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert not client.complete
    assert response.ending is Ending.FAILED


async def test_a_group_of_exceptions_of_any_kind_is_raised_behind_the_items_too() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise BaseExceptionGroup("of a task group", [GeneratorExit()])

    async with Connection(EventSourceResponse(source())) as client:
        with pytest.raises(BaseExceptionGroup):
            await client.end()
    assert client.body == b"data: 1\n\n"
    assert not client.complete


async def test_a_background_task_runs_unless_the_stream_failed() -> None:
    notes: list[str] = []

    async def fails() -> AsyncIterator[int]:
        yield 1
        raise LookupError

    async with Connection(EventSourceResponse(fails(), background=BackgroundTask(notes.append, "failed"))) as client:
        with pytest.raises(LookupError):
            await client.end()
    source = Source()
    async with Connection(EventSourceResponse(source(), background=BackgroundTask(notes.append, "left"))) as client:
        await client.until(b"data: 1")
    assert notes == ["left"]


@pytest.mark.parametrize("error", [OSError("gone"), ConnectionResetError(), BrokenPipeError()])
async def test_a_send_that_raises_os_error_is_a_client_that_left(
    error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = Source()
    response = EventSourceResponse(source())
    async with Connection(response) as client:
        await client.until(b"data: 1")
        client.break_send(error)
        source.gate.set()
        await client.end()
    assert source.closed
    assert response.ending is Ending.DISCONNECTED
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_a_send_that_raises_os_error_at_the_start_is_a_client_that_left() -> None:
    source = Source()
    response = EventSourceResponse(source())
    connection = Connection(response)
    connection.break_send(OSError("gone"))
    async with connection:
        await connection.end()
    assert source.closed
    assert response.ending is Ending.DISCONNECTED


async def test_a_blocked_send_that_then_raises_os_error_is_a_client_that_left() -> None:
    source = Source()
    blocking = asyncio.Event()
    broken = asyncio.Event()

    response = EventSourceResponse(source())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def breaking_send(message: Any) -> None:
            if message.get("body"):
                blocking.set()
                await broken.wait()
                raise ConnectionResetError
            await send(message)

        await response(scope, receive, breaking_send)

    async with Connection(app) as client:
        await blocking.wait()
        broken.set()
        await client.end()
    assert source.closed
    assert response.ending is Ending.DISCONNECTED


async def test_a_send_that_raises_anything_else_is_an_error_of_the_response() -> None:
    source = Source()
    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"data: 1")
        client.break_send(RuntimeError("protocol violated"))
        source.gate.set()
        with pytest.raises(RuntimeError, match="protocol violated"):
            await client.end()
    assert source.closed


async def test_a_client_that_takes_nothing_is_dropped_after_send_timeout() -> None:
    source = Source()
    response = EventSourceResponse(source(), send_timeout=0.05)
    async with Connection(response) as client:
        await client.until(b"data: 1")
        client.stop_reading()
        source.gate.set()
        await client.end()
    assert source.closed
    assert not client.complete
    assert response.ending is Ending.TIMED_OUT


async def test_a_client_that_reads_on_in_time_is_not_dropped() -> None:
    source = Source()
    response = EventSourceResponse(source(), send_timeout=5)
    async with Connection(response) as client:
        client.stop_reading()
        await client.until_blocked()
        client.read_on()
        source.gate.set()
        await client.until(b"data: 2")
    assert response.ending is Ending.DISCONNECTED


async def test_a_client_that_stalls_at_the_head_is_sent_no_body() -> None:
    source = Source()
    response = EventSourceResponse(source(), send_timeout=0.05)
    connection = Connection(response)
    connection.stop_reading()
    async with connection:
        await connection.end()
    assert [message["type"] for message in connection.messages] == ["http.response.start"]
    assert response.ending is Ending.TIMED_OUT
    assert source.closed


async def test_a_send_is_never_begun_while_another_is_under_way() -> None:
    under_way = 0

    async def source() -> AsyncIterator[Any]:
        for number in range(20):
            yield number
            await asyncio.sleep(0.001)

    response = EventSourceResponse(source(), ping_interval=0.001, start_delay=0, max_duration=0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def slow_send(message: Any) -> None:
            nonlocal under_way
            assert under_way == 0
            under_way += 1
            await asyncio.sleep(0.003)
            await send(message)
            under_way -= 1

        await response(scope, receive, slow_send)

    async with Connection(app) as client:
        await client.end()
    assert client.complete
    assert [event.data for event in client.events] == [str(number) for number in range(20)]


async def test_a_send_that_gives_way_with_bare_turns_of_the_loop() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def polite_send(message: Any) -> None:
            await asyncio.sleep(0)
            await send(message)
            await asyncio.sleep(0)

        await EventSourceResponse([1, 2])(scope, receive, polite_send)

    async with Connection(app) as client:
        await client.end()
    assert client.body == b"data: 1\n\ndata: 2\n\n"
    assert client.complete


async def test_a_receive_that_raises_os_error_is_a_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source = Source()
    response = EventSourceResponse(source())
    async with Connection(response) as client:
        await client.until(b"data: 1")
        client.break_receive(OSError("connection lost"))
        await client.end()
    assert source.closed
    assert response.ending is Ending.DISCONNECTED
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_a_receive_that_fails_otherwise_ends_the_stream_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"data: 1")
        client.break_receive(RuntimeError("the pipe is bent"))
        await client.end()
    assert source.closed
    assert "the pipe is bent" in caplog.text


async def test_nothing_is_sent_to_a_client_that_left() -> None:
    async def source() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(raw_data="first")
        try:
            await asyncio.Event().wait()
        finally:
            yield ServerSentEvent(raw_data="from the cleanup")

    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def noting_send(message: Any) -> None:
            sent.append(message)
            await send(message)

        await EventSourceResponse(source())(scope, receive, noting_send)

    async with Connection(app) as client:
        await client.until(b"first")
        count = len(sent)
    assert len(sent) == count
