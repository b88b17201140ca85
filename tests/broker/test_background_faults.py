"""Background streams among processes that are killed, frozen, and all come at the same moment."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.broker.background_processes import Process, open_broker
from tests.broker.conftest import Log
from tests.broker.contract.background import LOST, SHUTDOWN, STOPPED, all_of, shown, state_of, until_events, until_state
from tests.broker.contract.reading import ids, sequence
from tests.broker.redis_server import RedisServer
from tests.broker.sqlite_processes import until
from tidings import Broker
from tidings.broker import DeliveredEvent
from tidings.broker.background.runner import PATIENCE
from tidings.errors import ChannelBusy

pytestmark = pytest.mark.anyio

LEASE, NOTICED = 10.0, 12.0
"""Seconds for which a producer is taken for alive, and within which it is noticed that it is lost."""

NewLog = Callable[[], Log]
Run = Callable[[str, Log], Process]


@pytest.fixture(params=["sqlite", "redis"])
def new_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewLog]:
    """Makes logs that hold nothing yet."""
    numbers = count(1)
    if request.param == "sqlite":
        yield lambda: {"url": f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"}
    else:
        with RedisServer(tmp_path / "redis") as redis:
            yield lambda: {"url": redis.url, "namespace": f"log-{next(numbers)}"}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start processes that end with the test."""
    with ExitStack() as stack:
        yield lambda name, log: stack.enter_context(Process(tmp_path, name, log))


class Reading:
    """A reader of a channel from its beginning to its end, and when each event came to it."""

    def __init__(self, broker: Broker, channel: str) -> None:
        self.events: list[DeliveredEvent] = []
        self.moments: list[float] = []
        self._task = asyncio.create_task(self._read(broker, channel))

    async def _read(self, broker: Broker, channel: str) -> None:
        async for event in broker.subscribe(channel, last_event_id="earliest"):
            self.events.append(event)
            self.moments.append(time.monotonic())

    async def until(self, number: int) -> None:
        """Wait for so many events."""
        await until(lambda: len(self.events) >= number or self._task.done(), f"{number} events")
        assert len(self.events) >= number, f"ended after {shown(self.events[-5:])}"

    async def all(self) -> list[DeliveredEvent]:
        """All events, when the channel is finished."""
        async with asyncio.timeout(60):
            await self._task
        return self.events


def check_cut(events: Sequence[DeliveredEvent], name: str, ending: Any) -> None:
    """What a process gave, each once and in order, and then the broker's own event."""
    assert shown(events) == [*([name, number] for number in range(len(events) - 1)), ending]
    sequences = [sequence(id) for id in ids(events)]
    assert sequences == sorted(set(sequences))


# -- processes that are lost, or only seem to be ----------------------------------------------------------------------


async def test_the_streams_of_lost_producers_end_and_those_of_all_others_go_on(new_log: NewLog, run: Run) -> None:
    """With the leases as they are: all that takes long takes place at the same time."""
    log = new_log()
    async with open_broker(log) as broker, open_broker(log) as other, asyncio.TaskGroup() as scenes:
        scenes.create_task(killed(run("killed", log), broker, other))
        scenes.create_task(frozen_past_its_lease(run("frozen", log), broker, other))
        scenes.create_task(frozen_for_less(run("late", log), broker))
        scenes.create_task(nobody_is_there(run("alone", apart := new_log()), apart))
        scenes.create_task(all_frozen(run, new_log()))


async def killed(process: Process, broker: Broker, other: Broker) -> None:
    channels = [f"killed-{number}" for number in range(4)]
    stopped = "killed-stopped"
    await process.start(*channels, stopped)
    readings = [Reading(reader, channel) for channel in channels for reader in (broker, other)]
    for reading in readings:
        await reading.until(20)
    seen = [len(reading.events) for reading in readings]
    process.kill()
    at = time.monotonic()
    with pytest.raises(ChannelBusy):  # nobody can know yet
        await other.start(channels[0], [])
    assert await other.stop(stopped) is True
    for reading, before in zip(readings, seen, strict=True):
        events = await reading.all()
        assert len(events) > before
        assert reading.moments[-1] - at < NOTICED
        check_cut(events, "killed", LOST)
    for channel, reading in zip(channels, readings[::2], strict=True):
        status = await other.status(channel)
        assert (status.state, status.events) == ("aborted", len(reading.events) - 1)
        await other.start(channel, ["again"])
        events = await all_of(broker, channel)
        assert ids(events)[:-1] == ids(reading.events)
        assert events[-1].data == "again"
    check_cut(await all_of(broker, stopped), "killed", STOPPED)


async def frozen_past_its_lease(process: Process, broker: Broker, other: Broker) -> None:
    channels = ["frozen-1", "frozen-2", "quiet"]
    await process.start("frozen-1", "frozen-2", "quiet 600")  # that waits behind its first item
    readings = [Reading(broker, channel) for channel in channels]
    for reading, number in zip(readings, (20, 20, 1), strict=True):
        await reading.until(number)
    await process.freeze_apart(broker)
    at = time.monotonic()
    for reading in readings:
        check_cut(await reading.all(), "frozen", LOST)
        assert reading.moments[-1] - at < NOTICED
    assert await other.stop(channels[0]) is False
    running = asyncio.Event()
    await other.start(channels[1], again(running))  # it finds another one in its place
    process.tell("start frozen-3")  # for when it is alive, after all
    process.wake()
    for channel in channels:
        await process.tells(f"left {channel}")
    await until_events(broker, 20, "frozen-3")
    assert await state_of(broker, channels[1]) == "running"
    running.set()
    await until_state(broker, "finished", channels[1])
    await process.close()
    for channel, reading in zip(channels, readings, strict=True):
        more = ["again", "and again"] if channel == channels[1] else []
        assert shown(await all_of(other, channel)) == shown(reading.events) + more
    check_cut(await all_of(other, "frozen-3"), "frozen", SHUTDOWN)


async def again(running: asyncio.Event) -> Any:
    yield "again"
    await running.wait()
    yield "and again"


async def frozen_for_less(process: Process, broker: Broker) -> None:
    """For so long that a lease which was about to be renewed isn't over yet."""
    await process.start("late")
    reading = Reading(broker, "late")
    await reading.until(20)
    await process.freeze_apart(broker)
    await asyncio.sleep(LEASE / 2)
    before = len(reading.events)
    process.wake()
    await asyncio.sleep(NOTICED - LEASE / 2)  # until it would have been noticed
    process.tell("finish late")
    events = await reading.all()
    assert shown(events) == [["late", number] for number in range(len(events))]
    assert len(events) > before
    assert await state_of(broker, "late") == "finished"


async def nobody_is_there(process: Process, log: Log) -> None:
    """When the lease runs out: who comes later ends the stream."""
    await process.start("chat")
    process.kill()
    await asyncio.sleep(LEASE)
    async with open_broker(log) as broker:
        at = time.monotonic()
        reading = Reading(broker, "chat")
        check_cut(await reading.all(), "alone", LOST)
        assert reading.moments[-1] - at < LEASE
        assert await state_of(broker, "chat") == "aborted"


async def all_frozen(run: Run, log: Log) -> None:
    """As on a machine that was suspended: who wakes first doesn't take for lost who has yet to renew its lease."""
    processes = [run("first", log), run("second", log)]
    for process in processes:
        await process.start(process.name)
    for process in processes:
        process.freeze()
    await asyncio.sleep(NOTICED + 1.5)
    for process in processes:
        process.wake()
        process.tell("stop nobody")
        await process.tells("stop nobody")
        await asyncio.sleep(1.5)
    async with open_broker(log) as broker:
        readings = [Reading(broker, process.name) for process in processes]
        for reading in readings:
            await reading.until(len(reading.events) + 150)  # until it would have been noticed
        for process, reading in zip(processes, readings, strict=True):
            process.tell(f"finish {process.name}")
            events = await reading.all()
            assert shown(events) == [[process.name, number] for number in range(len(events))]
            assert await state_of(broker, process.name) == "finished"


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_of_processes_that_start_at_the_same_moment_one_is_taken(new_log: NewLog, run: Run) -> None:
    log, rounds, step = new_log(), 50, 0.04
    processes = [run(f"process-{number}", log) for number in range(3)]
    for process in processes:
        await process.says("open")
    begin = time.monotonic() + 0.2
    for process in processes:
        process.tell(f"race {rounds} {begin} {step}")
    async with open_broker(log) as broker:
        for number in range(rounds):
            channel = f"race-{number}"
            await until(partial(all_said, processes, channel), channel)
            assert sorted(said(process, channel)[0] for process in processes) == ["busy", "busy", "started"]
            (winner,) = (process for process in processes if said(process, channel) == ["started"])
            status = await broker.status(channel)
            assert status.state == "running"
            assert status.producer is not None
            assert f":{winner.process.pid}:" in status.producer
        for process in processes:
            await process.close()
        for number in range(rounds):
            events = await all_of(broker, f"race-{number}")
            (winner,) = (process for process in processes if said(process, f"race-{number}") == ["started"])
            check_cut(events, winner.name, SHUTDOWN)
            assert len(events) == 2


def all_said(processes: Sequence[Process], channel: str) -> bool:
    return all(said(process, channel) for process in processes)


def said(process: Process, channel: str) -> list[str]:
    """What it has said of how its start went."""
    return [what for what in ("started", "busy") if f"{what} {channel}" in process.lines]


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_another_process_stops_a_source_within_a_second(new_log: NewLog, run: Run) -> None:
    log = new_log()
    process = run("process", log)
    async with open_broker(log) as broker:
        took = []
        for number in range(5):
            channel = f"chat-{number}"
            await process.start(channel)
            reading = Reading(broker, channel)
            await reading.until(10)
            at = time.monotonic()
            assert await broker.stop(channel) is True
            returned = time.monotonic()
            left = float(await process.tells(f"left {channel}"))
            assert at < left < returned
            took.append(left - at)
            assert await state_of(broker, channel) == "stopped"
            check_cut(await reading.all(), "process", STOPPED)
            assert await broker.stop(channel) is False
        # Three of five: the machine that runs the tests has other things to do as well.
        assert sorted(took)[2] < 1, took
        await process.close()
        assert len(process.told_of("left")) == 5


async def test_two_processes_stop_one_of_a_third_at_once(new_log: NewLog, run: Run) -> None:
    log = new_log()
    process, other = run("process", log), run("other", log)
    async with open_broker(log) as broker:
        for number in range(10):
            channel = f"chat-{number}"
            await process.start(channel)
            reading = Reading(broker, channel)
            await reading.until(5)
            other.tell(f"stop {channel}")
            stopped = await broker.stop(channel)
            assert await other.tells(f"stop {channel}") == "True" or stopped
            check_cut(await reading.all(), "process", STOPPED)
            assert len(process.told_of(f"left {channel}")) == 1


async def test_the_stream_of_a_frozen_process_can_be_stopped(new_log: NewLog, run: Run) -> None:
    log = new_log()
    process = run("process", log)
    async with open_broker(log) as broker:
        await process.start("chat")
        reading = Reading(broker, "chat")
        await reading.until(20)
        await process.freeze_apart(broker)
        at = time.monotonic()
        assert await broker.stop("chat") is True
        assert PATIENCE - 0.1 < time.monotonic() - at < PATIENCE + 5
        assert await state_of(broker, "chat") == "stopped"
        check_cut(await reading.all(), "process", STOPPED)
        process.wake()
        await process.tells("left chat")
        await process.close()
        assert shown(await all_of(broker, "chat")) == shown(reading.events)
        assert await state_of(broker, "chat") == "stopped"


async def test_a_source_that_ends_while_it_is_stopped_has_one_ending(new_log: NewLog, run: Run) -> None:
    log = new_log()
    process = run("process", log)
    chance = random.Random(6)
    async with open_broker(log) as broker:

        async def end_somehow(channel: str) -> str:
            await process.start(channel)
            await until_events(broker, 3, channel)
            ahead = chance.uniform(-0.04, 0.04)
            if ahead < 0:  # a busy machine may take longer to pass it on than to stop
                process.tell(f"finish {channel}")
                await asyncio.sleep(-ahead)
            stopping = asyncio.create_task(broker.stop(channel))
            if ahead >= 0:
                await asyncio.sleep(ahead)
                process.tell(f"finish {channel}")
            stopped = await stopping
            state = await state_of(broker, channel)
            events = await all_of(broker, channel)
            if state == "stopped":
                assert stopped
                check_cut(events, "process", STOPPED)
            else:
                assert state == "finished"
                assert shown(events) == [["process", number] for number in range(len(events))]
            assert (await broker.status(channel)).events == len(events) - (state == "stopped")
            return state

        states = [await end_somehow(f"chat-{number}") for number in range(40)]
        await process.close()
        for number, state in enumerate(states):
            assert await state_of(broker, f"chat-{number}") == state
            assert len(process.told_of(f"left chat-{number}")) == 1
    assert set(states) == {"finished", "stopped"}
