"""Background streams where several brokers are open on one log: any of them reads, stops and watches all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

import pytest

from tests.broker.conftest import Log
from tests.broker.contract.background import (
    LOST,
    SHUTDOWN,
    STOPPED,
    Closable,
    Told,
    all_of,
    check_stopped,
    close,
    counting,
    forever,
    reply,
    short_leases,
    shown,
    state_of,
    until_events,
    until_state,
    waiting,
)
from tests.broker.contract.reading import data, ids, rest, take, until
from tidings import Broker
from tidings.errors import BackgroundLimit, ChannelBusy

T = TypeVar("T")


@pytest.fixture
async def machines(log: Log) -> AsyncIterator[list[Broker]]:
    """Three brokers on one log, whose runs don't hold up the end of a test."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Broker(**log, background_grace=0)) for _ in range(3)]


class Process:
    """A broker on an event loop of its own, which can be frozen as if its process was stopped."""

    def __init__(self, log: Log) -> None:
        self.broker = Broker(**log, background_grace=0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._awake = threading.Event()

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run this on the other loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def freeze(self) -> None:
        """Nothing happens there from now on."""
        frozen = threading.Event()

        def wait() -> None:
            frozen.set()
            self._awake.wait()

        self._awake.clear()
        self._loop.call_soon_threadsafe(wait)
        await until(frozen.is_set, "the other loop stands still")

    def wake(self) -> None:
        self._awake.set()

    async def __aenter__(self) -> Self:
        self._thread.start()
        await self.call(self.broker.__aenter__())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.wake()
        try:
            await self.call(close(self.broker))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await until(lambda: not self._thread.is_alive(), "the other loop has ended")
            self._loop.close()


# -- readers ----------------------------------------------------------------------------------------------------------


async def test_what_one_broker_runs_is_read_at_all(machines: list[Broker]) -> None:
    source = Told()
    await machines[0].start("chat", source.items())
    reading = [asyncio.create_task(all_of(broker)) for broker in machines for _ in range(3)]
    for number in range(50):
        source.tell(number)
        await asyncio.sleep(0)
    source.end()
    for events in await asyncio.gather(*reading):
        assert shown(events) == list(range(50))
    for broker in machines:
        assert await state_of(broker) == "finished"
        assert (await reply(broker, last_event_id=events[-1].id)).status == 204


async def test_who_reloads_resumes_at_any_broker_and_sees_each_token_once(machines: list[Broker]) -> None:
    source = Told()
    await machines[0].start("chat", source.items())
    seen = []
    for number in range(30):
        source.tell(2 * number, 2 * number + 1)
        last = seen[-1].id if seen else "earliest"
        async with machines[number % 3].subscribe("chat", last_event_id=last) as subscription:
            seen += await take(subscription, 1 + number % 2)
    source.end()
    seen += await rest(machines[1].subscribe("chat", last_event_id=seen[-1].id))
    assert shown(seen) == list(range(60))
    assert ids(seen) == ids(await all_of(machines[2]))


async def test_who_saw_all_of_what_was_before_waits_for_what_another_broker_starts(machines: list[Broker]) -> None:
    one, other, third = machines
    last = await one.publish("chat", "old")
    await other.finish("chat")
    source = Told()
    await one.start("chat", source.items())
    subscription = third.subscribe("chat", last_event_id=last)
    waiting = asyncio.create_task(rest(subscription))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    source.tell("new")
    source.end()
    assert shown(await waiting) == ["new"]


async def test_what_is_known_of_a_run_is_the_same_at_all_but_for_the_readers(machines: list[Broker]) -> None:
    one, other, third = machines
    source = Told()
    await one.start("chat", source.items())
    source.tell(1, 2)
    await until_events(third, 2)
    subscription = other.subscribe("chat", last_event_id="earliest")
    await take(subscription, 1)
    statuses = [await broker.status("chat") for broker in machines]
    assert [status.readers for status in statuses] == [0, 1, 0]
    assert len({(status.state, status.since, status.producer, status.events) for status in statuses}) == 1
    await other.start("chat 2", [])
    await until_state(third, "finished", "chat 2")
    assert (await third.status("chat 2")).producer != statuses[0].producer
    source.end()


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_what_another_broker_runs_is_busy(machines: list[Broker]) -> None:
    source = Told()
    await machines[0].start("chat", source.items())
    for broker in machines:
        refused = Closable()
        with pytest.raises(ChannelBusy):
            await broker.start("chat", refused)
        assert refused.closed == 1
    source.tell(1)
    source.end()
    await until_state(machines[1], "finished")
    await machines[1].start("chat", [2])
    assert shown(await all_of(machines[2])) == [1, 2]


async def test_of_starts_at_several_brokers_at_the_same_moment_one_is_taken(machines: list[Broker]) -> None:
    for number in range(30):
        channel = f"chat {number}"
        sources = [Closable(1_000_000) for _ in machines]
        starting = [broker.start(channel, source) for broker, source in zip(machines, sources, strict=True)]
        if number % 2:
            starting.reverse()
            sources.reverse()
        results = await asyncio.gather(*starting, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["ChannelBusy", "ChannelBusy", "NoneType"]
        assert [source.closed for source in sources] == [int(result is not None) for result in results]
        assert await machines[number % 3].stop(channel) is True
        assert [source.closed for source in sources] == [1] * 3
        events = await all_of(machines[0], channel)
        numbers = data(events[:-1])  # the newest: such a source gives more than is retained
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        check_stopped(events, numbers)


async def test_each_process_may_run_max_background(log: Log) -> None:
    options: dict[str, Any] = {"max_background": 1, "background_grace": 0}
    async with Broker(**log, **options) as one, Broker(**log, **options) as other:
        await one.start("a", Told().items())
        await other.start("b", Told().items())
        for broker in (one, other):
            with pytest.raises(BackgroundLimit):
                await broker.start("c", [1])


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_another_broker_stops_a_source_that_waits(machines: list[Broker]) -> None:
    one, other, third = machines
    source = Told()
    await one.start("chat", source.items())
    reading = asyncio.create_task(all_of(third))
    source.tell(1, 2)
    await until_events(other, 2)
    assert await other.stop("chat") is True
    assert source.notes == ["CancelledError", "finally"]
    check_stopped(await reading, [1, 2])
    for broker in machines:
        assert await state_of(broker) == "stopped"
        assert await broker.stop("chat") is False


async def test_another_broker_stops_sources_that_never_wait(machines: list[Broker]) -> None:
    left: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            left.append("async")

    def in_a_thread() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            left.append("sync")

    await machines[0].start("async", source())
    await machines[0].start("sync", in_a_thread())
    for channel in ("async", "sync"):
        await until_events(machines[1], 1, channel)
        assert await machines[1].stop(channel) is True
        assert left.pop() == channel
        assert shown(await all_of(machines[2], channel))[-1] == STOPPED
        assert await state_of(machines[0], channel) == "stopped"


async def test_several_brokers_may_stop_it_at_once(machines: list[Broker]) -> None:
    for number in range(5):
        notes: list[str] = []
        await machines[0].start(f"chat {number}", waiting(notes))
        await until_events(machines[0], 1, f"chat {number}")
        stopping = [broker.stop(f"chat {number}") for broker in machines for _ in range(2)]
        assert True in await asyncio.gather(*stopping)
        assert notes == ["finally"]
        check_stopped(await all_of(machines[1], f"chat {number}"), ["first"])


async def test_another_broker_stops_the_one_run_that_it_names(machines: list[Broker]) -> None:
    sources = [Told() for _ in range(20)]
    for number, source in enumerate(sources):
        await machines[number % 2].start(f"chat {number}", source.items())
    assert await asyncio.gather(*(machines[2].stop(f"chat {number}") for number in range(0, 20, 3))) == [True] * 7
    for number, source in enumerate(sources):
        assert source.notes == ([] if number % 3 else ["CancelledError", "finally"])
        source.end()
        await until_state(machines[2], "finished" if number % 3 else "stopped", f"chat {number}")


async def test_what_brokers_tell_each_other_is_shown_to_nobody(machines: list[Broker]) -> None:
    for broker in machines:
        await broker.start("chat", forever())
        for other in machines:
            if other is not broker:
                assert await other.stop("chat") is True
                await broker.start("chat", forever())
        await broker.stop("chat")
    for broker in machines:
        for after in ("", "\x00", "\x01"):
            assert [channel.name for channel in await broker.channels(after=after)] == ["chat"]
        assert [channel.name for channel in await broker.channels(limit=1)] == ["chat"]


# -- who goes, and who is lost ----------------------------------------------------------------------------------------


async def test_what_a_broker_aborts_as_it_is_closed_can_be_started_elsewhere(log: Log) -> None:
    async with Broker(**log, background_grace=0) as one:
        reading: asyncio.Task[Any]
        async with Broker(**log, background_grace=0) as other:
            await other.start("chat", waiting([]))
            reading = asyncio.create_task(all_of(one))
            await until_events(one, 1)
        assert shown(await reading) == ["first", SHUTDOWN]
        assert await state_of(one) == "aborted"
        await one.start("chat", counting(3))
        assert shown(await all_of(one)) == ["first", SHUTDOWN, 0, 1, 2]


async def test_a_rolling_restart_loses_no_token_of_a_stream_that_can_finish(log: Log) -> None:
    async def source(channel: int) -> AsyncIterator[list[int]]:
        for number in range(40):
            await asyncio.sleep(0.002)
            yield [channel, number]

    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(Broker(**log))
        for generation in range(3):
            reading = []
            async with Broker(**log, background_grace=30) as broker:
                for channel in range(5):
                    await broker.start(f"{generation} {channel}", source(channel))
                    reading.append(asyncio.create_task(all_of(reader, f"{generation} {channel}")))
                await until_events(reader, 3, f"{generation} 0")
            for channel, events in enumerate(await asyncio.gather(*reading)):
                assert data(events) == [[channel, number] for number in range(40)]


async def test_what_a_frozen_process_runs_is_ended_by_another_and_nothing_of_it_appears_later(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_leases(monkeypatch)
    monkeypatch.setattr("tidings.broker.background.leases._ENDED_AT_ONCE", 3)
    left: list[int] = []

    async def source(number: int) -> AsyncIterator[int]:
        try:
            async for item in forever():
                yield item
        finally:
            left.append(number)

    async with Process(log) as process, Broker(**log) as one, Broker(**log, background_grace=0) as other:
        idle = Told()
        await other.start("idle", idle.items())
        channels = [f"chat {number}" for number in range(8)]
        for number, channel in enumerate(channels):
            await process.call(process.broker.start(channel, source(number)))
        reading = [asyncio.create_task(all_of(one, channel)) for channel in channels]
        await until_events(one, 1, channels[-1])
        await process.freeze()
        ended = [shown(events) for events in await asyncio.gather(*reading)]
        for events in ended:
            assert events[:-1] == list(range(len(events) - 1))
            assert events[-1] == LOST
        for channel in channels:
            for broker in (one, other):
                assert await state_of(broker, channel) == "aborted"
        await other.start(channels[0], ["again"])
        process.wake()
        await until(lambda: len(left) == 8, "all sources have been closed")
        for channel, events in zip(channels, ended, strict=True):
            again = ["again"] if channel == channels[0] else []
            assert shown(await all_of(one, channel)) == events + again
        await process.call(process.broker.start("chat 1", counting(2)))  # it is alive, after all
        assert shown(await all_of(other, "chat 1")) == [*ended[1], 0, 1]
        idle.end()
        await until_state(one, "finished", "idle")  # whose lease was renewed


async def test_a_run_is_kept_for_as_long_as_its_lease_is_renewed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    short_leases(monkeypatch, 1.0)
    async with Process(log) as process, Broker(**log) as other:
        await process.call(process.broker.start("chat", forever()))
        subscription = other.subscribe("chat", last_event_id="earliest")
        started = asyncio.get_running_loop().time()
        expected = 0
        while asyncio.get_running_loop().time() < started + 3:
            (event,) = await take(subscription, 1)
            assert event.data == expected
            expected += 1
        assert await other.stop("chat") is True
        assert shown(await all_of(other))[-1] == STOPPED


async def test_what_a_frozen_process_runs_can_be_stopped(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.broker.background.producer.PATIENCE", 0.2)
    async with Process(log) as process, Broker(**log) as other:
        await process.call(process.broker.start("chat", forever()))
        await until_events(other, 3)
        await process.freeze()
        assert await other.stop("chat") is True
        assert await state_of(other) == "stopped"
        stopped = shown(await all_of(other))
        assert stopped == [*range(len(stopped) - 1), STOPPED]
        process.wake()
        await process.call(process.broker.start("chat", ["again"]))
        assert shown(await all_of(other)) == [*stopped, "again"]
