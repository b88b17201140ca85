"""Cancel scopes inside of a source and around its request, also while the client doesn't read."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from starlette.middleware.base import BaseHTTPMiddleware

from tests.asgi import PATIENCE, Connection
from tidings import EventSourceResponse, ServerSentEvent, with_ids
from tidings.stream import Ending

pytestmark = pytest.mark.anyio


async def asyncio_timeout() -> AsyncIterator[str]:
    try:
        async with asyncio.timeout(0.02):
            yield "begun"
            await asyncio.Event().wait()
    except TimeoutError:
        yield "timed out"
    await asyncio.sleep(0.001)
    yield "went on"


async def anyio_fail_after() -> AsyncIterator[str]:
    try:
        with anyio.fail_after(0.02):
            yield "begun"
            await anyio.Event().wait()
    except TimeoutError:
        yield "timed out"
    await anyio.sleep(0.001)
    yield "went on"


async def anyio_move_on_after() -> AsyncIterator[str]:
    yield "begun"
    with anyio.move_on_after(0.02):
        await anyio.Event().wait()
    yield "timed out"
    await anyio.sleep(0.001)
    yield "went on"


async def asyncio_wait_for() -> AsyncIterator[str]:
    yield "begun"
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.02)
    except TimeoutError:
        yield "timed out"
    await asyncio.sleep(0.001)
    yield "went on"


async def task_of_a_group_that_fails() -> AsyncIterator[str]:
    async def fail() -> None:
        await asyncio.sleep(0.02)
        raise TimeoutError

    yield "begun"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.Event().wait()
    except* TimeoutError:
        pass
    yield "timed out"
    await asyncio.sleep(0.001)
    yield "went on"


async def task_of_an_anyio_group_that_cancels() -> AsyncIterator[str]:
    async def cancel(group: anyio.abc.TaskGroup) -> None:
        await anyio.sleep(0.02)
        group.cancel_scope.cancel()

    yield "begun"
    async with anyio.create_task_group() as group:
        group.start_soon(cancel, group)
        await anyio.Event().wait()
    yield "timed out"
    await anyio.sleep(0.001)
    yield "went on"


async def scopes_in_scopes() -> AsyncIterator[str]:
    yield "begun"
    try:
        async with asyncio.timeout(5), asyncio.timeout(0.02):
            with anyio.move_on_after(5):
                await anyio.Event().wait()
    except TimeoutError:
        yield "timed out"
    await asyncio.sleep(0.001)
    yield "went on"


SOURCES = [
    asyncio_timeout,
    anyio_fail_after,
    anyio_move_on_after,
    asyncio_wait_for,
    task_of_a_group_that_fails,
    task_of_an_anyio_group_that_cancels,
    scopes_in_scopes,
]

each_source = pytest.mark.parametrize("source", SOURCES)

Source = Callable[[], AsyncIterator[Any]]

WHOLE = b'data: "begun"\n\ndata: "timed out"\n\ndata: "went on"\n\n'


def checked(response: Any) -> Any:
    """The response as an application that checks that no cancellation is left behind."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await response(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0.001)

    return app


def behind_middleware(app: Any) -> Any:
    async def pass_through(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch=pass_through)


@each_source
async def test_a_scope_inside_of_a_source_cancels_what_the_source_awaits(source: Source) -> None:
    response = EventSourceResponse(source())
    async with Connection(checked(response)) as client:
        await client.end()
    assert client.body == WHOLE
    assert client.complete
    assert response.ending is Ending.EXHAUSTED


@each_source
async def test_a_scope_inside_of_a_source_works_while_the_client_does_not_read(source: Source) -> None:
    timed_out = asyncio.Event()

    async def noting() -> AsyncIterator[Any]:
        async for item in source():
            if item == "timed out":
                timed_out.set()
            yield item

    async with Connection(checked(EventSourceResponse(noting()))) as client:
        client.stop_reading()
        await client.until_blocked()
        await asyncio.sleep(0.05)  # the scope's time is over
        client.read_on()
        await client.end()
    assert timed_out.is_set()
    assert client.body == WHOLE
    assert client.complete


@each_source
async def test_a_scope_inside_of_a_source_works_behind_a_middleware(source: Source) -> None:
    async with Connection(behind_middleware(checked(EventSourceResponse(source())))) as client:
        await client.end()
    assert client.body == WHOLE
    assert client.complete


@each_source
async def test_a_scope_inside_of_a_source_works_behind_a_middleware_whose_client_does_not_read(source: Source) -> None:
    async with Connection(behind_middleware(checked(EventSourceResponse(source())))) as client:
        client.stop_reading()
        await client.until_blocked()
        await asyncio.sleep(0.05)
        client.read_on()
        await client.end()
    assert client.body == WHOLE
    assert client.complete


async def test_a_scope_that_cancels_again_while_a_write_goes_on_cancels_nothing_behind_it() -> None:
    scopes: list[anyio.CancelScope] = []

    async def source() -> AsyncIterator[str]:
        yield "begun"
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await anyio.Event().wait()
        yield "timed out"
        await anyio.sleep(0.03)  # the write, and what was cancelled in it, ends before
        yield "went on"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def slow_send(message: Any) -> None:
            if message.get("body") and scopes:
                scopes.pop().cancel()
                await asyncio.sleep(0)  # is cancelled, at a turn of the loop that no write can be left at
                await asyncio.sleep(0.01)  # and so is this, as the source is still in its scope
            await send(message)

        await EventSourceResponse(source())(scope, receive, slow_send)

    async with Connection(checked(app)) as client:
        await client.end()
    assert client.body == WHOLE
    assert client.complete


async def test_a_scope_around_gathered_coroutines_leaves_no_exception_that_nobody_retrieved() -> None:
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))

    async def source() -> AsyncIterator[str]:
        with anyio.move_on_after(0.01):
            await asyncio.gather(asyncio.sleep(10), asyncio.sleep(0))
        yield "went on"

    async with Connection(EventSourceResponse(source())) as client:
        await client.end()
    assert client.body == b'data: "went on"\n\n'
    gc.collect()
    assert problems == []


@each_source
async def test_a_client_that_leaves_while_a_scope_is_open(source: Source) -> None:
    async with Connection(checked(EventSourceResponse(source()))) as client:
        await client.until(b"begun")


@pytest.mark.parametrize("middleware", [lambda app: app, behind_middleware])
@pytest.mark.parametrize("scope", [lambda: asyncio.timeout(0.03), lambda: anyio.fail_after(0.03)])
async def test_a_timeout_of_a_source_that_never_awaits_cancels_it_at_its_yield(scope: Any, middleware: Any) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            opened = scope()
            if isinstance(opened, asyncio.Timeout):
                async with opened:
                    while True:
                        yield "more"
            with opened:
                while True:
                    yield "more"
        except TimeoutError:
            yield "enough"

    response = EventSourceResponse(source())
    async with Connection(middleware(checked(response))) as client:
        await client.end()
    assert client.body.endswith(b'data: "more"\n\ndata: "enough"\n\n')
    assert client.complete
    assert response.ending is Ending.EXHAUSTED


@pytest.mark.parametrize("middleware", [lambda app: app, behind_middleware])
async def test_a_timeout_of_a_source_at_its_yield_works_while_the_client_does_not_read(middleware: Any) -> None:
    async def source() -> AsyncIterator[ServerSentEvent]:
        with anyio.move_on_after(0.03):
            while True:
                yield ServerSentEvent(raw_data="x" * 10_000)
        yield ServerSentEvent(raw_data="enough")

    async with Connection(middleware(checked(EventSourceResponse(source())))) as client:
        client.stop_reading()
        await client.until_blocked()
        await asyncio.sleep(0.05)
        client.read_on()
        await client.end()
    assert client.body.endswith(b"data: enough\n\n")
    assert client.complete


async def test_a_timeout_of_a_source_at_its_yield_works_behind_its_numbering() -> None:
    async def source() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(0.03):
                while True:
                    yield "x" * 10_000
        except TimeoutError:
            yield "enough"

    response = EventSourceResponse(with_ids(source()))
    async with Connection(checked(response)) as client:
        client.stop_reading()
        await client.until_blocked()
        await asyncio.sleep(0.05)
        client.read_on()
        await client.end()
    assert client.events[-1].data == '"enough"'
    assert client.events[-1].id == str(len(client.events) - 1)
    assert client.complete
    assert response.ending is Ending.EXHAUSTED


# -- cancelled from outside -------------------------------------------------------------------------------------------


class Watched:
    """A source that notes what happens to it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.waiting = asyncio.Event()

    async def awaiting(self) -> AsyncIterator[int]:
        try:
            yield 1
            self.waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            self.seen.append("closed")

    async def awaiting_a_task(self) -> AsyncIterator[int]:
        try:
            yield 1
            self.waiting.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            self.seen.append("closed")

    async def restless(self) -> AsyncIterator[int]:
        try:
            while True:
                self.waiting.set()
                yield 1
        finally:
            await asyncio.sleep(0)
            self.seen.append("closed")


@pytest.mark.parametrize("name", ["awaiting", "awaiting_a_task", "restless"])
@pytest.mark.parametrize("reading", [True, False])
async def test_a_cancellation_from_outside_goes_up_after_the_source_is_closed(name: str, reading: bool) -> None:
    watched = Watched()
    response = EventSourceResponse(getattr(watched, name)(), send_timeout=None)
    async with Connection(response) as client:
        if not reading:
            client.stop_reading()
            await client.until_blocked()
        await client.until(lambda: client.messages)
        await watched.waiting.wait()
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
    assert watched.seen[-1] == "closed"
    assert watched.seen.count("closed") == 1
    assert response.ending is Ending.FAILED
    assert not client.complete


async def test_a_cancellation_from_outside_before_the_first_item_goes_up() -> None:
    begun = asyncio.Event()
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            seen.append("closed")

    async with Connection(EventSourceResponse(source(), start_delay=None)) as client:
        await begun.wait()
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
        assert client.messages == []
    assert seen == ["closed"]


@pytest.mark.parametrize("name", ["awaiting", "awaiting_a_task", "restless"])
async def test_a_timeout_around_the_request_ends_the_stream(name: str) -> None:
    watched = Watched()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.timeout(0.03):
            await EventSourceResponse(getattr(watched, name)())(scope, receive, send)

    async with Connection(app) as client:
        with pytest.raises(TimeoutError):
            await client.end()
    assert watched.seen[-1] == "closed"


@pytest.mark.parametrize("name", ["awaiting", "awaiting_a_task", "restless"])
@pytest.mark.parametrize("reading", [True, False])
async def test_a_scope_around_the_request_ends_the_stream(name: str, reading: bool) -> None:
    watched = Watched()
    scopes: list[anyio.CancelScope] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as cancel_scope:
            scopes.append(cancel_scope)
            await EventSourceResponse(getattr(watched, name)(), send_timeout=None)(scope, receive, send)
        assert cancel_scope.cancelled_caught

    async with Connection(app) as client:
        if not reading:
            client.stop_reading()
            await client.until_blocked()
        await client.until(lambda: client.messages)
        await watched.waiting.wait()
        scopes[0].cancel()
        await client.end()
    # The scope cancels again and again: a source that awaits in its cleanup has to shield that, as anywhere.
    assert watched.seen or name != "awaiting_a_task"


async def test_a_cancellation_from_outside_during_the_cleanup_reaches_it_and_goes_up() -> None:
    cleaning = asyncio.Event()
    seen: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled in the cleanup")
                raise

    async with Connection(EventSourceResponse(source(), cleanup_timeout=None)) as client:
        await client.until(b"data: 1")
        client.disconnect()
        async with asyncio.timeout(PATIENCE):
            await cleaning.wait()
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
    assert seen == ["cancelled in the cleanup"]


async def test_a_cancellation_from_outside_while_the_end_is_blocked_goes_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    response = EventSourceResponse([1, 2, 3], send_timeout=None)
    connection = Connection(response)
    connection.stop_reading()
    async with connection as client:
        await client.until_blocked()
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
    assert caplog.records == []


@pytest.mark.parametrize("reading", [True, False])
async def test_a_cancellation_from_outside_closes_a_sync_source_too(reading: bool) -> None:
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async with Connection(EventSourceResponse(source(), send_timeout=None)) as client:
        if not reading:
            client.stop_reading()
            await client.until_blocked()
        await client.until(lambda: client.messages)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
    assert closed == [True]


async def test_a_source_that_swallows_a_cancellation_from_outside_goes_on() -> None:
    waiting = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "begun"
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "never mind"
        await asyncio.sleep(0.001)
        yield "done"

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"begun")
        await waiting.wait()
        client.task.cancel()
        await client.end()
    assert client.body == b'data: "begun"\n\ndata: "never mind"\n\ndata: "done"\n\n'
    assert client.complete


async def test_a_scope_that_no_send_gets_through_lets_other_tasks_run() -> None:
    turns = 0

    async def source() -> AsyncIterator[str]:
        nonlocal turns
        with anyio.CancelScope() as scope:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                begin = turns
                while turns < begin + 3:
                    yield "inside"
                    await anyio.sleep(0.001)
            yield "refused"
        yield "outside"

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    async with Connection(behind_middleware(EventSourceResponse(source()))) as client:
        await client.end()
    counter.cancel()
    assert client.body.endswith(b'data: "refused"\n\ndata: "outside"\n\n')
