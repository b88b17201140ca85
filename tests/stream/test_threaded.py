"""Sync iterators, each on a thread of its own."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import anyio.to_thread
import pytest

from tests.asgi import PATIENCE, Connection, app_of, fetch
from tidings import EventSourceResponse
from tidings.sources import threaded
from tidings.stream import Ending

pytestmark = pytest.mark.anyio

cargo: contextvars.ContextVar[str] = contextvars.ContextVar("cargo", default="none")


class Small(EventSourceResponse):
    max_sync_streams = 2


class Blocker:
    """A sync source whose items a test lets out one by one, and all of them in the end."""

    def __init__(self) -> None:
        self._gate = threading.Semaphore(0)
        self._open = False
        self.closed = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> Iterator[int]:
        self.thread = threading.current_thread()
        try:
            for number in count():
                assert self._open or self._gate.acquire(timeout=PATIENCE)
                yield number
        finally:
            self.closed.set()

    def let_one_out(self) -> None:
        self._gate.release()

    def open(self) -> None:
        self._open = True
        self._gate.release()

    async def wait_until_closed(self) -> None:
        assert await asyncio.to_thread(self.closed.wait, PATIENCE)
        assert self.thread is not None
        await asyncio.to_thread(self.thread.join, PATIENCE)
        assert not self.thread.is_alive()


async def test_an_item_arrives_at_once_though_the_next_one_blocks() -> None:
    blocker = Blocker()
    async with Connection(EventSourceResponse(blocker())) as client:
        blocker.let_one_out()
        await client.until(b"data: 0\n\n")
        blocker.let_one_out()
        await client.until(b"data: 1\n\n")
        client.disconnect()
        blocker.open()
        await client.end()
    await blocker.wait_until_closed()


async def test_the_items_of_a_long_sync_generator_arrive_once_and_in_order() -> None:
    client = await fetch(EventSourceResponse(number for number in range(5000)))
    assert client.body == b"".join(b"data: %d\n\n" % number for number in range(5000))
    assert client.complete


async def test_a_sync_generator_runs_on_a_thread_that_is_not_the_loops() -> None:
    threads: list[threading.Thread] = []

    def source() -> Iterator[int]:
        try:
            threads.append(threading.current_thread())
            yield 1
            threads.append(threading.current_thread())
            yield 2
        finally:
            threads.append(threading.current_thread())

    await fetch(EventSourceResponse(source()))
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


async def test_a_thread_is_only_a_bounded_number_of_items_ahead() -> None:
    made = 0
    paused = threading.Event()

    def source() -> Iterator[int]:
        nonlocal made
        for made in range(10_000):
            if made == 200:
                paused.set()
            yield made

    async with Connection(EventSourceResponse(source())) as client:
        client.stop_reading()
        await client.until_blocked()
        assert await asyncio.to_thread(paused.wait, PATIENCE)
        await asyncio.sleep(0.05)  # it could run far ahead in this time
        assert made < 10_000
        assert made <= len(client.events) + 2 * threaded._AHEAD
        client.read_on()
        await client.end()
    assert client.body.endswith(b"data: 9999\n\n")


async def test_a_thread_that_waits_for_its_reader_is_closed_with_the_stream() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    response = EventSourceResponse(source())
    async with Connection(response) as client:
        client.stop_reading()
        await client.until_blocked()
        client.disconnect()
        await client.end()
        assert closed.is_set()
    assert response.ending is Ending.DISCONNECTED


async def test_context_variables_of_the_request_are_seen_in_the_thread() -> None:
    def source() -> Iterator[str]:
        yield cargo.get()
        cargo.set("changed in the thread")
        yield cargo.get()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cargo.set("tar")
        await EventSourceResponse(source())(scope, receive, send)
        assert cargo.get() == "tar"

    assert (await fetch(app)).body == b'data: "tar"\n\ndata: "changed in the thread"\n\n'


async def test_an_exception_of_a_sync_generator_is_raised_behind_its_items() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise LookupError("hold is empty")

    async with Connection(EventSourceResponse(source())) as client:
        with pytest.raises(LookupError, match="hold is empty"):
            await client.end()
    assert client.body == b"data: 1\n\n"
    assert not client.complete


async def test_a_sync_generator_is_closed_in_its_thread_at_the_item_where_it_is() -> None:
    seen: list[Any] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        except GeneratorExit:
            seen.append(threading.current_thread().name)
            raise

    response = EventSourceResponse(source(), max_events=1)
    client = await fetch(response)
    assert client.body == b"data: 1\n\n"
    assert client.complete
    assert seen == ["tidings-source"]
    assert response.ending is Ending.LIMIT


async def test_an_iterator_without_close_simply_stops() -> None:
    assert (await fetch(EventSourceResponse(iter(int, 1), max_events=2))).body == b"data: 0\n\ndata: 0\n\n"


async def test_a_blocked_thread_is_not_waited_for_beyond_cleanup_timeout(caplog: pytest.LogCaptureFixture) -> None:
    blocker = Blocker()
    response = EventSourceResponse(blocker(), cleanup_timeout=0.05)
    async with Connection(response) as client:
        blocker.let_one_out()
        await client.until(b"data: 0")
        client.disconnect()
        await client.end()
        assert not blocker.closed.is_set()
    assert response.ending is Ending.DISCONNECTED
    blocker.open()  # its next item ends the thread
    await blocker.wait_until_closed()


async def test_what_a_sync_generator_raises_in_its_finally_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise LookupError("rope is wet")

    await fetch(EventSourceResponse(source(), max_events=1))
    assert "rope is wet" in caplog.text


async def test_beyond_max_sync_streams_the_answer_is_503_until_a_slot_returns() -> None:
    blockers = [Blocker(), Blocker()]
    async with Connection(Small(blockers[0]())) as first, Connection(Small(blockers[1]())) as second:
        for blocker, client in zip(blockers, (first, second), strict=True):
            blocker.let_one_out()
            await client.until(b"data: 0")
        refused = await fetch(Small(iter([1])))
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "event-stream" not in refused.headers["content-type"]
        # Neither async streams nor lists need a slot.
        assert (await fetch(Small([1]))).status == 200
        first.disconnect()
        blockers[0].open()
        await first.end()
        await blockers[0].wait_until_closed()
        assert (await fetch(Small(iter([1])))).body == b"data: 1\n\n"
        blockers[1].open()
    await blockers[1].wait_until_closed()


async def test_slots_return_however_a_stream_ends() -> None:
    def fails() -> Iterator[int]:
        raise LookupError
        yield 1

    for _ in range(5):
        await fetch(Small(iter([1])))
        await fetch(Small(iter([1])), method="HEAD")
        await fetch(Small(iter([1, 2, 3]), max_events=1))
        async with Connection(Small(fails())) as client:
            with pytest.raises(LookupError):
                await client.end()
        async with Connection(Small(iter([object()]))) as client:
            with pytest.raises(ValueError, match="JSON"):
                await client.end()
    assert threaded._threads._count == 0


async def test_the_thread_of_a_blocked_stream_keeps_its_slot_until_it_ends() -> None:
    blocker = Blocker()
    async with Connection(Small(blocker(), cleanup_timeout=0.02)) as client:
        blocker.let_one_out()
        await client.until(b"data: 0")
    assert threaded._threads._count == 1
    blocker.open()
    await blocker.wait_until_closed()
    assert threaded._threads._count == 0


async def test_a_refused_sync_endpoint_is_a_503_on_fastapi_too() -> None:
    class One(EventSourceResponse):
        max_sync_streams = 1

    blocker = Blocker()

    def endpoint() -> Iterator[int]:
        yield from blocker()

    app = app_of(endpoint, response_class=One)
    async with Connection(app) as client:
        blocker.let_one_out()
        await client.until(b"data: 0")
        assert (await fetch(app)).status == 503
        client.disconnect()
        blocker.open()
        await client.end()
    await blocker.wait_until_closed()


async def test_idle_sync_streams_leave_the_pool_of_worker_threads_alone() -> None:
    limiter = anyio.to_thread.current_default_thread_limiter()
    before = limiter.total_tokens
    limiter.total_tokens = 1
    blockers = [Blocker() for _ in range(3)]
    clients = [Connection(EventSourceResponse(blocker())) for blocker in blockers]
    try:
        for client, blocker in zip(clients, blockers, strict=True):
            await client.__aenter__()
            blocker.let_one_out()
            await client.until(b"data: 0")
        async with asyncio.timeout(PATIENCE):
            assert await anyio.to_thread.run_sync(lambda: "free") == "free"
    finally:
        limiter.total_tokens = before
        for client, blocker in zip(clients, blockers, strict=True):
            blocker.open()
            await client.__aexit__(None)
            await blocker.wait_until_closed()


@pytest.mark.parametrize("lines", range(1, 5))
async def test_a_reader_that_leaves_while_the_thread_is_about_to_wake_it_is_woken(
    lines: int,
) -> None:
    """The thread is switched away from in front of a line, as the interpreter may do at any."""
    left, held, go = threading.Event(), threading.Event(), threading.Event()
    passed = 0

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal passed
        if frame.f_code is not threaded.ThreadedSource._notify.__code__:
            return None
        if event == "line" and left.is_set():
            passed += 1
            if passed == lines:
                held.set()
                go.wait(PATIENCE)
        return trace

    def items() -> Iterator[int]:
        yield 1
        left.wait(PATIENCE)
        yield 2

    source = threaded.ThreadedSource(items())
    before = threading.gettrace()
    threading.settrace(trace)
    try:
        assert await anext(source) == 1
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
    reading = asyncio.ensure_future(anext(source))
    await asyncio.sleep(0)
    left.set()
    assert await anyio.to_thread.run_sync(held.wait, PATIENCE)
    reading.cancel()
    await asyncio.wait([reading])
    closing = asyncio.ensure_future(source.aclose())
    await asyncio.sleep(0)
    go.set()
    done, _ = await asyncio.wait([closing], timeout=PATIENCE)
    assert done, "the thread has ended, and nobody was told"
