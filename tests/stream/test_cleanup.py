"""What a source sees when its stream ends before it, and what ends the waiting for its cleanup."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Self

import anyio
import pytest

from tests.asgi import Connection, fetch
from tidings import EventSourceResponse
from tidings.stream import Ending, cleanup

pytestmark = pytest.mark.anyio


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """Nothing is logged above DEBUG."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    assert [record for record in caplog.get_records("call") if record.levelno > logging.DEBUG] == []


@pytest.mark.usefixtures("quiet")
async def test_a_source_at_its_await_sees_cancelled_error_and_runs_its_finally_before_the_response_returns() -> None:
    seen: list[Any] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.001)
            seen.append("closed")

    response = EventSourceResponse(source())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await response(scope, receive, send)
        seen.append("returned")

    async with Connection(app) as client:
        await client.until(b"data: 1")
        client.disconnect()
        await client.end()
    assert seen == ["cancelled", "closed", "returned"]
    assert response.ending is Ending.DISCONNECTED


@pytest.mark.usefixtures("quiet")
async def test_a_source_at_its_yield_is_closed_there() -> None:
    seen: list[Any] = []

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        except BaseException as error:
            seen.append(type(error))
            raise
        finally:
            await asyncio.sleep(0.001)
            seen.append("closed")

    response = EventSourceResponse(source())
    async with Connection(response) as client:
        await client.until(b"data: 1")
    assert seen == [GeneratorExit, "closed"]
    assert response.ending is Ending.DISCONNECTED


@pytest.mark.usefixtures("quiet")
async def test_a_source_that_never_awaits_is_closed_while_the_client_does_not_read() -> None:
    closed: list[int] = []

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(1)

    response = EventSourceResponse(source(), send_timeout=None)
    async with Connection(response) as client:
        client.stop_reading()
        await client.until_blocked()
    assert closed == [1]
    assert response.ending is Ending.DISCONNECTED


@pytest.mark.usefixtures("quiet")
async def test_a_source_that_awaits_is_cancelled_while_the_client_does_not_read() -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async with Connection(EventSourceResponse(source(), send_timeout=None)) as client:
        client.stop_reading()
        await client.until_blocked()
    assert seen == ["cancelled"]


@pytest.mark.usefixtures("quiet")
async def test_a_source_that_polls_with_bare_yields_sees_cancelled_error() -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        yield 1

    async with Connection(EventSourceResponse(source(), start_delay=0)) as client:
        await client.until(b":\n\n")
    assert seen == ["cancelled"]


async def test_a_client_that_leaves_before_the_first_item_ends_the_source() -> None:
    seen: list[str] = []
    waiting = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield 1
        finally:
            seen.append("closed")

    response = EventSourceResponse(source(), start_delay=None)
    async with Connection(response) as client:
        await waiting.wait()
        client.disconnect()
        await client.end()
        assert client.messages == []
    assert seen == ["closed"]
    assert response.ending is Ending.DISCONNECTED


async def test_a_client_that_is_gone_when_the_stream_begins() -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            seen.append("closed")

    response = EventSourceResponse(source())
    connection = Connection(response)
    connection.disconnect()
    async with connection:
        await connection.end()
    assert seen == ["closed"]
    assert response.ending is Ending.DISCONNECTED


async def test_the_task_counts_one_cancellation_inside_the_source_and_none_after_the_response() -> None:
    counts: list[int] = []

    async def source() -> AsyncIterator[int]:
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            counts.append(task.cancelling())
            raise

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(source())(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())
        await asyncio.sleep(0)  # nor is a cancellation left for later

    async with Connection(app) as client:
        await client.until(b"data: 1")
    assert counts == [0, 1, 0]


@pytest.mark.usefixtures("quiet")
async def test_a_source_that_takes_cancelled_error_as_its_end_is_no_error() -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"data: 1")


@pytest.mark.usefixtures("quiet")
async def test_a_source_that_yields_on_when_it_is_cancelled_is_closed_at_that_yield() -> None:
    seen: list[Any] = []

    async def source() -> AsyncIterator[str]:
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    seen.append("cancelled")
                yield "still here"
        finally:
            await asyncio.sleep(0.001)
            seen.append("closed")

    response = EventSourceResponse(source(), start_delay=0)
    async with Connection(response) as client:
        await client.until(b":\n\n")
        client.disconnect()
        await client.end()
        assert b"still here" not in client.body
    assert seen == ["cancelled", "closed"]


async def test_a_cleanup_that_takes_too_long_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cut")
                raise

    loop = asyncio.get_running_loop()
    async with Connection(EventSourceResponse(source(), cleanup_timeout=0.05)) as client:
        await client.until(b"data: 1")
        begin = loop.time()
        client.disconnect()
        await client.end()
        assert 0.04 < loop.time() - begin < 5
    assert seen == ["cut"]
    assert "took too long to close" in caplog.text


async def test_a_cleanup_at_a_yield_that_takes_too_long_is_cancelled() -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cut")
                raise

    response = EventSourceResponse(source(), cleanup_timeout=0.05, max_events=1)
    async with Connection(response) as client:
        await client.end()
    assert seen == ["cut"]
    assert response.ending is Ending.LIMIT
    assert client.complete


async def test_a_cleanup_that_swallows_cancellation_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "_BETWEEN_CUTS", 0.01)
    swallowed = 0

    async def source() -> AsyncIterator[int]:
        nonlocal swallowed
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    swallowed += 1

    counts: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse(source(), cleanup_timeout=0.02)(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())
        await asyncio.sleep(0.001)

    async with Connection(app) as client:
        await client.until(b"data: 1")
    assert swallowed == 3
    assert counts == [0]


async def test_what_a_source_raises_in_its_cleanup_is_logged_and_does_not_leave_the_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise LookupError("the key is under the mat")

    response = EventSourceResponse(source())
    async with Connection(response) as client:
        await client.until(b"data: 1")
    assert response.ending is Ending.DISCONNECTED
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert "the key is under the mat" in caplog.text


each_group = pytest.mark.parametrize("group", [asyncio.TaskGroup, anyio.create_task_group])


@each_group
@pytest.mark.usefixtures("quiet")
async def test_a_source_at_its_yield_inside_of_a_task_group_is_closed_there(group: Any) -> None:
    async def source() -> AsyncIterator[int]:
        async with group():
            while True:
                yield 1

    response = EventSourceResponse(source(), max_events=1)
    client = await fetch(response)
    assert client.body == b"data: 1\n\n"
    assert client.complete
    assert response.ending is Ending.LIMIT


@each_group
async def test_what_else_is_raised_in_such_a_task_group_is_logged(group: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def raise_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("the key is under the mat")

    async def source() -> AsyncIterator[int]:
        async with group() as tasks:
            getattr(tasks, "start_soon", lambda function: tasks.create_task(function()))(raise_at_the_end)
            await asyncio.sleep(0.001)
            while True:
                yield 1

    response = EventSourceResponse(source(), max_events=1)
    assert (await fetch(response)).complete
    assert response.ending is Ending.LIMIT
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert "the key is under the mat" in caplog.text


async def test_an_iterator_of_a_class_is_cancelled_and_closed_too() -> None:
    class Swell:
        def __init__(self) -> None:
            self.seen: list[str] = []
            self.first = True

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> int:
            if self.first:
                self.first = False
                return 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise
            raise StopAsyncIteration

        async def aclose(self) -> None:
            await asyncio.sleep(0)
            self.seen.append("closed")

    swell = Swell()
    async with Connection(EventSourceResponse(swell)) as client:
        await client.until(b"data: 1")
    assert swell.seen == ["cancelled", "closed"]


async def test_an_iterator_without_aclose_is_only_cancelled() -> None:
    class Swell:
        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> int:
            await asyncio.Event().wait()
            raise StopAsyncIteration

    response = EventSourceResponse(Swell(), start_delay=0)
    async with Connection(response) as client:
        await client.until(b":\n\n")
    assert response.ending is Ending.DISCONNECTED


async def test_a_source_that_ended_by_itself_is_not_cancelled() -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
        except BaseException as error:
            seen.append(repr(error))
            raise
        finally:
            seen.append("closed")

    response = EventSourceResponse(source())
    async with Connection(response) as client:
        await client.end()
    assert seen == ["closed"]
    assert response.ending is Ending.EXHAUSTED
