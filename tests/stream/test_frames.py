"""Streams of frames: what is new is written from where it was published, and nobody can tell the difference."""

import asyncio
import gc
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from tests.asgi import PATIENCE, Connection, fetch
from tidings import Broker, EventSourceResponse, Subscription
from tidings.broker.memory import MemoryStorage
from tidings.errors import BrokerClosed, StorageError
from tidings.stream import Ending, pump
from tidings.stream.loop import LoopState
from tidings.wire.frames import Frames, FrameSource, Listener

pytestmark = pytest.mark.anyio

COMMENT = b":\n\n"


class Tap(FrameSource):
    """A source that gives what is poured into it.

    Attributes:
        taken: what was taken from a call, and not fetched.
        closed: how often it was closed.
    """

    def __init__(self, *blocks: bytes, opens: bool = True) -> None:
        self.taken: list[bytes] = []
        self.closed = 0
        self.opened = 0
        self.position = b""
        self.error: Exception | None = None
        self._opens = opens
        self._over = False
        self._blocks = deque(blocks)
        self._asked = False  # nothing was there when it was
        self._listener: Listener | None = None

    # -- what a test does ---------------------------------------------------------------------------------------------

    def pour(self, *blocks: bytes) -> None:
        """Have more; who asked for it is called at the event loop's next turn."""
        self._blocks.extend(blocks)
        asyncio.get_running_loop().call_soon(self._call)

    def pour_now(self, *blocks: bytes) -> None:
        """The same, from a callback of the event loop."""
        self._blocks.extend(blocks)
        self._call()

    def stop(self) -> None:
        """Have nothing more."""
        self._over = True
        asyncio.get_running_loop().call_soon(self._call)

    @property
    def waiting(self) -> list[bytes]:
        """What nobody has taken or fetched yet."""
        return list(self._blocks)

    def _call(self) -> None:
        if not self._asked or self._listener is None:
            return
        if not self._blocks:
            self._asked = False
            self._listener.on_news(None)
            return
        frames = Frames(b"".join(self._blocks), len(self._blocks))
        if self._listener.on_news(frames):
            self.taken.append(frames.frame)
            self._blocks.clear()
        else:
            self._asked = False

    # -- what a response asks -----------------------------------------------------------------------------------------

    async def open(self) -> bool:
        self.opened += 1
        return self._opens

    @property
    def ended(self) -> bool:
        return self._over and not self._blocks

    async def ready_frames(self) -> Frames | None:
        if self._blocks:
            return Frames(self._blocks.popleft())
        if self.error is not None:
            raise self.error
        self._asked = True
        return None

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    def position_frame(self) -> bytes:
        position, self.position = self.position, b""
        return position

    async def aclose(self) -> None:
        self.closed += 1

    async def __anext__(self) -> Any:
        raise NotImplementedError


def block(data: object) -> bytes:
    return b"data: %a\n\n" % data


def data_of(client: Connection) -> list[str]:
    return [event.data for event in client.events]


async def parked(client: Connection) -> None:
    """Until the stream waits for what is new: its head and first comment are out."""
    await client.until(COMMENT)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as broker:
        yield broker


Wrap = Callable[[Any], Any]


def sending_with(app: Any, send_around: Callable[[Any, dict[str, Any]], Awaitable[None]]) -> Any:
    """The application behind a middleware that has its own `send`."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def around(message: dict[str, Any]) -> None:
            await send_around(send, message)

        await app(scope, receive, around)

    return wrapped


# -- writing from the publisher's turn --------------------------------------------------------------------------------


async def test_what_was_there_before_comes_first_and_what_is_new_is_written_at_once() -> None:
    tap = Tap(block(1), block(2))
    async with Connection(EventSourceResponse(tap)) as client:
        await client.until(block(2))
        for number in range(3, 8):
            tap.pour(block(number))
            await client.until(block(number))
    assert data_of(client) == [str(number) for number in range(1, 8)]
    assert tap.taken == [block(number) for number in range(3, 8)]
    assert COMMENT not in client.body
    assert tap.closed


variable: ContextVar[str] = ContextVar("variable", default="the loop's")


async def test_a_send_is_called_in_the_streams_task_and_context() -> None:
    tap = Tap()
    seen: list[tuple[Any, str, bytes]] = []

    async def note(send: Any, message: dict[str, Any]) -> None:
        seen.append((asyncio.current_task(), variable.get(), message.get("body", b"")))
        await send(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        variable.set("the request's")
        await EventSourceResponse(tap)(scope, receive, send)

    async with Connection(sending_with(app, note)) as client:
        await parked(client)
        tap.pour(block(1))
        await client.until(block(1))
        assert asyncio.current_task() is not client.task
        assert variable.get() == "the loop's"
    assert tap.taken == [block(1)]
    assert [body for _, _, body in seen] == [b"", COMMENT, block(1)]
    assert {(task, value) for task, value, _ in seen} == {(client.task, "the request's")}


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_send_may_reset_the_variables_that_it_sets(blocks: bool) -> None:
    tap = Tap()
    seen: list[str] = []

    async def within(send: Any, message: dict[str, Any]) -> None:
        token = variable.set("while sending")
        try:
            await send(message)
            seen.append(variable.get())
        finally:
            variable.reset(token)

    async with Connection(sending_with(EventSourceResponse(tap), within)) as client:
        await parked(client)
        if blocks:
            client.stop_reading()
        tap.pour(block(1))
        await client.until(block(1))
        client.read_on()
        tap.pour(block(2))
        await client.until(block(2))
    assert data_of(client) == ["1", "2"]
    assert set(seen) == {"while sending"}


async def test_a_write_that_blocks_is_seen_to_its_end_by_the_streams_task() -> None:
    tap = Tap()
    async with Connection(EventSourceResponse(tap)) as client:
        await parked(client)
        client.stop_reading()
        tap.pour(block(1))
        await client.until_blocked()
        for number in range(2, 6):
            tap.pour(block(number))
            await asyncio.sleep(0)
        assert data_of(client) == ["1"]  # one at a time
        client.read_on()
        await client.until(block(5))
        tap.pour(block(6))
        await client.until(block(6))
    assert data_of(client) == ["1", "2", "3", "4", "5", "6"]
    assert tap.taken == [block(1), block(6)]


async def test_news_while_the_task_writes_are_not_lost() -> None:
    tap = Tap(block(1))

    async def blocking(send: Any, message: dict[str, Any]) -> None:
        await send(message)
        if message.get("body") == block(1):
            await held.wait()

    held = asyncio.Event()
    async with Connection(sending_with(EventSourceResponse(tap), blocking)) as client:
        await client.until(block(1))
        tap.pour(block(2))
        tap.pour(block(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        held.set()
        await client.until(block(3))
        tap.pour(block(4))
        await client.until(block(4))
    assert data_of(client) == ["1", "2", "3", "4"]


async def test_a_send_is_not_begun_before_the_task_has_seen_the_last_one_to_its_end() -> None:
    tap = Tap()
    under_way = 0

    async def slow(send: Any, message: dict[str, Any]) -> None:
        nonlocal under_way
        assert under_way == 0
        under_way += 1
        await asyncio.sleep(0)
        await send(message)
        under_way -= 1

    async with Connection(sending_with(EventSourceResponse(tap), slow)) as client:
        await parked(client)
        for number in range(1, 4):  # all in one turn
            asyncio.get_running_loop().call_soon(tap.pour_now, block(number))
        await client.until(block(3))
    assert data_of(client) == ["1", "2", "3"]
    assert tap.taken == [block(1)]


async def test_nothing_more_is_taken_from_the_source_while_the_client_does_not_take_what_was_written() -> None:
    tap = Tap()
    under_way, held = asyncio.Event(), asyncio.Event()

    async def stalling(send: Any, message: dict[str, Any]) -> None:
        if message.get("body") == block(1):
            under_way.set()
            await held.wait()
        await send(message)

    async with Connection(sending_with(EventSourceResponse(tap), stalling)) as client:
        await parked(client)
        loop = asyncio.get_running_loop()
        loop.call_soon(tap.pour_now, block(1))
        loop.call_soon(tap.pour_now, block(2))  # in the same turn: before the task is awake
        await under_way.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert tap.waiting == [block(2)]
        held.set()
        await client.until(block(2))
    assert data_of(client) == ["1", "2"]


async def test_what_is_ready_goes_out_in_batches_with_others_served_in_between() -> None:
    tap = Tap(*(block("x" * 1_000) for _ in range(2_000)), block("the last"))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    async with Connection(EventSourceResponse(tap)) as client:
        await client.until(block("the last"))
    other.cancel()
    assert max(map(len, client.chunks)) < 65_536 + 2_000
    assert turns >= 2_000_000 // 67_000
    assert len(client.events) == 2_001


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_send_that_gives_way_keeps_the_order(turns: int) -> None:
    tap = Tap()
    under_way = 0

    async def polite(send: Any, message: dict[str, Any]) -> None:
        nonlocal under_way
        assert under_way == 0
        under_way += 1
        for _ in range(turns):
            await asyncio.sleep(0)
        await send(message)
        for _ in range(turns):
            await asyncio.sleep(0)
        under_way -= 1

    async with Connection(sending_with(EventSourceResponse(tap), polite)) as client:
        await parked(client)
        for number in range(200):
            tap.pour(block(number))
            for _ in range(number % 7):
                await asyncio.sleep(0)
        await client.until(block(199))
    assert data_of(client) == [str(number) for number in range(200)]


@pytest.mark.parametrize("error", [OSError("gone"), BrokenPipeError()])
@pytest.mark.parametrize("midway", [False, True])
async def test_a_send_that_raises_os_error_is_a_client_that_left(
    error: OSError, midway: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tap = Tap()
    response = EventSourceResponse(tap)

    async def breaking(send: Any, message: dict[str, Any]) -> None:
        if message.get("body") == block(1):
            if midway:
                await asyncio.sleep(0)
            raise error
        await send(message)

    async with Connection(sending_with(response, breaking)) as client:
        await parked(client)
        tap.pour(block(1))
        await client.end()
    assert response.ending is Ending.DISCONNECTED
    assert tap.closed
    assert not client.complete
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("when", ["at once", "midway", "before it is awaited"])
async def test_a_send_that_raises_anything_else_is_an_error_of_the_response(when: str) -> None:
    tap = Tap()
    response = EventSourceResponse(tap)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def sometimes(message: dict[str, Any]) -> None:
            if message.get("body") == block(1):
                if when == "midway":
                    await asyncio.sleep(0)
                raise RuntimeError("protocol violated")
            await send(message)

        def plain(message: dict[str, Any]) -> Awaitable[None]:
            if message.get("body") == block(1):
                raise RuntimeError("protocol violated")
            return send(message)

        await response(scope, receive, plain if when == "before it is awaited" else sometimes)

    async with Connection(app) as client:
        await parked(client)
        tap.pour(block(1))
        with pytest.raises(RuntimeError, match="protocol violated"):
            await client.end()
    assert response.ending is Ending.FAILED
    assert tap.closed
    assert not client.complete


async def test_one_whose_send_raises_hurts_no_other(broker: Broker) -> None:
    async with Connection(EventSourceResponse(broker.subscribe("news"))) as fine:
        clients = [fine]
        broken = []
        for number in range(40):
            client = Connection(EventSourceResponse(broker.subscribe("news")))
            (broken if number % 2 else clients).append(client)
            await client.__aenter__()
            await parked(client)
        await parked(fine)
        for number, client in enumerate(broken):
            client.break_send([OSError(), RuntimeError("broken"), asyncio.CancelledError()][number % 3])
        for number in range(3):
            await broker.publish("news", number)
        for client in clients:
            await client.until(b"data: 2\n")
            assert data_of(client) == ["0", "1", "2"]
        for number, client in enumerate(broken):
            await asyncio.wait([client.task], timeout=PATIENCE)
            assert client.task.done()
            assert client.task.cancelled() is (number % 3 == 2)
            if number % 3 != 2:
                error = client.task.exception()
                assert isinstance(error, RuntimeError) if number % 3 else error is None
        for client in clients[1:]:
            await client.__aexit__(None)
    assert not broker._open.log._views


# -- middlewares ------------------------------------------------------------------------------------------------------


async def pass_through(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    return await call_next(request)


async def add_nothing(send: Any, message: dict[str, Any]) -> None:
    await send(message)


MIDDLEWARES: dict[str, Wrap] = {
    "none": lambda app: app,
    "pure": lambda app: sending_with(sending_with(app, add_nothing), add_nothing),
    "BaseHTTPMiddleware": lambda app: BaseHTTPMiddleware(app, dispatch=pass_through),
    "two of them": lambda app: BaseHTTPMiddleware(
        BaseHTTPMiddleware(app, dispatch=pass_through), dispatch=pass_through
    ),
}


@pytest.mark.parametrize("wrap", MIDDLEWARES.values(), ids=MIDDLEWARES)
@pytest.mark.parametrize("options", [{}, {"max_events": 1_000_000}], ids=["frames", "one by one"])
@pytest.mark.parametrize("where", [None, lambda _event: True], ids=["all", "filtered"])
async def test_a_client_that_reads_now_and_then_gets_everything_once_and_in_order(
    broker: Broker, wrap: Wrap, options: Any, where: Any
) -> None:
    dice = random.Random(7)
    first = [await broker.publish("news", number) for number in range(20)]
    subscription = broker.subscribe("news", last_event_id=first[0], where=where)
    async with Connection(wrap(EventSourceResponse(subscription, **options))) as client:
        for number in range(20, 1_000):
            await broker.publish("news", number, raw_data=None)
            match dice.randrange(12):
                case 0:
                    client.stop_reading()
                case 1 | 2:
                    client.read_on()
                case 3 | 4:
                    for _ in range(dice.randrange(40)):
                        await asyncio.sleep(0)
        client.read_on()
        await client.until(b"data: 999\n")
        assert data_of(client) == [str(number) for number in range(1, 1_000)]
    assert not broker._open.log._views


@pytest.mark.parametrize("size", [100, 5_000, 30_000, 70_000])
async def test_a_burst_of_large_events_arrives_whole(broker: Broker, size: int) -> None:
    async with Connection(EventSourceResponse(broker.subscribe("news"))) as client:
        await parked(client)
        for number in range(15):
            await broker.publish("news", f"{number} {'x' * size}")
        await client.until(b'"14 x')
        assert [event.json().split()[0] for event in client.events] == [str(number) for number in range(15)]


# -- a client that leaves, stalls, or is cancelled --------------------------------------------------------------------


@pytest.mark.parametrize("wrap", MIDDLEWARES.values(), ids=MIDDLEWARES)
async def test_a_client_that_leaves_while_a_write_blocks(wrap: Wrap) -> None:
    tap = Tap()
    response = EventSourceResponse(tap)
    async with Connection(wrap(response)) as client:
        await parked(client)
        client.stop_reading()
        tap.pour(block(1))
        await client.until_blocked()
        tap.pour(block(2))
        client.read_on()
        client.disconnect()
        await client.end()
    assert response.ending is Ending.DISCONNECTED
    assert tap.closed


async def test_a_client_that_leaves_while_a_write_blocks_for_ever() -> None:
    tap = Tap()
    response = EventSourceResponse(tap, send_timeout=None)
    async with Connection(response) as client:
        await parked(client)
        client.stop_reading()
        tap.pour(block(1))
        await client.until_blocked()
        client.disconnect()
        await client.end()
        assert not client.blocked
    assert response.ending is Ending.DISCONNECTED
    assert tap.closed


async def test_a_client_that_takes_nothing_is_dropped_after_send_timeout() -> None:
    tap = Tap()
    response = EventSourceResponse(tap, send_timeout=0.05, ping_interval=0.01)
    async with Connection(response) as client:
        await parked(client)
        client.stop_reading()
        tap.pour(block(1))
        await client.end()
    assert response.ending is Ending.TIMED_OUT
    assert client.chunks[-1] == block(1)  # and no ping behind it
    assert not client.complete
    assert tap.closed


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_scope_around_the_application_cancels_it(blocks: bool) -> None:
    tap = Tap()
    response = EventSourceResponse(tap, send_timeout=None)
    times_up = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await response(scope, receive, send)
        except TimeoutError:
            times_up.set()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    timeouts: list[asyncio.Timeout] = []
    async with Connection(app) as client:
        await parked(client)
        if blocks:
            client.stop_reading()
            tap.pour(block(1))
            await client.until_blocked()
        timeouts[0].reschedule(asyncio.get_running_loop().time())
        await client.end()
        assert not client.blocked
    assert times_up.is_set()
    assert response.ending is Ending.FAILED
    assert tap.closed
    assert not client.complete


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancellation_beside_news(broker: Broker, turns: int) -> None:
    async with Connection(EventSourceResponse(broker.subscribe("news"))) as other:
        client = Connection(EventSourceResponse(broker.subscribe("news")))
        await client.__aenter__()
        await parked(client)
        await parked(other)
        client.stop_reading()
        await broker.publish("news", 1)
        for _ in range(turns):
            await asyncio.sleep(0)
        client.task.cancel()
        await asyncio.wait([client.task], timeout=PATIENCE)
        assert client.task.cancelled()
        assert not client.blocked
        assert data_of(client) in ([], ["1"])
        await other.until(b"data: 1\n")
        await broker.publish("news", 2)
        await other.until(b"data: 2\n")
    assert not broker._open.log._views


async def test_news_while_a_write_goes_on_that_was_cancelled_at_a_turn_of_the_loop() -> None:
    tap = Tap(block(1))
    flows = asyncio.Event()

    async def send_around(send: Any, message: dict[str, Any]) -> None:
        if message.get("body") == block(2):
            await asyncio.sleep(0)
            client.task.cancel()
            await asyncio.sleep(0)
            await send(message)
            await flows.wait()
        else:
            await send(message)

    async with Connection(sending_with(EventSourceResponse(tap), send_around)) as client:
        await client.until(block(1))
        tap.pour(block(2))
        await client.until(block(2))
        tap.pour_now(block(3))
        await asyncio.sleep(0)
        flows.set()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
    assert tap.closed == 1


# -- shutdown ---------------------------------------------------------------------------------------------------------


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On a loop of its own: a shutdown is for good."""

    async def bounded() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await main()

    asyncio.run(bounded())


def test_a_shutdown_ends_who_waits_cleanly_with_its_position() -> None:
    async def main() -> None:
        async with Broker() as broker:
            await broker.publish("news", 1)
            response = EventSourceResponse(broker.subscribe("news"))
            async with Connection(response) as client:
                await parked(client)
                LoopState.current().shutdown.begin()
                await client.end()
            assert response.ending is Ending.SHUTDOWN
            assert client.complete
            assert client.body.startswith(COMMENT + b"id: ")
            assert b"-1\n\nretry: " in client.body

    run(main)


def test_a_shutdown_waits_a_little_for_a_write_that_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "_SHUTDOWN_WRITE_SECONDS", 0.05)

    async def main(*, reads_on: bool) -> None:
        tap = Tap()
        response = EventSourceResponse(tap, send_timeout=None)
        async with Connection(response) as client:
            await parked(client)
            client.stop_reading()
            tap.pour(block(1))
            await client.until_blocked()
            tap.pour(block(2))
            LoopState.current().shutdown.begin()
            if reads_on:
                client.read_on()
            await client.end()
        assert response.ending is Ending.SHUTDOWN
        assert tap.closed
        assert client.body.startswith(COMMENT + block(1))
        assert client.body.count(block(1)) == 1
        assert b"retry: " in client.body or not reads_on

    run(lambda: main(reads_on=True))
    run(lambda: main(reads_on=False))


def test_a_client_that_comes_with_a_lost_id_to_a_server_that_stops_is_given_no_other_id() -> None:
    # It would resume from there, and never learn that it has missed something.
    async def main() -> None:
        async with Broker() as broker:
            await broker.publish("news", 1)
            async with Connection(EventSourceResponse(broker.subscribe("news"))) as client:
                await parked(client)
                LoopState.current().shutdown.begin()
                await client.end()
            for where in (None, lambda _event: True):
                subscription = broker.subscribe("news", last_event_id="lost-7", where=where)
                late = await fetch(EventSourceResponse(subscription))
                assert b"id: " not in late.body

    run(main)


# -- limits, pings, options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 2, 5])
async def test_max_events_counts_events_of_a_subscription_one_by_one(broker: Broker, before: int) -> None:
    start = await broker.publish("news", "start")
    for number in range(before):
        await broker.publish("news", number)
    response = EventSourceResponse(broker.subscribe("news", last_event_id=start), max_events=3)
    async with Connection(response) as client:
        await client.until(lambda: client.messages)
        for number in range(before, 5):
            await broker.publish("news", number)
        await client.end()
    assert data_of(client) == ["0", "1", "2"]
    assert client.complete
    assert response.ending is Ending.LIMIT
    assert client.events[-1].id.endswith("-4")


async def test_max_duration_ends_a_subscription_with_its_position(broker: Broker) -> None:
    await broker.publish("news", 1)
    response = EventSourceResponse(broker.subscribe("news"), max_duration=0.05)
    client = await fetch(response)
    assert response.ending is Ending.LIMIT
    assert client.complete
    assert client.body.startswith(COMMENT + b"id: ")
    assert client.body.endswith(b"-1\n\n")


async def test_max_duration_waits_for_a_write_that_blocks() -> None:
    tap = Tap()
    response = EventSourceResponse(tap, max_duration=0.05)
    async with Connection(response) as client:
        await parked(client)
        client.stop_reading()
        tap.pour(block(1))
        await client.until_blocked()
        await asyncio.sleep(0.1)
        assert not client.task.done()
        client.read_on()
        await client.end()
    assert response.ending is Ending.LIMIT
    assert client.complete
    assert client.body == COMMENT + block(1)


async def test_the_first_ping_tells_the_position_and_the_second_does_not() -> None:
    tap = Tap()
    tap.position = b"id: 7\n\n"
    async with Connection(EventSourceResponse(tap, ping_interval=0.06)) as client:
        await client.until(b": ping\n\n: ping\n\n")
    assert client.body.startswith(COMMENT + b": ping\n\nid: 7\n\n: ping\n\n")


async def test_news_put_a_ping_off() -> None:
    tap = Tap()
    async with Connection(EventSourceResponse(tap, ping_interval=0.3)) as client:
        await parked(client)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.9
        number = 0
        while loop.time() < end:
            number += 1
            tap.pour(block(number))
            await asyncio.sleep(0.01)
        assert b"ping" not in client.body
        await client.until(b": ping\n\n")
        assert len(tap.taken) > 10
    assert client.times[-1] - client.times[-2] >= 0.29


async def test_a_ping_between_news_breaks_no_order(broker: Broker) -> None:
    dice = random.Random(3)
    async with Connection(EventSourceResponse(broker.subscribe("news"), ping_interval=0.001)) as client:
        await parked(client)
        for number in range(100):
            await broker.publish("news", number)
            if number % 20 == 0:
                pings = client.body.count(b": ping")
                await client.until(lambda pings=pings: client.body.count(b": ping") > pings)
            if number % 10 == 3:
                client.stop_reading()
            if number % 10 == 7:
                client.read_on()
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
        await client.until(b"data: 99\n")
    assert data_of(client) == [str(number) for number in range(100)]


async def test_a_write_that_blocked_is_no_silence() -> None:
    tap = Tap()
    async with Connection(EventSourceResponse(tap, ping_interval=0.1)) as client:
        await parked(client)
        client.stop_reading()
        tap.pour(block(1))
        await client.until_blocked()
        await asyncio.sleep(0.25)
        client.read_on()
        released = asyncio.get_running_loop().time()
        await client.until(b": ping\n\n")
    assert client.times[-1] - released >= 0.09


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (lambda _client, tap: tap.stop(), True),
        (lambda client, _tap: client.disconnect(), False),
        (lambda client, tap: (client.break_send(OSError()), tap.pour(block(2))), False),
    ],
    ids=["exhausted", "disconnected", "broken"],
)
async def test_the_position_is_told_at_an_orderly_end_alone(finish: Any, expected: bool) -> None:
    tap = Tap(block(1))
    async with Connection(EventSourceResponse(tap)) as client:
        await client.until(block(1))
        tap.position = b"id: 7\n\n"
        finish(client, tap)
        await client.end()
    assert (b"id: 7" in client.body) is expected
    assert (tap.position == b"") is expected
    assert client.complete is expected


async def test_no_position_is_told_where_the_source_fails() -> None:
    tap = Tap(block(1))
    tap.position = b"id: 7\n\n"
    tap.error = LookupError("lost")
    async with Connection(EventSourceResponse(tap)) as client:
        with pytest.raises(LookupError, match="lost"):
            await client.end()
    assert client.body == block(1)
    assert not client.complete
    assert tap.closed


async def test_the_position_is_told_before_the_end_of_a_filtered_stream(broker: Broker) -> None:
    subscription = broker.subscribe("news", where=lambda event: event.data % 2 == 0)
    async with Connection(EventSourceResponse(subscription)) as client:
        await parked(client)
        for number in range(4):
            await broker.publish("news", number)
        await broker.finish("news")
        await client.end()
    assert data_of(client) == ["0", "2"]
    assert client.body.endswith(b"-4\n\n")  # the last event's; the channel's end has a place, too, and no event its id
    assert client.body.count(b"id: ") == 3
    assert client.complete


async def test_retry_comes_first_and_no_comment_then() -> None:
    tap = Tap()
    async with Connection(EventSourceResponse(tap, retry=3_000)) as client:
        await client.until(b"retry: 3000\n\n")
        tap.pour(block(1))
        await client.until(block(1))
    assert client.body == b"retry: 3000\n\n" + block(1)
    async with Connection(EventSourceResponse(Tap(block(1)), retry=3_000)) as client:
        await client.until(block(1))
    assert client.chunks == [b"retry: 3000\n\n" + block(1)]


# -- what isn't streamed ----------------------------------------------------------------------------------------------


async def test_head_gets_the_headers_and_leaves_nothing_open(broker: Broker) -> None:
    tap = Tap(block(1))
    client = await fetch(EventSourceResponse(tap), method="HEAD")
    assert client.headers["content-type"].startswith("text/event-stream")
    assert client.body == b""
    assert client.complete
    assert (tap.opened, tap.closed) == (1, 1)
    client = await fetch(EventSourceResponse(broker.subscribe("news")), method="HEAD")
    assert client.status == 200
    assert not broker._open.log._views


async def test_a_second_response_does_not_end_the_stream_of_the_first(broker: Broker) -> None:
    subscription = broker.subscribe("news")
    async with Connection(EventSourceResponse(subscription), "/") as first:
        await first.until(lambda: first.body)
        with pytest.raises(RuntimeError, match="used once"):
            await fetch(EventSourceResponse(subscription))
        await broker.publish("news", "still there")
        await first.until(lambda: b"still there" in first.body)


async def test_a_source_that_has_nothing_and_never_will_is_no_content() -> None:
    tap = Tap(opens=False)
    notes: list[str] = []
    response = EventSourceResponse(tap, headers={"x-lamp": "lit"}, background=BackgroundTask(notes.append, "done"))
    client = await fetch(response)
    assert client.status == 204
    assert "content-type" not in client.headers
    assert "content-length" not in client.headers
    assert client.headers["x-lamp"] == "lit"
    assert client.body == b""
    assert client.complete
    assert response.ending is Ending.EXHAUSTED
    assert notes == ["done"]


async def test_a_finished_channel_is_no_content_in_an_application(broker: Broker) -> None:
    app = FastAPI()

    @app.get("/")
    async def subscribe() -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("news"), headers={"x-lamp": "lit"})

    await broker.publish("news", 1)
    await broker.finish("news")
    client = await fetch(app)
    assert (client.status, client.headers["x-lamp"]) == (204, "lit")
    assert "content-type" not in client.headers
    await broker.publish("news", 2)
    async with Connection(app) as client:
        await parked(client)
        assert client.status == 200


@pytest.mark.parametrize("framework", [False, True])
@pytest.mark.parametrize("error", [StorageError("the disk is gone"), TimeoutError()])
async def test_a_storage_that_cannot_be_read_is_unavailable(
    broker: Broker, framework: bool, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(MemoryStorage, "read", fail)
    response = EventSourceResponse(broker.subscribe("news"))
    app: Any = response
    if framework:
        app = FastAPI()
        app.add_api_route("/", lambda: response, methods=["GET"], response_model=None)
    client = await fetch(app)
    assert client.status == 503
    assert client.headers["retry-after"] == "5"
    assert b"disk" not in client.body
    assert response.ending is Ending.FAILED
    assert not broker._open.log._views


async def test_a_storage_that_takes_too_long_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryStorage, "read", hang)
    async with Broker(publish_timeout=0.02) as broker:
        client = await fetch(EventSourceResponse(broker.subscribe("news")))
        assert client.status == 503
        assert not broker._open.log._views


async def test_a_storage_that_fails_later_ends_the_stream_behind_what_it_gave(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise StorageError("the disk is gone")

    response = EventSourceResponse(broker.subscribe("news"))
    async with Connection(response) as client:
        await parked(client)
        await broker.publish("news", 1)
        await client.until(b"data: 1\n")
        monkeypatch.setattr(MemoryStorage, "read", fail)
        broker._open.log.skip(100)
        with pytest.raises(StorageError):
            await client.end()
    assert data_of(client) == ["1"]
    assert not client.complete


async def test_a_broker_that_is_not_open_is_an_error() -> None:
    async with Connection(EventSourceResponse(Broker().subscribe("news"))) as client:
        with pytest.raises(BrokerClosed):
            await client.end()
    assert client.messages == []


async def test_an_error_while_a_source_opens_is_the_response() -> None:
    class Refused(Tap):
        async def open(self) -> bool:
            raise HTTPException(403, "not you")

    tap = Refused()
    client = await fetch(EventSourceResponse(tap))
    assert client.status == 403
    assert client.complete


# -- ends -------------------------------------------------------------------------------------------------------------


async def test_a_source_that_ends_completes_the_response_and_then_comes_the_background_task() -> None:
    notes: list[Any] = []
    tap = Tap(block(1))
    response = EventSourceResponse(tap, background=BackgroundTask(lambda: notes.append(tap.closed)))
    async with Connection(response) as client:
        await client.until(block(1))
        tap.pour(block(2))
        tap.stop()
        await client.end()
    assert client.complete
    assert response.ending is Ending.EXHAUSTED
    assert data_of(client) == ["1", "2"]
    assert len(notes) == 1
    assert notes[0]


async def test_a_finished_channel_ends_its_streams_behind_the_last_event(broker: Broker) -> None:
    responses = [EventSourceResponse(broker.subscribe("news")) for _ in range(50)]
    clients = [Connection(response) for response in responses]
    for client in clients:
        await client.__aenter__()
        await parked(client)
    await broker.publish("news", 1)
    await broker.publish("news", 2)
    await broker.finish("news")
    for client in clients:
        await client.end()
        assert data_of(client) == ["1", "2"]
        assert client.complete
    assert {response.ending for response in responses} == {Ending.EXHAUSTED}


async def test_a_subscription_is_streamed_once(broker: Broker) -> None:
    subscription = broker.subscribe("news")
    async with Connection(EventSourceResponse(subscription)) as client:
        await parked(client)
    async with Connection(EventSourceResponse(subscription)) as client:
        with pytest.raises(RuntimeError, match="used once"):
            await client.end()
    assert client.messages == []


async def test_a_subscription_that_was_closed_before_is_no_stream(broker: Broker) -> None:
    subscription = broker.subscribe("news")
    await subscription.aclose()
    async with Connection(EventSourceResponse(subscription)) as client:
        with pytest.raises(RuntimeError, match="used once"):
            await client.end()


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("options", [{}, {"max_events": 100}], ids=["frames", "one by one"])
async def test_closing_a_subscription_from_elsewhere_ends_its_stream(
    broker: Broker, blocked: bool, options: Any
) -> None:
    subscription: Subscription = broker.subscribe("news")
    response = EventSourceResponse(subscription, **options)
    async with Connection(response) as client:
        await parked(client)
        if blocked:
            client.stop_reading()
            await broker.publish("news", 1)
            await client.until_blocked()
        await subscription.aclose()
        await subscription.aclose()
        client.read_on()
        await client.end()
    assert client.complete
    assert response.ending is Ending.EXHAUSTED
    assert data_of(client) == (["1"] if blocked else [])


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("options", [{}, {"max_events": 100}], ids=["frames", "one by one"])
@pytest.mark.parametrize("where", [None, lambda _event: True], ids=["all", "filtered"])
async def test_closing_the_broker_ends_its_streams_behind_the_news(turns: int, options: Any, where: Any) -> None:
    async with Broker() as broker:
        clients = [Connection(EventSourceResponse(broker.subscribe("news", where=where), **options)) for _ in range(40)]
        for client in clients:
            await client.__aenter__()
            await parked(client)
        clients[0].stop_reading()
        await broker.publish("news", 1)
        for _ in range(turns):
            await asyncio.sleep(0)
    clients[0].read_on()
    for client in clients:
        await client.end()
        assert data_of(client) == ["1"]
        assert client.complete


async def test_streams_that_ended_leave_nothing(broker: Broker) -> None:
    async def visit(number: int) -> None:
        subscription = broker.subscribe("news", f"channel {number % 7}")
        async with Connection(EventSourceResponse(subscription)) as client:
            await parked(client)
            if number % 3 == 0:
                client.stop_reading()
            await broker.publish("news", number)
            if number % 2:
                await client.until(b"data: %d\n" % number)
            client.disconnect()

    async def count() -> int:
        await asyncio.gather(*(visit(number) for number in range(50)))
        await asyncio.sleep(0)
        gc.collect()
        return sum(
            issubclass(type(found), (Subscription, asyncio.Future, EventSourceResponse)) for found in gc.get_objects()
        )

    before = await count()
    for _ in range(3):
        assert await count() <= before
    assert not broker._open.log._views
    assert len(asyncio.all_tasks()) <= 3  # this one, its runner's, and the one that looks after leases
