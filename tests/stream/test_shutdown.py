"""What signals do to streams, and what becomes of the handlers. Tests with real signals run loops of their own."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from tests.asgi import PATIENCE, Connection
from tidings import EventSourceResponse, shutting_down
from tidings.stream import Ending, pump
from tidings.stream.loop import LoopState

RETRY = re.compile(rb"retry: (\d+)\n\n")


class Idle:
    """A source that waits for ever, and notes how it ended."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            self.seen.append("closed")


Received = list[int]


@pytest.fixture
def received() -> Iterator[Received]:
    """What a handler of SIGTERM is called with that was there before, as a server's."""
    numbers: Received = []

    def handle(number: int, _frame: Any) -> None:
        numbers.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield numbers
    left = signal.signal(signal.SIGTERM, before)
    assert left is handle, "the handler was not put back"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await main()

    asyncio.run(bounded())


def send_signal(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_ends_every_stream_cleanly_behind_a_jittered_retry(received: Received) -> None:
    sources = [Idle() for _ in range(50)]
    responses = [EventSourceResponse(source()) for source in sources]

    async def main() -> None:
        clients = [Connection(response) for response in responses]
        for client in clients:
            await client.__aenter__()
            await client.until(b"data: 1")
        assert not shutting_down()
        send_signal()
        for client in clients:
            await client.end()
        assert shutting_down()
        retries = []
        for client in clients:
            assert client.complete
            found = re.fullmatch(rb"data: 1\n\nretry: (\d+)\n\n", client.body)
            assert found, client.body
            retries.append(int(found[1]))
        assert min(retries) >= 1_000
        assert max(retries) <= 10_000
        assert len(set(retries)) > 25

    run(main)
    assert received == [signal.SIGTERM]
    assert all(source.seen == ["cancelled", "closed"] for source in sources)
    assert all(response.ending is Ending.SHUTDOWN for response in responses)


def test_sigint_ends_streams_and_the_handler_before_is_called() -> None:
    numbers: Received = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: numbers.append(number))

    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            send_signal(signal.SIGINT)
            await client.end()
        assert client.complete

    try:
        run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert numbers == [signal.SIGINT]


def test_a_handler_of_the_event_loop_is_called_too() -> None:
    numbers: Received = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, lambda: (numbers.append(signal.SIGTERM), called.set()))
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            send_signal()
            await client.end()
            await called.wait()
        assert client.complete
        loop.remove_signal_handler(signal.SIGTERM)

    run(main)
    assert numbers == [signal.SIGTERM]


def test_a_stream_that_begins_after_the_signal_is_told_at_once(received: Received) -> None:
    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            send_signal()
            await client.end()
        response = EventSourceResponse(Idle()())
        async with Connection(response) as late:
            await late.end()
        assert late.status == 200
        assert late.complete
        assert RETRY.search(late.body)
        assert response.ending is Ending.SHUTDOWN

    run(main)


def test_a_source_that_never_awaits_ends_at_its_next_event(received: Received) -> None:
    async def restless() -> AsyncIterator[int]:
        while True:
            yield 7

    async def main() -> None:
        async with Connection(EventSourceResponse(restless())) as client:
            await client.until(b"data: 7")
            send_signal()
            await client.end()
        assert client.complete
        assert re.fullmatch(rb"(data: 7\n\n)+retry: \d+\n\n", client.body)

    run(main)


def test_a_signal_a_second_time_is_passed_on_too(received: Received) -> None:
    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            send_signal()
            send_signal()
            await client.end()
        send_signal()

    run(main)
    assert received == [signal.SIGTERM] * 3


def test_the_handlers_are_put_back_when_the_loop_closes(received: Received) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]

    run(main)
    assert {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} == before


def test_ctrl_c_works_in_the_next_asyncio_run_as_it_did_in_the_first() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    handlers = []

    async def main() -> None:
        handlers.append(signal.getsignal(signal.SIGINT))
        async with Connection(EventSourceResponse([1])) as client:
            await client.end()

    for _ in range(2):
        run(main)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # asyncio.run's own, which cancels the main task in place of raising KeyboardInterrupt anywhere.
    assert [handler is not signal.default_int_handler for handler in handlers] == [True, True]


def test_a_handler_that_others_install_later_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    later: list[int] = []

    def install_later(number: int, _frame: Any) -> None:
        later.append(number)

    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            signal.signal(signal.SIGTERM, install_later)
            async with Connection(EventSourceResponse([1])) as another:
                await another.end()
            assert signal.getsignal(signal.SIGTERM) is install_later
            send_signal()
            await asyncio.sleep(0)
            assert not client.task.done()

    try:
        run(main)
        assert signal.getsignal(signal.SIGTERM) is install_later
    finally:
        signal.signal(signal.SIGTERM, before)
    assert later == [signal.SIGTERM]


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_no_handler_goes_in_where_there_is_none_to_call(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, handler)

    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            assert signal.getsignal(signal.SIGTERM) is handler

    try:
        run(main)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_no_handler_goes_in_off_the_main_thread(received: Received) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run, args=(main,))
    thread.start()
    thread.join(2 * PATIENCE)
    assert seen == [before]


def test_a_second_loop_in_the_process_works_and_is_not_shutting_down(received: Received) -> None:
    async def first() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            send_signal()
            await client.end()
        assert shutting_down()

    async def second() -> None:
        assert not shutting_down()
        response = EventSourceResponse([1, 2])
        async with Connection(response) as client:
            await client.end()
        assert client.body == b"data: 1\n\ndata: 2\n\n"
        assert response.ending is Ending.EXHAUSTED
        assert not shutting_down()

    run(first)
    run(second)
    run(first)
    assert received == [signal.SIGTERM] * 2


def test_another_loop_in_another_thread_is_untouched_by_the_signal(received: Received) -> None:
    begun = threading.Event()
    ended = threading.Event()
    responses: list[EventSourceResponse] = []

    async def elsewhere() -> None:
        response = EventSourceResponse(Idle()())
        responses.append(response)
        async with Connection(response) as client:
            await client.until(b"data: 1")
            begun.set()
            assert await asyncio.to_thread(ended.wait, PATIENCE)
            assert not shutting_down()
            assert not client.task.done()

    async def main() -> None:
        async with Connection(EventSourceResponse(Idle()())) as client:
            await client.until(b"data: 1")
            send_signal()
            await client.end()

    thread = threading.Thread(target=run, args=(elsewhere,))
    thread.start()
    assert begun.wait(PATIENCE)
    run(main)
    ended.set()
    thread.join(PATIENCE)
    assert responses[0].ending is Ending.DISCONNECTED


# -- without signals --------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_source_can_ask_whether_the_streams_were_told_to_stop() -> None:
    answers: list[bool] = []

    async def source() -> AsyncIterator[int]:
        answers.append(shutting_down())
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            answers.append(shutting_down())

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"data: 1")
        LoopState.current().shutdown.begin()
        await client.end()
    assert answers == [False, True]


@pytest.mark.anyio
async def test_a_sync_source_can_ask_too_and_end_by_itself() -> None:
    asked = threading.Event()

    def source() -> Iterator[str]:
        yield "begun"
        while not shutting_down():
            asked.set()
        # What comes after the end was decided is not sent.

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"begun")
        assert await asyncio.to_thread(asked.wait, PATIENCE)
        LoopState.current().shutdown.begin()
        await client.end()
    assert client.complete
    assert RETRY.search(client.body)


@pytest.mark.anyio
async def test_a_client_that_does_not_read_holds_up_no_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_WRITE_SECONDS", 0.05)
    source = Idle()
    response = EventSourceResponse(source(), send_timeout=None)
    async with Connection(response) as client:
        client.stop_reading()
        await client.until_blocked()
        LoopState.current().shutdown.begin()
        await client.end()
    assert source.seen == ["cancelled", "closed"]
    assert response.ending is Ending.SHUTDOWN


@pytest.mark.anyio
@pytest.mark.parametrize("cleanup_timeout", [None, 3600])
async def test_a_slow_cleanup_holds_up_no_shutdown(
    cleanup_timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_SECONDS", 0.05)
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

    async with Connection(EventSourceResponse(source(), cleanup_timeout=cleanup_timeout)) as client:
        await client.until(b"data: 1")
        LoopState.current().shutdown.begin()
        await client.end()
    assert seen == ["cut"]
    assert client.complete


@pytest.mark.anyio
async def test_a_cleanup_that_is_under_way_when_the_shutdown_begins_is_shortened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_SECONDS", 0.05)
    cleaning = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.Event().wait()

    async with Connection(EventSourceResponse(source(), cleanup_timeout=3600)) as client:
        await client.until(b"data: 1")
        client.disconnect()
        await cleaning.wait()
        LoopState.current().shutdown.begin()
        await client.end()


@pytest.mark.anyio
async def test_items_that_were_collected_go_out_before_the_end() -> None:
    state = LoopState.current()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(0.001)
        yield "last"
        state.shutdown.begin()
        yield "beyond the boundary"

    async with Connection(EventSourceResponse(source())) as client:
        await client.end()
    head, retry = client.body.split(b"retry: ")
    assert head.startswith(b'data: "first"\n\ndata: "last"\n\n')
    assert retry.endswith(b"\n\n")
    assert client.complete


@pytest.mark.anyio
async def test_a_client_that_does_not_read_and_a_slow_cleanup_share_the_time_of_a_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_WRITE_SECONDS", 0.4)
    monkeypatch.setattr(pump, "_SHUTDOWN_SECONDS", 0.5)
    times: list[float] = []

    async def source() -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            times.append(loop.time())
            try:
                await asyncio.Event().wait()
            finally:
                times.append(loop.time())

    async with Connection(EventSourceResponse(source(), send_timeout=None)) as client:
        client.stop_reading()
        await client.until_blocked()
        LoopState.current().shutdown.begin()
        await client.end()
    # What the write left of it, and not the whole time once more.
    assert times[1] - times[0] < 0.3


@pytest.mark.anyio
async def test_what_follows_a_stream_is_not_cancelled_by_a_shutdown_during_its_last_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_SECONDS", 0.01)
    seen: list[str] = []

    async def follow() -> None:
        await asyncio.sleep(0.03)  # a cleanup's time would be over
        seen.append("followed")

    response = EventSourceResponse([1], send_timeout=None, background=BackgroundTask(follow))
    connection = Connection(response)
    connection.stop_reading()
    async with connection as client:
        await client.until_blocked()
        LoopState.current().shutdown.begin()
        client.read_on()
        await client.end()
    assert seen == ["followed"]
    assert client.complete


@pytest.mark.anyio
async def test_nothing_is_sent_behind_a_write_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_WRITE_SECONDS", 0.01)
    taken = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            taken.set()  # from now on the client takes everything

    response = EventSourceResponse(source(), send_timeout=None)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def wait_and_send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await taken.wait()
            await send(message)

        await response(scope, receive, wait_and_send)

    async with Connection(app) as client:
        await client.until(lambda: client.messages)
        LoopState.current().shutdown.begin()
        await client.end()
    assert client.body == b""  # and not what came after the event that is missing
    assert not client.complete
    assert response.ending is Ending.SHUTDOWN


@pytest.mark.anyio
async def test_a_stream_whose_last_write_is_given_up_ends_as_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_WRITE_SECONDS", 0.01)
    response = EventSourceResponse([1], send_timeout=None)
    connection = Connection(response)
    connection.stop_reading()
    async with connection as client:
        await client.until_blocked()
        LoopState.current().shutdown.begin()
        await client.end()
    assert not client.complete
    assert response.ending is Ending.SHUTDOWN


@pytest.mark.anyio
async def test_a_client_that_leaves_as_the_shutdown_begins_still_gets_a_response_before_the_first_item() -> None:
    async def pass_through(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        return await call_next(request)

    state = LoopState.current()
    waits = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        waits.set()
        await asyncio.Event().wait()
        yield 1

    response = EventSourceResponse(source(), start_delay=None)
    async with Connection(BaseHTTPMiddleware(response, dispatch=pass_through)) as client:
        await waits.wait()
        (stream,) = state.shutdown._streams
        assert isinstance(stream, pump.Pump)
        state.shutdown.begin()
        stream.client_left()
        await client.end()  # which raises what the middleware does that got none
    assert response.ending is Ending.SHUTDOWN
