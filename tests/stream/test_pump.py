"""How items get from a source to `send`: in whose task, in which portions, until when."""

import asyncio
import contextvars
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tests.asgi import Connection, fetch
from tidings import EventSourceResponse, ServerSentEvent
from tidings.stream import Ending, feeder

pytestmark = pytest.mark.anyio

voyage: contextvars.ContextVar[str] = contextvars.ContextVar("voyage", default="none")


@dataclass
class Reading:
    celsius: float


def held_by(task: asyncio.Task[Any]) -> list[str]:
    """The names of a task's suspended coroutines, the outermost first."""
    held = []
    waiting: Any = task.get_coro()
    while inspect.iscoroutine(waiting):
        held.append(waiting.__qualname__)
        waiting = waiting.cr_await
    return held


@pytest.fixture
def no_batch_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches end by their size alone, on a machine however slow."""
    monkeypatch.setattr(feeder, "_BATCH_SECONDS", 3600.0)


# -- the request's own task -------------------------------------------------------------------------------------------


async def test_the_source_runs_in_the_task_of_the_request_from_its_first_step_to_its_cleanup() -> None:
    tasks: list[Any] = []

    async def source() -> AsyncIterator[int]:
        try:
            tasks.append(asyncio.current_task())
            yield 1
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0.001)
            tasks.append(asyncio.current_task())
            yield 2
            await asyncio.Event().wait()
        finally:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0.001)
            tasks.append(asyncio.current_task())

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"data: 2")
    assert len(tasks) == 5
    assert set(tasks) == {client.task}


async def test_context_variables_are_shared_by_endpoint_source_and_what_follows() -> None:
    seen: list[str] = []

    async def source() -> AsyncIterator[str]:
        seen.append(voyage.get())
        voyage.set("second")
        yield voyage.get()
        await asyncio.sleep(0.001)
        seen.append(voyage.get())
        voyage.set("third")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        voyage.set("first")
        await EventSourceResponse(source())(scope, receive, send)
        seen.append(voyage.get())

    assert (await fetch(app)).body == b'data: "second"\n\n'
    assert seen == ["first", "second", "third"]


async def test_a_stream_costs_one_task_beside_that_of_the_request() -> None:
    async def source() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    before = len(asyncio.all_tasks())
    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b":")
        assert len(asyncio.all_tasks()) == before + 2
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_an_idle_stream_holds_two_coroutines_beside_its_source() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b"data: 1")
        async with asyncio.timeout(10):
            # Not yet if the item took so long that it was sent as a full batch: then the loop turns once before.
            while held_by(client.task)[-2:] != ["EventSourceResponse.__call__", "Pump.run"]:
                await asyncio.sleep(0)


async def test_a_silent_stream_does_not_hold_its_last_item() -> None:
    held: weakref.ref[Reading] | None = None

    async def source() -> AsyncIterator[Reading]:
        nonlocal held
        reading = Reading(21.5)
        held = weakref.ref(reading)
        yield reading
        del reading
        await asyncio.Event().wait()

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(b'data: {"celsius":21.5}')
        async with asyncio.timeout(10):
            while held is None or held() is not None:
                await asyncio.sleep(0)


async def test_the_request_body_that_nobody_read_does_not_end_the_stream() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0.01)
        yield 2

    async with Connection(EventSourceResponse(source()), method="POST", body=b"unread") as client:
        await client.end()
    assert client.body == b"data: 1\n\ndata: 2\n\n"


async def test_a_source_that_awaits_what_is_no_future_of_asyncio_gets_an_error_that_says_so() -> None:
    class Foreign:
        def __await__(self) -> Iterator[Any]:
            yield "a trap of another library"

    async def source() -> AsyncIterator[int]:
        await Foreign()
        yield 1

    async with Connection(EventSourceResponse(source())) as client:
        with pytest.raises(RuntimeError, match="another library"):
            await client.end()


async def test_a_source_may_await_tasks_futures_and_gathered_coroutines() -> None:
    async def fish(name: str) -> str:
        await asyncio.sleep(0.001)
        return name

    async def source() -> AsyncIterator[Any]:
        yield await asyncio.create_task(fish("ling"))
        yield await asyncio.gather(fish("cod"), fish("hake"))
        yield await asyncio.wait_for(fish("sole"), 5)
        yield await asyncio.to_thread(lambda: "tench")
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_result("ready")
        yield await future

    body = (await fetch(EventSourceResponse(source()))).body
    assert body == b'data: "ling"\n\ndata: ["cod","hake"]\n\ndata: "sole"\n\ndata: "tench"\n\ndata: "ready"\n\n'


async def test_an_exception_of_an_awaited_task_reaches_the_source() -> None:
    async def sink() -> None:
        await asyncio.sleep(0)
        raise ConnectionError("pipe burst")

    async def source() -> AsyncIterator[str]:
        try:
            await asyncio.create_task(sink())
        except ConnectionError as error:
            yield str(error)

    assert (await fetch(EventSourceResponse(source()))).body == b'data: "pipe burst"\n\n'


# -- coalescing -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_batch_time")
async def test_items_that_are_ready_go_out_in_one_message() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await asyncio.sleep(0.001)
        for number in range(3, 5):
            yield number

    client = await fetch(EventSourceResponse(source()))
    assert client.chunks == [b"data: 0\n\ndata: 1\n\ndata: 2\n\n", b"data: 3\n\ndata: 4\n\n"]


async def test_what_is_collected_goes_out_the_moment_the_source_suspends() -> None:
    async def source() -> AsyncIterator[str]:
        yield "alone"
        await asyncio.Event().wait()

    async with Connection(EventSourceResponse(source())) as client:
        # Two turns of the loop: one that begins the request's task, one for luck. No timer is involved.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.body == b'data: "alone"\n\n'


@pytest.mark.usefixtures("no_batch_time")
async def test_a_batch_is_full_at_64_kib_and_the_loop_turns_behind_it() -> None:
    turns = 0

    async def source() -> AsyncIterator[ServerSentEvent]:
        for _ in range(400):
            yield ServerSentEvent(raw_data="x" * 992)  # 1000 bytes on the wire

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counter = asyncio.create_task(count_turns())
    client = await fetch(EventSourceResponse(source()))
    counter.cancel()
    assert [len(chunk) for chunk in client.chunks] == [66_000] * 6 + [4_000]
    assert turns >= 6


async def test_a_batch_that_takes_long_goes_out_before_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "_BATCH_SECONDS", 0.0)

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert (await fetch(EventSourceResponse(source()))).chunks == [b"data: 1\n\n", b"data: 2\n\n"]


@pytest.mark.usefixtures("no_batch_time")
async def test_a_bare_yield_to_the_loop_counts_as_ready_a_bounded_number_of_times() -> None:
    others = 0

    async def source() -> AsyncIterator[int]:
        for number in range(10):
            yield number
            await asyncio.sleep(0)
        begin = others
        while others == begin:
            await asyncio.sleep(0)
        yield 10

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    client = await fetch(EventSourceResponse(source()))
    counter.cancel()
    assert client.chunks == [b"".join(b"data: %d\n\n" % number for number in range(10)), b"data: 10\n\n"]


async def test_a_source_that_never_awaits_lets_the_loop_turn() -> None:
    async def source() -> AsyncIterator[int]:
        while True:
            yield 1

    async with Connection(EventSourceResponse(source())) as client:
        await client.until(lambda: len(client.chunks) > 3)
        loop = asyncio.get_running_loop()
        gaps = []
        for _ in range(20):
            begin = loop.time()
            await asyncio.sleep(0)
            gaps.append(loop.time() - begin)
        assert sorted(gaps)[10] < 0.05


async def test_the_source_is_not_stepped_while_the_client_does_not_read() -> None:
    made = 0

    async def source() -> AsyncIterator[ServerSentEvent]:
        nonlocal made
        while True:
            made += 1
            yield ServerSentEvent(raw_data="x" * 10_000)

    async with Connection(EventSourceResponse(source())) as client:
        client.stop_reading()
        await client.until_blocked()
        at_first = made
        for _ in range(50):
            await asyncio.sleep(0)
        assert made == at_first <= 7
        client.read_on()
        await client.until(lambda: made > at_first)


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_max_events_counts_events_with_data_only() -> None:
    async def source() -> AsyncIterator[Any]:
        while True:
            yield ServerSentEvent(comment="no event")
            yield ServerSentEvent(id="5")
            yield ServerSentEvent(retry=10)
            yield None

    response = EventSourceResponse(source(), max_events=2)
    client = await fetch(response)
    block = b": no event\n\nid: 5\n\nretry: 10\n\ndata: null\n\n"
    assert client.body == block * 2
    assert client.complete
    assert response.ending is Ending.LIMIT


async def test_max_events_closes_the_source_at_the_yield_of_the_last_event() -> None:
    seen: list[Any] = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(100):
                seen.append(number)
                yield number
        except BaseException as error:
            seen.append(type(error))
            raise

    await fetch(EventSourceResponse(source(), max_events=2))
    assert seen == [0, 1, GeneratorExit]


async def test_max_events_holds_for_a_source_that_is_cancelled_at_the_yield_of_the_last_event() -> None:
    scope = anyio.CancelScope()
    went_on = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        with scope:
            yield 1
        went_on.set()
        yield 2

    connection = Connection(EventSourceResponse(source(), max_events=1))
    connection.stop_reading()
    async with connection as client:
        await client.until_blocked()
        scope.cancel()
        await went_on.wait()
        client.read_on()
        await client.end()
    assert client.body == b"data: 1\n\n"
    assert client.complete


async def test_a_source_that_ends_exactly_at_max_events_ends_once() -> None:
    response = EventSourceResponse([1, 2], max_events=2)
    client = await fetch(response)
    assert client.body == b"data: 1\n\ndata: 2\n\n"
    assert client.complete


async def test_max_duration_ends_an_idle_source_cleanly() -> None:
    seen: list[Any] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    response = EventSourceResponse(source(), max_duration=0.05)
    client = await fetch(response)
    assert client.body == b"data: 1\n\n"
    assert client.complete
    assert seen == ["cancelled"]
    assert response.ending is Ending.LIMIT


async def test_max_duration_ends_a_source_that_never_awaits() -> None:
    async def source() -> AsyncIterator[int]:
        while True:
            yield 1

    response = EventSourceResponse(source(), max_duration=0.02)
    client = await fetch(response)
    assert client.complete
    assert response.ending is Ending.LIMIT


async def test_max_duration_before_the_first_item_is_an_empty_response() -> None:
    async def source() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    response = EventSourceResponse(source(), max_duration=0.02, start_delay=5)
    client = await fetch(response)
    assert (client.status, client.body, client.complete) == (200, b"", True)
    assert response.ending is Ending.LIMIT


async def test_a_hundred_thousand_items_arrive_once_and_in_order() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(100_000):
            yield number
            if number % 1000 == 0:
                await asyncio.sleep(0)

    client = await fetch(EventSourceResponse(source()))
    assert client.body == b"".join(b"data: %d\n\n" % number for number in range(100_000))


@pytest.mark.anyio
async def test_the_end_of_the_process_is_not_taken_for_an_error_of_the_source(caplog: pytest.LogCaptureFixture) -> None:
    class Leaving(BaseException):
        """As SystemExit, which would end the tests."""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise Leaving

    async with Connection(EventSourceResponse(source())) as client:
        with pytest.raises(Leaving):
            await client.end()
    assert not caplog.records or max(record.levelno for record in caplog.records) < logging.INFO
