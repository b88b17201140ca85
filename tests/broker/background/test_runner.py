"""What drives one source: what it writes and when, and what it does when it can't write."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi import PATIENCE
from tests.broker.background.storages import BEFORE, BEHIND, FINE, Faulty, opened, stored
from tests.broker.contract.background import Closable, Told, forever
from tests.broker.contract.reading import examples_of, until
from tidings.broker.background import runner as module
from tidings.broker.background.endings import LOST, SHUTDOWN, STOPPED
from tidings.broker.background.runner import Place, Runner
from tidings.broker.reader import OpenBroker, Reader
from tidings.broker.run import State
from tidings.sources.content import open_source
from tidings.testing.clock import advance

pytestmark = pytest.mark.anyio

MOST = module._MOST


@pytest.fixture
async def broker() -> AsyncIterator[OpenBroker]:
    async with opened(Faulty()) as broker:
        yield broker


@pytest.fixture
def storage(broker: OpenBroker) -> Faulty:
    return storage_of(broker)


def storage_of(broker: OpenBroker) -> Faulty:
    assert isinstance(broker.storage, Faulty)
    return broker.storage


async def run(
    broker: OpenBroker, source: Any, timeout: float | None = None, ended: list[Runner] | None = None
) -> Runner:
    """A run that is recorded in the channel `chat`."""
    assert await broker.storage.begin("chat", "the run", "the producer", 10.0)
    place = Place(broker, "the producer", 1_000_000, expose_errors=False)
    on_end = [].append if ended is None else ended.append
    return Runner(place, "chat", "the run", open_source(source), timeout, on_end)


async def run_held(broker: OpenBroker, source: Any) -> Runner:
    """A run none of whose writes comes through for now."""
    runner = await run(broker, source)
    storage_of(broker).flows.clear()
    return runner


async def until_ended(runner: Runner) -> None:
    done, _ = await asyncio.wait([runner.ended], timeout=PATIENCE)
    assert done, "the run goes on"


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "coroutine object Runner." in repr(task.get_coro())}


def timers() -> list[asyncio.TimerHandle]:
    """What the event loop is to call at a later time."""
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


# -- what is written, and when ----------------------------------------------------------------------------------------


async def test_a_single_token_is_written_at_once(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    await run(broker, source.items())
    await turn(3)  # it waits for its first token
    for number in range(5):
        before = timers()
        source.tell(number)
        await turn(4)  # the source is woken, and its token is written by another task
        assert storage.writes == [1] * (number + 1)
        assert timers() == before
    source.end()


async def test_tokens_given_while_a_write_is_under_way_go_in_one(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items())
    storage.flows.clear()
    source.tell("first")
    await until(lambda: storage.waiting, "the first is being written")
    for number in range(100):
        source.tell(number)
        await turn(2)
    assert storage.writes == [1]
    storage.flows.set()
    await until(lambda: len(storage.entries("chat")) == 101, "all are stored")
    assert storage.writes == [1, 100]
    source.end()
    await until_ended(runner)
    assert stored(storage.entries("chat")) == ['"first"', *map(str, range(100))]


async def test_a_source_that_never_waits_is_not_two_batches_ahead_of_a_slow_storage(
    broker: OpenBroker, storage: Faulty
) -> None:
    given: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in range(10 * MOST):
            given.append(number)
            yield number

    runner = await run_held(broker, source())
    for _ in range(10):
        await until(lambda: storage.waiting or runner.ended.done(), "a batch is being written")
        await turn(50)
        assert len(given) <= len(storage.entries("chat")) + 2 * MOST
        storage.flows.set()
        await turn(1)
        storage.flows.clear()
    storage.flows.set()
    await until_ended(runner)
    assert max(storage.writes) <= MOST + 1
    assert stored(storage.entries("chat")) == [str(number) for number in range(10 * MOST)]


async def test_a_batch_of_large_events_is_bounded_by_its_bytes(broker: OpenBroker, storage: Faulty) -> None:
    async def source() -> AsyncIterator[str]:
        for _ in range(40):
            yield "x" * 100_000

    await until_ended(await run(broker, source()))
    assert max(storage.writes) <= 4
    assert len(storage.entries("chat")) == 40


@pytest.mark.parametrize("slow", [False, True])
async def test_a_source_that_never_waits_lets_other_tasks_run(
    broker: OpenBroker, storage: Faulty, *, slow: bool
) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(20 * MOST):
            yield number

    runner = await (run_held if slow else run)(broker, source())
    turns = 0
    while not runner.ended.done():
        turns += 1
        if slow:
            storage.flows.set()
            await asyncio.sleep(0)
            storage.flows.clear()
        await asyncio.sleep(0)
    assert turns >= 20


async def test_many_readers_of_a_fast_source_stay_within_the_tail(broker: OpenBroker, storage: Faulty) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(5_000):
            yield number

    reads = 0

    async def count() -> int:
        reader = Reader(broker, ("chat",), "earliest")
        await reader.begin()
        events = 0
        while (batch := await reader.next()) is not None:
            events += len(batch.entries)
        reader.leave()
        return events

    counting = [asyncio.create_task(count()) for _ in range(200)]
    await until(lambda: broker.log.readers("chat") == 200, "all read")
    await turn(5)
    read = storage.read

    async def counted(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*args)

    storage.read = counted  # type: ignore[method-assign]
    runner = await run(broker, source())
    assert await asyncio.gather(*counting) == [5_000] * 200
    await until_ended(runner)
    assert reads <= 20


# -- when it can't be written -----------------------------------------------------------------------------------------


async def test_what_can_not_be_written_is_kept_until_it_can(
    broker: OpenBroker, storage: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    source = Told()
    runner = await run(broker, source.items())
    for outage in range(2):
        storage.fails = True
        source.tell(3 * outage, 3 * outage + 1)
        await advance(30)
        assert len(storage.entries("chat")) == 3 * outage
        source.tell(3 * outage + 2)
        storage.fails = False
        await advance(2)
        assert stored(storage.entries("chat")) == [str(number) for number in range(3 * outage + 3)]
    source.end()
    await until_ended(runner)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "can't write" in caplog.records[0].getMessage()


async def test_it_is_tried_again_less_and_less_often_and_once_in_a_while(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items())
    storage.fails = True
    source.tell(1)
    await advance(1)
    assert 3 <= len(storage.writes) <= 8
    storage.writes.clear()
    await advance(60)
    assert 30 <= len(storage.writes) <= 130
    storage.fails = False
    source.end()
    await advance(2)
    await until_ended(runner)


async def test_a_source_waits_while_nothing_can_be_written(broker: OpenBroker, storage: Faulty) -> None:
    given: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in range(10 * MOST):
            given.append(number)
            yield number

    runner = await run(broker, source())
    storage.fails = True
    await advance(20)
    assert len(given) <= 2 * MOST
    storage.fails = False
    await advance(2)
    await until_ended(runner)
    assert stored(storage.entries("chat")) == [str(number) for number in range(10 * MOST)]


@pytest.mark.parametrize("fault", [BEFORE, BEHIND])
@pytest.mark.parametrize("at", range(4))
async def test_a_write_that_failed_is_repeated_and_nothing_is_stored_twice(
    broker: OpenBroker, storage: Faulty, fault: str, at: int
) -> None:
    source = Told()
    runner = await run(broker, source.items())
    storage.faults.extend([FINE] * at + [fault, fault])
    for number in range(3):
        source.tell(number)
        await advance(1)
    source.end()
    await advance(2)
    await until_ended(runner)
    assert stored(storage.entries("chat")) == ["0", "1", "2"]
    assert storage.state("chat") is State.FINISHED


@pytest.mark.parametrize("fault", [BEFORE, BEHIND])
async def test_the_last_event_is_stored_once_though_its_write_failed(
    broker: OpenBroker, storage: Faulty, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner = await run(broker, forever())
    await until(lambda: storage.entries("chat"), "something is stored")
    await until(lambda: not storage.waiting, "nothing is being written")
    storage.faults.extend([fault] * 3)
    runner.stop(STOPPED)
    await advance(3)
    await until_ended(runner)
    assert stored(storage.entries("chat")).count("stopped {}") == 1
    assert stored(storage.entries("chat"))[-1] == "stopped {}"
    assert ["can't write" in message for message in caplog.messages] == [True]


faults = st.lists(st.sampled_from([FINE, FINE, BEFORE, BEHIND]), max_size=40)
pauses = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), max_size=25)


@examples_of(80)
@given(faults, pauses, st.sets(st.integers(0, 30), max_size=2), st.sampled_from(["end", "raise", "stop"]))
def test_nothing_is_lost_and_nothing_doubled_however_writes_fail(
    faults: list[str], pauses: list[tuple[int, int]], losses: set[int], last: str
) -> None:
    asyncio.run(scenario(faults, pauses, losses, last))


async def scenario(faults: list[str], pauses: list[tuple[int, int]], losses: set[int], last: str) -> None:
    """Tokens come in bursts, some writes fail, the log is lost now and then; each log holds what it was given."""
    async with opened(Faulty()) as broker:
        storage = storage_of(broker)
        source = Told()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_FIRST_DELAY", 0.0001)
            patch.setattr(module, "_LONGEST_DELAY", 0.0002)
            patch.setattr(module.logger, "disabled", True)
            runner = await run(broker, source.items())
            storage.faults.extend(faults)
            number = lost = 0
            for step, (burst, turns) in enumerate(pauses):
                if step in losses:
                    await settled(storage, runner, number - lost)  # else it may be in either log
                    storage.lose()
                    lost = number
                source.tell(*range(number, number + burst))
                number += burst
                await turn(turns)
            if last == "stop":
                await settled(storage, runner, number - lost)
                runner.stop(STOPPED)
            elif last == "raise":
                source.tell(object())
            else:
                source.end()
            await until_ended(runner)
        endings = {"stop": ["stopped {}"], "raise": ['failed {"error":"internal error"}'], "end": []}
        assert stored(storage.entries("chat")) == [*map(str, range(lost, number)), *endings[last]]
        states = {"stop": State.STOPPED, "raise": State.FAILED, "end": State.FINISHED}
        assert storage.state("chat") is states[last]


async def settled(storage: Faulty, runner: Runner, count: int) -> None:
    await until(lambda: len(storage.entries("chat")) == count and runner._writing is None, f"{count} are stored")


# -- when the log is lost ---------------------------------------------------------------------------------------------


async def test_a_run_goes_on_in_the_log_that_follows_one_that_was_lost(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items())
    source.tell(1, 2)
    await until(lambda: len(storage.entries("chat")) == 2, "they are stored")
    storage.lose()
    source.tell(3)
    await until(lambda: storage.entries("chat"), "it goes on")
    assert storage.state("chat") is State.RUNNING
    source.tell(4)
    source.end()
    await until_ended(runner)
    assert stored(storage.entries("chat")) == ["3", "4"]
    assert storage.state("chat") is State.FINISHED


@pytest.mark.parametrize("fault", [BEFORE, BEHIND])
async def test_an_answer_that_is_lost_as_it_begins_again_doubles_nothing(
    broker: OpenBroker, storage: Faulty, fault: str
) -> None:
    source = Told()
    runner = await run(broker, source.items())
    source.tell(1, 2)
    await until(lambda: len(storage.entries("chat")) == 2, "they are stored")
    storage.lose()
    storage.faults.append(fault)
    source.tell(3)
    await advance(1)
    storage.faults.append(fault)
    source.tell(4)
    await advance(1)
    source.end()
    await until_ended(runner)
    assert stored(storage.entries("chat")) == ["3", "4"]


async def test_what_a_part_of_the_old_log_has_is_not_stored_again(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items())
    source.tell(1, 2)
    await settled(storage, runner, 2)
    storage.faults.append(BEHIND)
    source.tell(3, 4)
    await until(lambda: len(storage.entries("chat")) == 4 and not storage.faults, "they are stored")
    storage.change_epoch()  # before it is repeated
    await advance(1)
    source.tell(5)
    storage.faults.append(BEHIND)
    await advance(1)
    source.end()
    await until_ended(runner)
    assert stored(storage.entries("chat")) == ["1", "2", "3", "4", "5"]


async def test_an_idle_run_is_known_to_the_log_that_follows_when_it_is_doubted(
    broker: OpenBroker, storage: Faulty
) -> None:
    source = Told()
    runner = await run(broker, source.items())
    storage.lose()
    assert storage.state("chat") is None
    runner.doubt()
    await until(lambda: storage.state("chat") is State.RUNNING, "it is recorded again")
    assert not runner.ended.done()
    source.end()
    await until_ended(runner)


async def test_a_run_ends_if_another_has_begun_in_the_log_that_follows(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    ended: list[Runner] = []
    runner = await run(broker, source.items(), ended=ended)
    await turn(3)
    storage.lose()
    assert await storage.begin("chat", "another run", "another producer", 10.0)
    source.tell(1)
    await until_ended(runner)
    await until(lambda: source.notes == ["CancelledError", "finally"], "its source is closed")
    assert (ended, storage.entries("chat")) == ([runner], [])


# -- when somebody else has ended it ----------------------------------------------------------------------------------


async def end_elsewhere(storage: Faulty) -> list[str]:
    assert await storage.extend("chat", "the run", None, LOST.drafts, LOST.state)
    return stored(storage.entries("chat"))


async def test_nothing_is_stored_of_a_run_that_somebody_else_has_ended(
    broker: OpenBroker, storage: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    source = Told()
    ended: list[Runner] = []
    runner = await run(broker, source.items(), ended=ended)
    source.tell(1)
    await until(lambda: storage.entries("chat"), "it is stored")
    before = await end_elsewhere(storage)
    assert before[-1] == 'aborted {"reason":"lost"}'
    source.tell(2, 3)
    await until_ended(runner)
    await until(lambda: source.notes == ["CancelledError", "finally"], "its source is closed")
    await until(lambda: not tasks(), "no task is left")
    assert stored(storage.entries("chat")) == before
    assert ended == [runner]
    assert ["ended by another process" in message for message in caplog.messages] == [True]


async def test_a_run_that_is_doubted_finds_that_somebody_else_has_ended_it(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items())
    runner.doubt()
    await turn(5)
    assert not runner.ended.done()
    assert storage.writes == [0]
    before = await end_elsewhere(storage)
    runner.doubt()
    await until_ended(runner)
    await until(lambda: source.notes == ["CancelledError", "finally"], "its source is closed")
    assert stored(storage.entries("chat")) == before


async def test_what_was_under_way_when_somebody_else_ended_it_is_not_stored(
    broker: OpenBroker, storage: Faulty
) -> None:
    async def source() -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    runner = await run_held(broker, source())
    await until(lambda: storage.waiting, "a write is under way, and the source waits for room")
    storage.flows.set()
    before = await end_elsewhere(storage)
    assert before == ['aborted {"reason":"lost"}']
    await until_ended(runner)
    await until(lambda: not tasks(), "no task is left")
    assert stored(storage.entries("chat")) == before


@pytest.mark.parametrize("waits", [False, True])
async def test_a_source_that_swallows_its_cancellation_is_let_go_all_the_same(
    broker: OpenBroker, storage: Faulty, *, waits: bool
) -> None:
    left: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                try:
                    yield 1
                    await asyncio.sleep(0.001 if waits else 0)
                except asyncio.CancelledError:
                    left.append("swallowed")
        finally:
            left.append("finally")

    runner = await run(broker, source())
    await until(lambda: storage.entries("chat"), "it runs")
    await end_elsewhere(storage)
    await until_ended(runner)
    await until(lambda: not tasks(), "no task is left")
    assert left[-1] == "finally"


# -- stopping and dropping --------------------------------------------------------------------------------------------


async def test_a_source_that_ignores_its_cancellation_is_waited_for_for_five_seconds(
    broker: OpenBroker, storage: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "before"
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        yield "after"
        raise LookupError("unheard")

    runner = await run(broker, source())
    await advance(1)
    runner.stop(STOPPED)
    await advance(4.9)
    assert not runner.ended.done()
    await advance(0.2)
    assert runner.ended.done()
    assert stored(storage.entries("chat")) == ['"before"', "stopped {}"]
    go_on.set()
    await until(lambda: not tasks(), "no task is left")
    assert stored(storage.entries("chat")) == ['"before"', "stopped {}"]
    assert caplog.messages == []


async def test_a_thread_that_is_blocked_is_waited_for_for_five_seconds(broker: OpenBroker, storage: Faulty) -> None:
    go_on = threading.Event()
    left: list[str] = []

    def source() -> Iterator[str]:
        try:
            yield "before"
            go_on.wait(PATIENCE)
            yield "after"
        finally:
            left.append("finally")

    runner = await run(broker, source())
    await until(lambda: storage.entries("chat"), "it runs")
    runner.stop(STOPPED)
    await advance(4.9)
    assert not runner.ended.done()
    await advance(0.2)
    assert runner.ended.done()
    assert left == []
    go_on.set()
    await until(lambda: left and not tasks(), "the thread has ended")
    assert stored(storage.entries("chat")) == ['"before"', "stopped {}"]


async def test_the_first_reason_to_end_is_the_one_that_is_told(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items(), 100.0)
    await turn(3)
    runner.stop(STOPPED)
    runner.stop(SHUTDOWN)
    await until_ended(runner)
    runner.stop(SHUTDOWN)
    runner.drop()
    await advance(200)
    assert stored(storage.entries("chat")) == ["stopped {}"]
    assert source.notes == ["CancelledError", "finally"]


async def test_a_source_that_is_stopped_at_its_yield_inside_of_a_task_group(
    broker: OpenBroker, storage: Faulty
) -> None:
    async def source() -> AsyncIterator[int]:
        async with asyncio.TaskGroup():
            while True:
                yield 1

    runner = await run_held(broker, source())
    await turn(3)  # it waits at its `yield` until something is written
    runner.stop(STOPPED)
    storage.flows.set()
    await until_ended(runner)
    assert storage.state("chat") is State.STOPPED


async def test_a_source_that_is_stopped_while_a_task_group_of_its_own_fails(
    broker: OpenBroker, storage: Faulty
) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            task = asyncio.current_task()
            assert task is not None
            # What a task group does that raises its tasks' errors in a task that is being cancelled, since Python 3.13.
            task.uncancel()
            task.cancel()

    runner = await run(broker, source())
    await until(lambda: storage.entries("chat"), "it runs")
    runner.stop(STOPPED)
    await until_ended(runner)
    assert storage.state("chat") is State.STOPPED


async def test_a_timeout_of_a_source_at_its_yield_is_the_sources_own(broker: OpenBroker, storage: Faulty) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(10):
                while True:
                    yield "more"
        except TimeoutError:
            yield "enough"

    runner = await run_held(broker, source())
    await turn(3)  # it waits at its `yield` until something is written
    await advance(11)
    storage.flows.set()
    await until_ended(runner)
    assert stored(storage.entries("chat"))[-1] == '"enough"'
    assert storage.state("chat") is State.FINISHED


async def test_a_source_that_takes_too_long_has_five_seconds_more_to_end(broker: OpenBroker, storage: Faulty) -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(4)

    runner = await run(broker, source(), 60.0)
    await advance(59.9)
    assert storage.state("chat") is State.RUNNING
    await advance(4)
    assert storage.state("chat") is State.RUNNING
    await advance(0.2)
    assert runner.ended.done()
    assert stored(storage.entries("chat")) == ["1", 'failed {"error":"timeout"}']


@pytest.mark.parametrize("turns", range(6))
async def test_a_run_that_is_dropped_closes_its_source_and_writes_nothing(
    broker: OpenBroker, storage: Faulty, turns: int
) -> None:
    source = Closable(1_000_000)
    ended: list[Runner] = []
    runner = await run(broker, source, ended=ended)
    await turn(turns)
    storage.fails = True
    runner.drop()
    count = len(storage.writes)
    assert ended == [runner]
    await until(lambda: source.closed == 1, "its source is closed")
    await until(lambda: not tasks(), "no task is left")
    assert len(storage.writes) == count


async def test_a_run_whose_task_is_cancelled_by_somebody_else_is_aborted(broker: OpenBroker, storage: Faulty) -> None:
    source = Told()
    runner = await run(broker, source.items())
    source.tell(1)
    await until(lambda: storage.entries("chat"), "it runs")
    for task in tasks():
        task.cancel()
    await until_ended(runner)
    assert source.notes == ["CancelledError", "finally"]
    assert stored(storage.entries("chat")) == ["1", 'aborted {"reason":"shutdown"}']


@pytest.mark.parametrize("how", ["end", "raise", "stop", "drop", "elsewhere"])
async def test_a_run_that_has_ended_leaves_no_task_and_no_timer(
    broker: OpenBroker, storage: Faulty, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "tidings.broker")
    before = timers()
    source = Told()
    ended: list[Runner] = []
    runner = await run(broker, source.items(), 3_600.0, ended)
    source.tell(1)
    await until(lambda: storage.entries("chat"), "it runs")
    if how == "stop":
        runner.stop(STOPPED)
    elif how == "drop":
        runner.drop()
    elif how == "elsewhere":
        await end_elsewhere(storage)
        source.tell(2)
    elif how == "raise":
        source.tell(object())
    else:
        source.end()
    await until_ended(runner)
    await until(lambda: not tasks(), "no task is left")
    assert [timer for timer in timers() if timer not in before] == []
    assert ended == [runner]
    assert "finally" in source.notes
