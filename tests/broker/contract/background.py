"""Background streams: a source goes on whoever reads it, and its channel says how it ended."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from aiostream import stream

from tests.asgi import PATIENCE, Connection
from tests.broker.conftest import Log
from tests.broker.contract.leftovers import check_nothing_stays
from tests.broker.contract.reading import data, fill, ids, rest, sequence, take, until
from tidings import Broker, Event, EventSourceResponse, ServerSentEvent
from tidings.broker import DeliveredEvent
from tidings.errors import BackgroundLimit, BrokerClosed, ChannelBusy

END = object()
STOPPED = ("stopped", {})
SHUTDOWN = ("aborted", {"reason": "shutdown"})
LOST = ("aborted", {"reason": "lost"})
FAILED = ("failed", {"error": "internal error"})


# -- sources ----------------------------------------------------------------------------------------------------------


class Told:
    """A source that gives what it is told to, and notes how it is left."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._items: asyncio.Queue[Any] = asyncio.Queue()

    def tell(self, *items: Any) -> None:
        for item in items:
            self._items.put_nowait(item)

    def end(self) -> None:
        self.tell(END)

    async def items(self) -> AsyncIterator[Any]:
        try:
            while (item := await self._items.get()) is not END:
                yield item
        except (asyncio.CancelledError, GeneratorExit) as left:
            self.notes.append(type(left).__name__)
            raise
        finally:
            await asyncio.sleep(0)  # a cleanup may wait
            self.notes.append("finally")


class Counted:
    """An async iterator that isn't a generator, and has nothing to close."""

    def __init__(self, count: int) -> None:
        self._left = iter(range(count))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        for number in self._left:
            return number
        raise StopAsyncIteration


class Countable:
    """An async iterable that isn't an iterator."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __aiter__(self) -> AsyncIterator[int]:
        return Counted(self._count)


class Closable(Counted):
    """Notes that it was closed."""

    def __init__(self, count: int = 0) -> None:
        super().__init__(count)
        self.closed = 0

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


async def counting(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def pausing(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


def counting_in_a_thread(count: int) -> Iterator[int]:
    yield from range(count)


async def forever() -> AsyncIterator[int]:
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(0.001)


async def waiting(notes: list[str]) -> AsyncIterator[str]:
    """Waits behind its first item until it is cancelled."""
    try:
        yield "first"
        await asyncio.Event().wait()
    finally:
        notes.append("finally")


KINDS: dict[str, Callable[[int], Any]] = {
    "async generator": counting,
    "async generator that waits": pausing,
    "sync generator": counting_in_a_thread,
    "list": lambda count: list(range(count)),
    "tuple": lambda count: tuple(range(count)),
    "range": range,
    "iterator": lambda count: iter(range(count)),
    "async iterator": Counted,
    "async iterable": Countable,
    "context manager": lambda count: stream.iterate(range(count)),
}


# -- what readers see -------------------------------------------------------------------------------------------------


async def all_of(broker: Broker, channel: str = "chat") -> list[DeliveredEvent]:
    """Everything in a channel, when it has been finished."""
    return await rest(broker.subscribe(channel, last_event_id="earliest"))


def shown(events: Iterable[DeliveredEvent]) -> list[Any]:
    """The events by what they hold; the broker's own also by their names."""
    return [(event.event, event.data) if event.control else event.data for event in events]


async def reply(broker: Broker, channel: str = "chat", last_event_id: str | None = None) -> Connection:
    """The response to who subscribes to a channel that ends."""
    async with Connection(EventSourceResponse(broker.subscribe(channel, last_event_id=last_event_id))) as client:
        await client.end()
    return client


async def state_of(broker: Broker, channel: str = "chat") -> str:
    return (await broker.status(channel)).state


async def until_state(broker: Broker, state: str, channel: str = "chat") -> None:
    """Wait until a run has this state."""
    deadline = time.monotonic() + PATIENCE
    while (is_now := await state_of(broker, channel)) != state:
        assert time.monotonic() < deadline, f"it is {is_now}, and not {state}"
        await asyncio.sleep(0.005)


async def until_events(broker: Broker, count: int, channel: str = "chat") -> None:
    """Wait until so many events of a run are stored."""
    deadline = time.monotonic() + PATIENCE
    while (are_now := (await broker.status(channel)).events) < count:
        assert time.monotonic() < deadline, f"there are {are_now} events, not {count}"
        await asyncio.sleep(0.005)


async def close(broker: Broker) -> None:
    async with asyncio.timeout(PATIENCE):
        await broker.__aexit__(None, None, None)


def short_leases(monkeypatch: pytest.MonkeyPatch, seconds: float = 1.5) -> None:
    """Let who is lost be noticed sooner than in ten seconds."""
    for module in ("producer", "runner", "leases"):
        monkeypatch.setattr(f"tidings.broker.background.{module}.LEASE_SECONDS", seconds)
    monkeypatch.setattr("tidings.broker.background.leases._RENEWAL", seconds / 4)


# -- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 700])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_source_of_any_kind_is_published_whole_and_in_order(broker: Broker, kind: str, count: int) -> None:
    assert await broker.start("chat", KINDS[kind](count)) is None
    events = await all_of(broker)
    assert shown(events) == list(range(count))
    assert ids(events) == sorted(set(ids(events)), key=sequence)
    await until_state(broker, "finished")
    assert (await broker.status("chat")).events == count


class Note(Event[str]):
    pass


async def test_items_are_what_can_be_published(broker: Broker) -> None:
    items = [
        None,
        {"a": [1, "ä", None]},
        Note.create("a typed one", retry=100),
        ServerSentEvent(raw_data="text\nof two lines", event="raw", comment="with a comment"),
        ServerSentEvent({"b": 1}, event="stopped"),
        "",
    ]
    await broker.start("chat", items)
    events = await all_of(broker)
    assert [(event.event, event.data, event.control) for event in events] == [
        (None, None, False),
        (None, {"a": [1, "ä", None]}, False),
        ("note", "a typed one", False),
        ("raw", "text\nof two lines", False),
        ("stopped", {"b": 1}, False),
        (None, "", False),
    ]
    body = (await reply(broker, last_event_id="earliest")).body
    assert b'event: note\ndata: "a typed one"\nid: %b\nretry: 100\n\n' % events[2].id.encode() in body
    assert b": with a comment\nevent: raw\ndata: text\ndata: of two lines\n" in body


async def test_items_are_there_as_soon_as_they_are_given(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    async with broker.subscribe("chat", last_event_id="earliest") as subscription:
        for number in range(30):
            source.tell(number)
            assert data(await take(subscription, 1)) == [number]
        source.end()
        assert await rest(subscription) == []
    assert source.notes == ["finally"]


async def test_a_source_runs_with_the_context_of_who_started_it(broker: Broker) -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")

    async def source() -> AsyncIterator[str]:
        yield variable.get()

    def in_a_thread() -> Iterator[str]:
        yield variable.get()

    variable.set("the starter's")
    await broker.start("chat", source())
    await broker.start("thread", in_a_thread())
    assert data(await all_of(broker)) == data(await all_of(broker, "thread")) == ["the starter's"]


async def test_a_source_may_use_the_broker_itself(broker: Broker) -> None:
    async def source() -> AsyncIterator[str]:
        yield "before"
        await broker.publish("log", "working")
        yield (await broker.status("chat")).state
        await broker.stop("chat")
        yield "never"

    await broker.start("chat", source())
    assert shown(await all_of(broker)) == ["before", "running", STOPPED]
    assert data(await take(broker.subscribe("log", last_event_id="earliest"), 1)) == ["working"]


# -- readers ----------------------------------------------------------------------------------------------------------


async def test_the_end_of_the_source_ends_its_readers(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    reading = [asyncio.create_task(all_of(broker)) for _ in range(40)]
    source.tell(1, 2)
    async with Connection(EventSourceResponse(broker.subscribe("chat", last_event_id="earliest"))) as client:
        await client.until(b"data: 2\n")
        assert not any(task.done() for task in reading)
        source.tell(3)
        source.end()
        await client.end()
    assert client.complete
    assert [event.json() for event in client.events] == [1, 2, 3]
    for events in await asyncio.gather(*reading):
        assert shown(events) == [1, 2, 3]


async def test_who_comes_late_reads_all_of_it_and_then_204(broker: Broker) -> None:
    await broker.start("chat", counting(20))
    events = await all_of(broker)
    client = await reply(broker, last_event_id="earliest")
    assert (client.status, client.complete) == (200, True)
    assert [event.id for event in client.events] == ids(events)
    for last_event_id in (None, events[-1].id):
        assert (await reply(broker, last_event_id=last_event_id)).status == 204
    assert [event.id for event in (await reply(broker, last_event_id=events[4].id)).events] == ids(events[5:])


async def test_a_run_without_items_is_answered_204(broker: Broker) -> None:
    await broker.start("chat", [])
    await until_state(broker, "finished")
    for last_event_id in (None, "earliest"):
        assert (await reply(broker, last_event_id=last_event_id)).status == 204


async def test_who_leaves_and_resumes_by_id_sees_each_token_once(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    seen: list[DeliveredEvent] = []
    for number in range(60):
        source.tell(*range(3 * number, 3 * number + 3))
        last = seen[-1].id if seen else "earliest"
        async with broker.subscribe("chat", last_event_id=last) as subscription:
            seen += await take(subscription, 1 + number % 3)
    source.end()
    seen += await rest(broker.subscribe("chat", last_event_id=seen[-1].id))
    assert shown(seen) == list(range(180))


async def test_a_page_that_reloads_sees_each_token_once(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    seen, last = [], "earliest"
    for number in range(10):
        async with Connection(EventSourceResponse(broker.subscribe("chat", last_event_id=last))) as client:
            source.tell(2 * number, 2 * number + 1)
            await client.until(lambda: client.messages and client.events)
        seen += [event.json() for event in client.events]
        last = client.events[-1].id
    source.end()
    seen += [event.json() for event in (await reply(broker, last_event_id=last)).events]
    assert seen == list(range(20))


async def test_a_second_reader_follows_along_from_the_beginning(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    first = broker.subscribe("chat", last_event_id="earliest")
    source.tell(*range(5))
    await take(first, 5)
    second = broker.subscribe("chat", last_event_id="earliest")
    assert data(await take(second, 5)) == list(range(5))
    source.tell(*range(5, 10))
    assert ids(await take(first, 5)) == ids(await take(second, 5))
    source.end()
    assert await rest(first) == await rest(second) == []


async def test_it_goes_on_when_nobody_reads(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    async with broker.subscribe("chat", last_event_id="earliest") as subscription:
        source.tell(0)
        await take(subscription, 1)
    del subscription
    gc.collect()
    source.tell(*range(1, 300))
    source.end()
    await until_state(broker, "finished")
    assert shown(await all_of(broker)) == list(range(300))


async def test_runs_of_many_channels_do_not_mix(broker: Broker) -> None:
    async def source(channel: int) -> AsyncIterator[list[int]]:
        for number in range(20):
            await asyncio.sleep(0)
            yield [channel, number]

    for channel in range(30):
        await broker.start(f"chat {channel}", source(channel))
    for channel in range(30):
        assert data(await all_of(broker, f"chat {channel}")) == [[channel, number] for number in range(20)]


# -- channels that have a past ----------------------------------------------------------------------------------------


async def test_a_finished_channel_is_opened_again_and_goes_on_behind_its_old_events(broker: Broker) -> None:
    old = await fill(broker, "chat", ["a", "b"])
    await broker.finish("chat")
    await broker.start("chat", ["c"])
    assert data(await rest(broker.subscribe("chat", last_event_id=old[0]))) == ["b", "c"]
    await until_state(broker, "finished")
    await broker.start("chat", ["d"])
    assert data(await all_of(broker)) == ["a", "b", "c", "d"]
    await until_state(broker, "finished")
    assert (await broker.status("chat")).events == 1


async def test_who_saw_all_of_what_was_before_waits_for_what_is_started(broker: Broker) -> None:
    (last,) = await fill(broker, "chat", ["a"])
    await broker.finish("chat")
    assert (await reply(broker, last_event_id=last)).status == 204
    source = Told()
    await broker.start("chat", source.items())
    async with Connection(EventSourceResponse(broker.subscribe("chat", last_event_id=last))) as client:
        await client.until(lambda: client.messages)
        assert client.status == 200
        waiting = asyncio.create_task(rest(broker.subscribe("chat", last_event_id=last)))
        source.tell("b")
        await client.until(b'data: "b"')
        assert not waiting.done()
        source.end()
        await client.end()
    assert data(await waiting) == ["b"]


async def test_ordinary_publishes_beside_a_run_are_allowed(broker: Broker) -> None:
    source = Told()
    await broker.publish("chat", "before")
    await broker.start("chat", source.items())
    async with broker.subscribe("chat", last_event_id="earliest") as subscription:
        await take(subscription, 1)
        for number in range(5):
            await broker.publish("chat", f"published {number}")
            source.tell(number)
            assert data(await take(subscription, 2)) == [f"published {number}", number]
    status = await broker.status("chat")
    assert (status.state, status.events) == ("running", 5)
    source.end()
    assert len(await all_of(broker)) == 11


async def test_a_channel_finished_beside_a_run_is_opened_again_by_its_next_item(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    source.tell(1)
    (event,) = await take(broker.subscribe("chat", last_event_id="earliest"), 1)
    await broker.finish("chat")
    assert await rest(broker.subscribe("chat", last_event_id=event.id)) == []
    assert await state_of(broker) == "running"
    source.tell(2)
    subscription = broker.subscribe("chat", last_event_id="earliest")
    await until_events(broker, 2)
    assert data(await take(subscription, 2)) == [1, 2]
    source.end()
    assert await rest(subscription) == []


# -- stopping ---------------------------------------------------------------------------------------------------------


def check_stopped(events: list[DeliveredEvent], before: list[Any]) -> None:
    """Whether the last event, and no other, says that it was stopped."""
    assert shown(events) == [*before, STOPPED]
    assert ids(events) == sorted(set(ids(events)), key=sequence)


async def test_a_source_that_waits_is_cancelled_and_its_finally_has_run_when_stop_returns(broker: Broker) -> None:
    source = Told()
    await broker.start("chat", source.items())
    reading = asyncio.create_task(all_of(broker))
    source.tell(1, 2)
    await until_events(broker, 2)
    assert await broker.stop("chat") is True
    assert source.notes == ["CancelledError", "finally"]
    assert await state_of(broker) == "stopped"
    check_stopped(await reading, [1, 2])
    check_stopped(await all_of(broker), [1, 2])
    client = await reply(broker, last_event_id="earliest")
    assert [(event.event, event.json()) for event in client.events][-1] == STOPPED
    assert (await reply(broker, last_event_id=client.events[-1].id)).status == 204


async def test_a_source_that_never_waits_is_closed_at_its_yield(broker: Broker) -> None:
    left: list[BaseException] = []

    async def source() -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        except BaseException as error:
            left.append(error)
            raise

    await broker.start("chat", source())
    await until_events(broker, 300)
    assert await broker.stop("chat") is True
    assert [type(error) for error in left] == [GeneratorExit]
    *numbers, last = await all_of(broker)
    first = numbers[0].data
    assert data(numbers) == list(range(first, first + len(numbers)))
    assert (last.event, last.data, last.control) == (*STOPPED, True)


async def test_a_sync_generator_is_closed_in_its_thread(broker: Broker) -> None:
    left: list[Any] = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        except GeneratorExit:
            left.append(threading.current_thread())
            raise

    await broker.start("chat", source())
    await until_events(broker, 1)
    assert await broker.stop("chat") is True
    assert len(left) == 1
    assert left[0] is not threading.current_thread()
    await until(lambda: not left[0].is_alive(), "its thread has ended")
    assert shown(await all_of(broker))[-1] == STOPPED


@pytest.mark.parametrize("turns", range(12))
async def test_it_can_be_stopped_as_soon_as_it_is_started(broker: Broker, turns: int) -> None:
    source = Closable(1_000_000)
    await broker.start("chat", source)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert await broker.stop("chat") is True
    assert source.closed == 1
    *numbers, last = await all_of(broker)
    assert data(numbers) == list(range(len(numbers)))
    assert (last.event, last.data, last.control) == (*STOPPED, True)
    assert await state_of(broker) == "stopped"


async def test_stop_says_whether_one_was_running(broker: Broker) -> None:
    assert await broker.stop("never used") is False
    await broker.publish("published to", 1)
    assert await broker.stop("published to") is False
    await broker.start("chat", [1])
    await until_state(broker, "finished")
    assert await broker.stop("chat") is False
    await broker.start("chat", forever())
    assert await broker.stop("chat") is True
    assert await broker.stop("chat") is False
    assert [event for event in shown(await all_of(broker)) if event == STOPPED] == [STOPPED]
    assert await state_of(broker) == "stopped"


async def test_what_was_given_before_is_there_when_it_is_stopped(broker: Broker) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(100):
            yield number
        given.set()
        await asyncio.Event().wait()

    given = asyncio.Event()
    await broker.start("chat", source())
    await given.wait()
    await broker.stop("chat")
    check_stopped(await all_of(broker), list(range(100)))


async def test_several_may_stop_it_at_once(broker: Broker) -> None:
    notes: list[str] = []
    await broker.start("chat", waiting(notes))
    await until_events(broker, 1)
    assert True in await asyncio.gather(*(broker.stop("chat") for _ in range(5)))  # who looks late finds it stopped
    assert notes == ["finally"]
    check_stopped(await all_of(broker), ["first"])


async def test_who_is_cancelled_while_it_stops_a_run_leaves_it_stopped(broker: Broker) -> None:
    for turns in range(8):
        source = Told()
        await broker.start(f"chat {turns}", source.items())
        source.tell(1)
        await until_events(broker, 1, f"chat {turns}")
        stopping = asyncio.create_task(broker.stop(f"chat {turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        await broker.stop(f"chat {turns}")
        check_stopped(await all_of(broker, f"chat {turns}"), [1])
        assert source.notes == ["CancelledError", "finally"]


async def test_a_source_may_take_its_time_to_end(broker: Broker) -> None:
    notes: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            await broker.publish("log", "cleaned up")
            notes.append("finally")

    await broker.start("chat", source())
    await until_events(broker, 1)
    assert await broker.stop("chat") is True
    assert notes == ["finally"]
    check_stopped(await all_of(broker), [1])


async def test_it_is_stopped_during_its_own_cleanup(broker: Broker) -> None:
    notes: list[str] = []
    cleaning = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            cleaning.set()
            try:
                await asyncio.Event().wait()
            finally:
                notes.append("finally")

    await broker.start("chat", source())
    await cleaning.wait()
    assert await broker.stop("chat") is True
    assert notes == ["finally"]
    check_stopped(await all_of(broker), [1])


@pytest.mark.parametrize("error", [ValueError("in the cleanup"), asyncio.CancelledError("another")])
async def test_what_a_stopped_source_raises_is_not_told(
    broker: Broker, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise error

    await broker.start("chat", source())
    await until_events(broker, 1)
    assert await broker.stop("chat") is True
    check_stopped(await all_of(broker), [1])
    assert await state_of(broker) == "stopped"


async def test_nothing_more_appears_of_a_source_that_swallows_its_cancellation(broker: Broker) -> None:
    notes: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "before"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                notes.append("swallowed")
            while True:
                yield "after"
        finally:
            notes.append("finally")

    await broker.start("chat", source())
    await until_events(broker, 1)
    assert await broker.stop("chat") is True
    assert notes == ["swallowed", "finally"]
    check_stopped(await all_of(broker), ["before"])


async def test_a_source_that_swallows_its_cancellation_and_ends_is_stopped(broker: Broker) -> None:
    async def source() -> AsyncIterator[str]:
        yield "before"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    await broker.start("chat", source())
    await until_events(broker, 1)
    assert await broker.stop("chat") is True
    check_stopped(await all_of(broker), ["before"])


async def test_a_stopped_channel_can_be_started_again(broker: Broker) -> None:
    expected: list[Any] = []
    for number in range(3):
        source = Told()
        await broker.start("chat", source.items())
        source.tell(number)
        await until_events(broker, 1)
        assert await broker.stop("chat") is True
        expected += [number, STOPPED]
    await broker.start("chat", ["last"])
    await until_state(broker, "finished")
    assert shown(await all_of(broker)) == [*expected, "last"]


# -- failing ----------------------------------------------------------------------------------------------------------


async def failing(error: BaseException) -> AsyncIterator[int]:
    yield 1
    yield 2
    await asyncio.sleep(0)
    raise error


def failing_in_a_thread(error: BaseException) -> Iterator[int]:
    yield 1
    yield 2
    raise error


@pytest.mark.parametrize("kind", [failing, failing_in_a_thread])
async def test_a_source_that_raises_ends_with_failed_and_its_text_is_hidden(
    broker: Broker, kind: Callable[[BaseException], Any], caplog: pytest.LogCaptureFixture
) -> None:
    await broker.start("chat", kind(LookupError("the password is 1234")))
    assert shown(await all_of(broker)) == [1, 2, FAILED]
    await until_state(broker, "failed")
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.name == "tidings.broker"
    assert "'chat'" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    assert (await broker.status("chat")).events == 2


async def test_the_text_of_a_failure_is_shown_if_that_was_asked_for(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    async with Broker(**log, expose_errors=True) as broker:
        await broker.start("chat", failing(LookupError("no such model")))
        assert shown(await all_of(broker)) == [1, 2, ("failed", {"error": "no such model"})]
    assert len([record for record in caplog.records if record.exc_info]) == 1


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


@pytest.mark.parametrize("error", [OSError("no file \udcff.txt"), UnspeakableError()], ids=["surrogate", "no text"])
async def test_a_failure_whose_text_can_not_be_shown_is_a_failure(
    log: Log, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A report with the traceback couldn't be sent from one process of the tests to the other.
    monkeypatch.setattr(logging.getLogger("tidings.broker"), "disabled", True)
    async with Broker(**log, expose_errors=True) as broker:
        await broker.start("chat", failing(error))
        events = await all_of(broker)
        assert data(events[:2]) == [1, 2]
        assert [(event.event, list(event.data)) for event in events[2:]] == [("failed", ["error"])]
        await until_state(broker, "failed")


@pytest.mark.parametrize(
    "item",
    [object(), {1, object()}, ServerSentEvent(1, id="7"), "x" * 2_000, float],
    ids=["object", "set", "id", "large", "class"],
)
@pytest.mark.parametrize("endless", [False, True])
async def test_an_item_that_can_not_be_published_ends_with_failed(
    log: Log, item: Any, caplog: pytest.LogCaptureFixture, *, endless: bool
) -> None:
    notes: list[str] = []

    async def source() -> AsyncIterator[Any]:
        try:
            yield 1
            yield item
            while endless:
                yield "more"
        finally:
            notes.append("finally")

    async with Broker(**log, max_event_size=1_000) as broker:
        await broker.start("chat", source())
        assert shown(await all_of(broker)) == [1, FAILED]
        await until_state(broker, "failed")
    assert notes == ["finally"]
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_a_source_that_is_cancelled_by_its_own_doing_has_failed(broker: Broker) -> None:
    await broker.start("chat", failing(asyncio.CancelledError()))
    assert shown(await all_of(broker)) == [1, 2, FAILED]
    await until_state(broker, "failed")


async def test_a_failed_channel_can_be_started_again(broker: Broker) -> None:
    await broker.start("chat", failing(ValueError("once")))
    await until_state(broker, "failed")
    await broker.start("chat", [3])
    await until_state(broker, "finished")
    assert shown(await all_of(broker)) == [1, 2, FAILED, 3]


# -- taking too long --------------------------------------------------------------------------------------------------

TIMEOUT = ("failed", {"error": "timeout"})


@pytest.mark.parametrize(("broker_wide", "own"), [(0.1, None), (3_600, 0.1), (None, 0.1)])
async def test_a_source_that_takes_too_long_is_cancelled(
    log: Log, broker_wide: float | None, own: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []
    async with Broker(**log, background_timeout=broker_wide) as broker:
        await broker.start("chat", waiting(notes), timeout=own)
        assert shown(await all_of(broker)) == ["first", TIMEOUT]
        assert notes == ["finally"]
        await until_state(broker, "failed")


async def test_the_timeout_of_a_start_may_be_longer_than_that_of_its_broker(log: Log) -> None:
    async with Broker(**log, background_timeout=0.05) as broker:
        source = Told()
        await broker.start("chat", source.items(), timeout=60)
        await broker.start("short", forever())
        assert shown(await all_of(broker, "short"))[-1] == TIMEOUT
        assert await state_of(broker) == "running"
        source.end()
        await until_state(broker, "finished")


# -- what is refused --------------------------------------------------------------------------------------------------


class Refused:
    """Sources of all kinds that can be closed; `check` says whether they were, and whether none was run."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self._closable = Closable()
        self._async = self._items()
        self._sync = self._sync_items()
        self.sources: list[Any] = [self._async, self._sync, self._closable, [1, 2]]

    async def _items(self) -> AsyncIterator[int]:
        self.run.append("async")
        yield 1

    def _sync_items(self) -> Iterator[int]:
        self.run.append("sync")
        yield 1

    async def check(self) -> None:
        assert self._closable.closed == 1
        assert [item async for item in self._async] == []
        assert list(self._sync) == []
        assert self.run == []


async def test_a_channel_that_is_running_is_busy(broker: Broker) -> None:
    source, refused = Told(), Refused()
    await broker.start("chat", source.items())
    for other in refused.sources:
        with pytest.raises(ChannelBusy, match="'chat'"):
            await broker.start("chat", other)
    await refused.check()
    await broker.start("other", [1])
    source.tell(1)
    source.end()
    assert shown(await all_of(broker)) == [1]


async def test_of_several_starts_at_the_same_moment_one_is_taken(broker: Broker) -> None:
    for number in range(10):
        sources = [Closable() for _ in range(4)]
        told = Told()
        channel = f"chat {number}"
        starting = [broker.start(channel, source) for source in sources]
        starting.insert(number % 5, broker.start(channel, told.items()))
        results = await asyncio.gather(*starting, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["ChannelBusy"] * 4 + ["NoneType"]
        if results[number % 5] is None:
            assert [source.closed for source in sources] == [1] * 4
            told.tell("the one")
            told.end()
            assert shown(await all_of(broker, channel)) == ["the one"]
        else:
            assert shown(await all_of(broker, channel)) == []
            await until_state(broker, "finished", channel)
            assert [source.closed for source in sources] == [1] * 4


async def test_no_more_than_max_background_run_in_a_process(log: Log) -> None:
    async with Broker(**log, max_background=2) as broker:
        source, refused = Told(), Refused()
        await broker.start("chat", source.items())
        await broker.start("other", Told().items())
        for other in refused.sources:
            with pytest.raises(BackgroundLimit, match="max_background=2"):
                await broker.start("third", other)
        await refused.check()
        assert await state_of(broker, "third") == "unknown"
        source.end()
        await until_state(broker, "finished")
        await start_when_there_is_room(broker, "third")
        await broker.stop("other")
        await start_when_there_is_room(broker, "fourth")
        with pytest.raises(BackgroundLimit):
            await broker.start("fifth", [1])
        for channel in ("third", "fourth"):
            assert await broker.stop(channel) is True


async def start_when_there_is_room(broker: Broker, channel: str) -> None:
    """What is recorded as ended may take a moment longer to be counted no more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await broker.start(channel, Told().items())
            except BackgroundLimit:
                await asyncio.sleep(0.005)


async def test_starts_at_the_same_moment_are_counted(log: Log) -> None:
    async with Broker(**log, max_background=3) as broker:
        starting = [broker.start(f"chat {number}", Told().items()) for number in range(8)]
        results = await asyncio.gather(*starting, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["BackgroundLimit"] * 5 + ["NoneType"] * 3
        for number, result in enumerate(results):
            assert await broker.stop(f"chat {number}") is (result is None)


async def test_a_process_may_be_allowed_none(log: Log) -> None:
    async with Broker(**log, max_background=0) as broker:
        with pytest.raises(BackgroundLimit):
            await broker.start("chat", [1])


async def test_a_busy_channel_takes_no_place_among_those_that_may_run(log: Log) -> None:
    async with Broker(**log, max_background=2, background_grace=0) as broker:
        await broker.start("chat", Told().items())
        for _ in range(5):
            with pytest.raises(ChannelBusy):
                await broker.start("chat", [1])
        await broker.start("other", [1])


async def test_a_broker_that_is_not_open_starts_nothing(log: Log) -> None:
    broker = Broker(**log, background_grace=0)
    for number in range(3):
        refused = Refused()
        for source in refused.sources:
            with pytest.raises(BrokerClosed):
                await broker.start("chat", source)
        await refused.check()
        with pytest.raises(BrokerClosed):
            await broker.stop("chat")
        with pytest.raises(BrokerClosed):
            await broker.status("chat")
        async with broker:
            await broker.start("chat", [number])
            await until_state(broker, "finished")


async def test_a_broker_that_is_being_closed_starts_nothing(log: Log) -> None:
    broker = Broker(**log)
    await broker.__aenter__()
    source = Told()
    await broker.start("chat", source.items())
    closing = asyncio.create_task(close(broker))
    await asyncio.sleep(0.01)
    refused = Refused()
    for other in refused.sources:
        with pytest.raises(BrokerClosed, match="being closed"):
            await broker.start("other", other)
    await refused.check()
    assert not closing.done()
    source.end()
    await closing


@pytest.mark.parametrize("turns", range(12))
async def test_a_start_that_meets_a_closing_broker_runs_or_is_refused(log: Log, turns: int) -> None:
    broker = Broker(**log, background_grace=0)
    await broker.__aenter__()
    source = Closable(1_000_000)
    starting = asyncio.create_task(broker.start("chat", source))
    for _ in range(turns):
        await asyncio.sleep(0)
    await close(broker)
    await asyncio.wait([starting], timeout=PATIENCE)
    assert source.closed == 1
    async with broker:
        if isinstance(starting.exception(), BrokerClosed):
            assert await state_of(broker) in {"unknown", "aborted"}
        else:
            starting.result()
            assert await state_of(broker) == "aborted"
        await broker.start("chat", ["again"])
        assert shown(await all_of(broker))[-1] == "again"


async def coroutine() -> list[int]:
    return [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (counting, r"call it, counting\(\)"),
        (counting_in_a_thread, r"call it, counting_in_a_thread\(\)"),
        ("text", "put it into a list"),
        (b"text", "put it into a list"),
        ({"a": 1}, "put it into a list"),
        (None, "NoneType"),
        (7, "int"),
        (coroutine, "function"),
    ],
)
async def test_what_is_no_source_is_refused_with_the_reason(broker: Broker, content: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        await broker.start("chat", content)
    assert await state_of(broker) == "unknown"


async def test_a_coroutine_is_refused_and_leaves_no_warning_behind(broker: Broker) -> None:
    with pytest.raises(TypeError, match="a coroutine: await it"):
        await broker.start("chat", coroutine())
    gc.collect()


@pytest.mark.parametrize(
    ("channel", "options", "error"),
    [
        ("", {}, ValueError),
        ("a\nb", {}, ValueError),
        ("\x01chat", {}, ValueError),
        ("x" * 256, {}, ValueError),
        (7, {}, TypeError),
        (None, {}, TypeError),
        ("chat", {"timeout": 0}, ValueError),
        ("chat", {"timeout": -1}, ValueError),
        ("chat", {"timeout": float("nan")}, ValueError),
        ("chat", {"timeout": float("inf")}, ValueError),
        ("chat", {"timeout": "1"}, TypeError),
        ("chat", {"timeout": True}, TypeError),
    ],
)
async def test_wrong_arguments_are_refused_and_the_source_is_closed(
    broker: Broker, channel: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    refused = Refused()
    for source in refused.sources:
        with pytest.raises(error, match="channel" if not options else "timeout"):
            await broker.start(channel, source, **options)
    await refused.check()
    if not options:
        with pytest.raises(error):
            await broker.stop(channel)
        with pytest.raises(error):
            await broker.status(channel)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_background": -1}, ValueError),
        ({"max_background": 1.5}, TypeError),
        ({"background_timeout": 0}, ValueError),
        ({"background_timeout": "1"}, TypeError),
        ({"background_grace": -1}, ValueError),
        ({"background_grace": float("inf")}, ValueError),
        ({"background_grace": "1"}, TypeError),
    ],
)
def test_wrong_options_are_refused(log: Log, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Broker(**log, **options)


@pytest.mark.parametrize("name", ["max_background", "background_timeout", "background_grace"])
async def test_the_bounds_of_background_streams_may_be_lifted(log: Log, name: str) -> None:
    options: dict[str, Any] = {name: None}
    async with Broker(**log, **options) as broker:
        await broker.start("chat", [1])
        assert shown(await all_of(broker)) == [1]


# -- a start that is cancelled ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
async def test_a_start_that_is_cancelled_leaves_nothing_running(log: Log, *, used: bool) -> None:
    async with Broker(**log) as broker:
        if used:  # else it is also the one that begins to listen to other processes
            await broker.start("other", Told().items())
        for turns in range(25):
            channel, source = f"chat {turns}", Closable(1_000_000)
            starting = asyncio.create_task(broker.start(channel, source))
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.result()
                assert await broker.stop(channel) is True
                continue
            if turns:  # else it has not even begun
                assert source.closed == 1
            await start_when_it_is_free(broker, channel)
            assert shown(await all_of(broker, channel))[-1] == "again"
        if used:
            await broker.stop("other")


async def start_when_it_is_free(broker: Broker, channel: str) -> None:
    """A start that was cancelled is taken back, which may take a moment."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await broker.start(channel, ["again"])
            except ChannelBusy:
                await asyncio.sleep(0.005)


# -- what is known of it ----------------------------------------------------------------------------------------------


async def test_what_is_known_of_a_run_in_each_state(log: Log) -> None:
    begun = datetime.now(UTC)
    async with Broker(**log, background_grace=0) as broker:
        status = await broker.status("chat")
        assert (status.state, status.since, status.producer) == ("unknown", None, None)
        assert (status.events, status.readers) == (0, 0)
        await broker.publish("published to", 1)
        assert await state_of(broker, "published to") == "unknown"
        source = Told()
        await broker.start("chat", source.items())
        running = await broker.status("chat")
        assert (running.state, running.events) == ("running", 0)
        source.tell(1, 2, 3)
        await until_events(broker, 3)
        assert (await broker.status("chat")).since == running.since
        source.end()
        await until_state(broker, "finished")
        finished = await broker.status("chat")
        assert (finished.events, finished.producer) == (3, running.producer)
        await broker.start("failed", failing(ValueError()))
        await until_state(broker, "failed", "failed")
        await broker.start("stopped", forever())
        await broker.stop("stopped")
        await broker.start("aborted", forever())
    async with Broker(**log) if log["url"] != "memory://" else broker as broker:
        known = {name: await broker.status(name) for name in ("chat", "failed", "stopped", "aborted")}
        assert [status.state for status in known.values()] == ["finished", "failed", "stopped", "aborted"]
        assert known["failed"].events == 2
        for status in (running, *known.values()):
            assert status.producer == running.producer
            assert status.since is not None
            assert begun - timedelta(seconds=1) < status.since < datetime.now(UTC) + timedelta(seconds=1)
            assert status.since.utcoffset() == timedelta(0)


async def test_the_readers_of_this_process_are_counted(broker: Broker) -> None:
    async def readers() -> int:
        return (await broker.status("chat")).readers

    source = Told()
    await broker.start("chat", source.items())
    source.tell(1)
    assert await readers() == 0
    subscriptions = [broker.subscribe("chat", last_event_id="earliest") for _ in range(3)]
    subscriptions.append(broker.subscribe("other", "chat", last_event_id="earliest"))
    broker.subscribe("other")
    for count, subscription in enumerate(subscriptions, 1):
        await take(subscription, 1)
        assert await readers() == count
    async with Connection(EventSourceResponse(broker.subscribe("chat", last_event_id="earliest"))) as client:
        await client.until(b"data: 1")
        assert await readers() == 5
    assert await readers() == 4
    await subscriptions[3].aclose()
    assert await readers() == 3
    source.end()
    for subscription in subscriptions[:3]:
        assert await rest(subscription) == []
    del subscriptions, subscription
    gc.collect()
    await asyncio.sleep(0)
    assert await readers() == 0


async def test_channels_lists_what_is_run_and_nothing_of_the_brokers_own(broker: Broker) -> None:
    await broker.start("chat", [1, 2])
    await until_state(broker, "finished")
    await broker.start("stopped", forever())
    await broker.stop("stopped")
    for after in ("", "\x00", "\x01"):
        assert [channel.name for channel in await broker.channels(after=after)] == ["chat", "stopped"]
    chat, stopped = await broker.channels()
    assert (chat.events, chat.finished, stopped.finished) == (2, True, True)


async def test_a_run_is_forgotten_with_its_channel(log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        await broker.start("chat", [1])
        await until_state(broker, "finished")
        async with asyncio.timeout(PATIENCE):
            while await state_of(broker) != "unknown":
                await broker.publish("other", "goes on")
                await asyncio.sleep(0.02)
        assert await broker.stop("chat") is False


async def test_one_that_is_running_is_not_forgotten(log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.1) as broker:
        source = Told()
        await broker.start("chat", source.items())
        source.tell(1)
        await until_events(broker, 1)
        await broker.start("short", [1])
        async with asyncio.timeout(PATIENCE):
            while await state_of(broker, "short") != "unknown":
                await broker.publish("other", "goes on")
                await asyncio.sleep(0.02)
        assert await state_of(broker) == "running"
        with pytest.raises(ChannelBusy):
            await broker.start("chat", [1])
        subscription = broker.subscribe("chat")
        reading = asyncio.create_task(rest(subscription))
        await until(lambda: subscription._reader is not None and subscription._reader.epoch, "it reads")
        source.tell(2)
        source.end()
        assert data(await reading)[-1:] == [2]


# -- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grace", [30.0, None])
async def test_what_can_finish_is_let_finish_when_the_broker_is_closed(log: Log, grace: float | None) -> None:
    broker = Broker(**log, background_grace=grace)
    await broker.__aenter__()
    sources = {channel: Told() for channel in ("a", "b")}
    for channel, source in sources.items():
        await broker.start(channel, source.items())
        source.tell(1)
    reading = asyncio.create_task(all_of(broker, "a"))
    await until_events(broker, 1, "a")
    await until_events(broker, 1, "b")
    closing = asyncio.create_task(close(broker))
    sources["a"].tell(2)
    sources["a"].end()
    assert shown(await reading) == [1, 2]
    assert not closing.done()
    sources["b"].tell(3)
    sources["b"].end()
    await closing
    async with broker:
        for channel, last in (("a", 2), ("b", 3)):
            assert shown(await all_of(broker, channel)) == [1, last]
            assert await state_of(broker, channel) == "finished"


async def test_a_source_may_publish_while_the_broker_is_closed(log: Log) -> None:
    broker = Broker(**log, background_grace=30)
    await broker.__aenter__()
    go = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        await go.wait()
        yield await broker.publish("log", "still here")

    await broker.start("chat", source())
    closing = asyncio.create_task(close(broker))
    await asyncio.sleep(0.01)
    go.set()
    await closing
    async with broker:
        assert len(await all_of(broker)) == 1
        assert data(await take(broker.subscribe("log", last_event_id="earliest"), 1)) == ["still here"]


@pytest.mark.parametrize("grace", [0, 0.05])
async def test_what_does_not_finish_is_cancelled_and_aborted_when_the_broker_is_closed(log: Log, grace: float) -> None:
    broker = Broker(**log, background_grace=grace)
    await broker.__aenter__()
    sources = [Told() for _ in range(5)]
    for number, source in enumerate(sources):
        await broker.start(f"chat {number}", source.items())
        source.tell(1)
        await until_events(broker, 1, f"chat {number}")
    reading = asyncio.create_task(all_of(broker, "chat 0"))
    await asyncio.sleep(0.01)
    await close(broker)
    assert [source.notes for source in sources] == [["CancelledError", "finally"]] * 5
    assert shown(await reading) == [1, SHUTDOWN]
    async with broker:
        for number in range(5):
            assert shown(await all_of(broker, f"chat {number}")) == [1, SHUTDOWN]
            assert await state_of(broker, f"chat {number}") == "aborted"
        await broker.start("chat 0", ["again"])
        assert shown(await all_of(broker, "chat 0")) == [1, SHUTDOWN, "again"]


@pytest.mark.parametrize("turns", range(6))
async def test_a_broker_can_be_closed_as_soon_as_a_run_is_started(log: Log, turns: int) -> None:
    broker = Broker(**log, background_grace=0)
    await broker.__aenter__()
    source = Closable(1_000_000)
    await broker.start("chat", source)
    for _ in range(turns):
        await asyncio.sleep(0)
    await close(broker)
    assert source.closed == 1
    async with broker:
        assert shown(await all_of(broker))[-1] == SHUTDOWN


async def test_closing_leaves_no_task_and_no_thread_behind(log: Log) -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    broker = Broker(**log, background_grace=0)
    async with broker:
        for number, kind in enumerate((forever, lambda: iter(lambda: 1, 0), lambda: range(10_000))):
            await broker.start(f"chat {number}", kind())
        await broker.stop("chat 0")
        await broker.start("chat 0", forever())
    await until(lambda: asyncio.all_tasks() <= tasks, "no task is left")
    await until(lambda: set(threading.enumerate()) <= threads, "no thread is left")


async def test_a_closing_that_is_cancelled_leaves_runs_that_are_soon_known_to_be_lost(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_leases(monkeypatch)
    broker = Broker(**log, background_grace=30)
    await broker.__aenter__()
    source = Told()
    await broker.start("chat", source.items())
    source.tell(1)
    await until_events(broker, 1)
    closing = asyncio.create_task(close(broker))
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.wait([closing])
    await until(lambda: source.notes == ["CancelledError", "finally"], "the source is closed")
    async with broker:
        *before, last = await all_of(broker)
        assert shown([*before, last]) in ([1, LOST], [1, SHUTDOWN])
        assert await state_of(broker) == "aborted"
        await broker.start("chat", ["again"])
        assert shown(await rest(broker.subscribe("chat", last_event_id=last.id))) == ["again"]


# -- leftovers --------------------------------------------------------------------------------------------------------


async def ended_by_itself(broker: Broker, number: int) -> None:
    await broker.start("chat", pausing(number % 7))
    await until_state(broker, "finished")


async def stopped(broker: Broker, number: int) -> None:
    await broker.start("chat", waiting([]))
    for _ in range(number % 7):
        await asyncio.sleep(0)
    await broker.stop("chat")


async def failed_at_an_item(broker: Broker, number: int) -> None:
    await broker.start("chat", [*range(number % 7), object()])
    await until_state(broker, "failed")


async def busy(broker: Broker, number: int) -> None:
    await broker.start("chat", waiting([]))
    with pytest.raises(ChannelBusy):
        await broker.start("chat", iter([1]))
    await broker.stop("chat")


async def in_a_thread(broker: Broker, number: int) -> None:
    await broker.start("chat", iter(range(number % 7)))
    await until_state(broker, "finished")


@pytest.mark.parametrize("run", [ended_by_itself, stopped, failed_at_an_item, busy, in_a_thread])
async def test_a_run_that_has_ended_leaves_nothing_behind(
    log: Log, run: Callable[[Broker, int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidings.broker.background.runner.logger.disabled", True)  # its records would be kept
    async with Broker(**log, history=10) as broker:

        async def runs(count: int) -> None:
            for number in range(count):
                await run(broker, number)

        # Each run leaves the loop a cancelled timer and its context; the first ones of a process leave a few things.
        await check_nothing_stays(runs, 40, spare=120)


# -- from other threads -----------------------------------------------------------------------------------------------


async def test_a_run_is_started_and_stopped_from_another_thread(broker: Broker) -> None:
    source = Told()
    await asyncio.to_thread(broker.start_sync, "chat", source.items(), timeout=60)
    source.tell(1)
    await until_events(broker, 1)
    with pytest.raises(ChannelBusy):
        await asyncio.to_thread(broker.start_sync, "chat", [1])
    assert await asyncio.to_thread(broker.stop_sync, "chat") is True
    assert source.notes == ["CancelledError", "finally"]
    assert await asyncio.to_thread(broker.stop_sync, "chat") is False
    check_stopped(await all_of(broker), [1])


async def test_the_thread_of_the_event_loop_is_not_blocked_by_a_start_or_a_stop(broker: Broker) -> None:
    with pytest.raises(RuntimeError, match="block the event loop"):
        broker.start_sync("chat", [1])
    with pytest.raises(RuntimeError, match="block the event loop"):
        broker.stop_sync("chat")
    assert await state_of(broker) == "unknown"
