"""All runs of a process: how they are started, stopped and ended when the storage doesn't do what it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.broker.background.storages import BEFORE, BEHIND, FINE, Faulty, Leasing, broker_on, stored
from tests.broker.contract.background import Closable, Told, waiting
from tests.broker.contract.reading import until
from tidings import Broker
from tidings.broker.background import producer as module
from tidings.broker.background.endings import LOST
from tidings.broker.draft import draft_of
from tidings.broker.run import State
from tidings.errors import BackgroundLimit, BrokerClosed, ChannelBusy, PublishError, StorageError
from tidings.sources import threaded
from tidings.testing.clock import advance

pytestmark = pytest.mark.anyio

SHUTDOWN = 'aborted {"reason":"shutdown"}'


@pytest.fixture
def storage() -> Faulty:
    return Faulty()


@pytest.fixture
async def broker(storage: Faulty) -> AsyncIterator[Broker]:
    async with broker_on(storage, background_grace=0) as broker:
        yield broker


def mailbox(broker: Broker) -> str:
    assert broker._producer is not None
    return module._mailbox_of(broker._producer.name)


async def order(storage: Faulty, broker: Broker, channel: str) -> None:
    """What another process does to have a run stopped."""
    run = await storage.run_of(channel)
    assert run is not None
    await storage.append(mailbox(broker), draft_of(None, event=None, raw_data=run.id))


# -- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [BEFORE, BEHIND])
async def test_a_start_that_could_not_be_recorded_leaves_nothing_running(
    broker: Broker, storage: Faulty, fault: str
) -> None:
    storage.faults.append(fault)
    source = Closable()
    with pytest.raises(PublishError):
        await broker.start("chat", source)
    assert source.closed == 1
    await until(lambda: storage.state("chat") is not State.RUNNING, "it is taken back")
    await broker.start("chat", [1])
    await until(lambda: storage.state("chat") is State.FINISHED, "it has run")


async def test_a_start_is_taken_back_as_soon_as_the_storage_can_be_written(broker: Broker, storage: Faulty) -> None:
    storage.faults.extend([BEHIND] + [BEFORE] * 20)
    with pytest.raises(PublishError):
        await broker.start("chat", [1])
    await advance(5)
    assert storage.state("chat") is State.RUNNING
    storage.faults.appendleft(FINE)
    with pytest.raises(ChannelBusy):
        await broker.start("chat", [1])
    await advance(20)
    assert storage.state("chat") is State.ABORTED
    await broker.start("chat", [1])


async def test_a_start_that_is_cancelled_while_it_is_recorded_is_taken_back(broker: Broker, storage: Faulty) -> None:
    storage.flows.clear()
    source = Closable()
    starting = asyncio.create_task(broker.start("chat", source))
    await until(lambda: storage.waiting, "it is being recorded")
    starting.cancel()
    await asyncio.wait([starting])
    assert source.closed == 1
    storage.flows.set()
    await until(lambda: storage.state("chat") is State.ABORTED, "it is taken back")
    await broker.start("chat", [1])


async def test_a_process_that_can_not_be_told_to_stop_runs_nothing(broker: Broker, storage: Faulty) -> None:
    storage.fails = True
    for _ in range(2):
        source = Closable()
        with pytest.raises(StorageError, match="read"):
            await broker.start("chat", source)
        assert source.closed == 1
    storage.fails = False
    await broker.start("chat", [1])
    await until(lambda: storage.state("chat") is State.FINISHED, "it has run")


def sync_items(closed: list[str]) -> Iterator[int]:
    closed.append("begun")
    yield 1


async def test_no_more_than_a_thousand_sync_sources_run_in_a_process(
    broker: Broker, storage: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_SYNC", threaded._threads._count)
    counted = threaded._threads._count
    begun: list[str] = []
    source = sync_items(begun)
    with pytest.raises(BackgroundLimit, match="sync sources"):
        await broker.start("chat", source)
    assert list(source) == begun == []
    assert threaded._threads._count == counted
    await broker.start("chat", [1])


async def test_the_thread_of_a_refused_source_is_not_counted(broker: Broker, storage: Faulty) -> None:
    counted = threaded._threads._count
    await broker.start("chat", waiting([]))
    for _ in range(3):
        with pytest.raises(ChannelBusy):
            await broker.start("chat", sync_items([]))
    storage.faults.append(BEFORE)
    with pytest.raises(PublishError):
        await broker.start("other", sync_items([]))
    await broker.start("stopped", sync_items([]))
    await broker.stop("stopped")
    await until(lambda: threaded._threads._count == counted, "no thread is counted")


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_what_another_process_asks_for_is_stopped(broker: Broker, storage: Faulty) -> None:
    sources = {channel: Told() for channel in ("chat", "other")}
    for channel, source in sources.items():
        await broker.start(channel, source.items())
        source.tell(1)
    await until(lambda: all(storage.entries(channel) for channel in sources), "both run")
    await order(storage, broker, "chat")
    await until(lambda: storage.state("chat") is State.STOPPED, "it is stopped")
    assert sources["chat"].notes == ["CancelledError", "finally"]
    assert storage.state("other") is State.RUNNING
    # Of a run that has ended, or was never there, nothing is done.
    await order(storage, broker, "chat")
    await storage.append(mailbox(broker), draft_of(None, event=None, raw_data="no run"))
    await broker.start("chat", sources["other"].items())
    assert storage.state("chat") is State.RUNNING


async def test_what_processes_tell_each_other_is_listed_for_nobody(broker: Broker, storage: Faulty) -> None:
    await broker.start("chat", waiting([]))
    await order(storage, broker, "chat")
    assert storage.entries(mailbox(broker))
    await until(lambda: storage.state("chat") is State.STOPPED, "it is stopped")
    for after in ("", "\x00", "\x01", mailbox(broker)):
        assert [channel.name for channel in await broker.channels(after=after)] == ["chat"]


async def test_what_was_asked_for_while_the_mailbox_could_not_be_read_is_found_out_by_doubt(
    broker: Broker, storage: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    source = Told()
    await broker.start("chat", source.items())
    source.tell(1)
    await until(lambda: storage.entries("chat"), "it runs")
    assert storage._feed is not None
    storage.fails = True
    storage._feed.skip(storage._newest)  # the mailbox is to be read, and can't be
    await advance(3)
    run = await storage.run_of("chat")
    assert run is not None
    storage.fails = False
    await storage.extend("chat", run.id, None, LOST.drafts, LOST.state)
    await advance(2)
    await until(lambda: source.notes == ["CancelledError", "finally"], "its source is closed")
    assert any("can't be stopped by other processes" in message for message in caplog.messages)
    await broker.start("chat", source.items())
    await order(storage, broker, "chat")
    await until(lambda: storage.state("chat") is State.STOPPED, "the mailbox is read again")


async def test_a_log_that_was_lost_is_told_of_the_runs_there_are(broker: Broker, storage: Faulty) -> None:
    source = Told()
    await broker.start("chat", source.items())
    await asyncio.sleep(0)
    storage.lose()
    await until(lambda: storage.state("chat") is State.RUNNING, "it is recorded in the new one")
    await order(storage, broker, "chat")
    await until(lambda: storage.state("chat") is State.STOPPED, "it is stopped")


async def test_a_stop_that_can_not_be_stored_says_so_and_the_source_is_closed(broker: Broker, storage: Faulty) -> None:
    source = Told()
    await broker.start("chat", source.items())
    source.tell(1)
    await until(lambda: storage.entries("chat"), "it runs")
    storage.fails = True
    stopping = asyncio.create_task(broker.stop("chat"))
    await advance(5.1)
    with pytest.raises(PublishError):
        await stopping
    assert source.notes == ["CancelledError", "finally"]
    storage.fails = False
    await advance(2)
    assert stored(storage.entries("chat")) == ["1", "stopped {}"]


async def test_who_stops_a_source_that_ignores_it_waits_for_five_seconds(broker: Broker, storage: Faulty) -> None:
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "before"
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        yield "after"

    await broker.start("chat", source())
    await until(lambda: storage.entries("chat"), "it runs")
    stopping = [asyncio.create_task(broker.stop("chat")) for _ in range(2)]
    await advance(4.9)
    assert not any(task.done() for task in stopping)
    await advance(0.2)
    assert [task.result() for task in stopping] == [True, True]
    await broker.start("chat", ["again"])
    go_on.set()
    await until(lambda: storage.state("chat") is State.FINISHED, "the next has run")
    assert stored(storage.entries("chat")) == ['"before"', "stopped {}", '"again"']


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_the_lease_is_renewed_while_something_runs() -> None:
    storage = Leasing()
    async with broker_on(storage) as broker:
        source = Told()
        await broker.start("chat", source.items())
        await broker.start("short", [1])
        await advance(60)
        assert storage.state("chat") is State.RUNNING
        assert len(storage.renewals) >= 15
        source.end()
        await until(lambda: storage.state("chat") is State.FINISHED, "it has run")
        await asyncio.sleep(0)
        storage.renewals.clear()
        await advance(60)
        assert storage.renewals == []
        await broker.start("again", waiting([]))
        await advance(60)
        assert len(storage.renewals) >= 15
        await broker.stop("again")


async def test_who_was_taken_for_lost_closes_its_sources_and_can_start_others(caplog: pytest.LogCaptureFixture) -> None:
    storage = Leasing()
    async with broker_on(storage) as broker:
        source = Told()
        await broker.start("chat", source.items())
        assert broker._producer is not None
        run = await storage.run_of("chat")
        assert run is not None
        await storage.extend("chat", run.id, None, LOST.drafts, LOST.state)
        storage.drop(broker._producer.name)
        await advance(4)  # until it renews its lease, and finds that it has none
        await until(lambda: source.notes == ["CancelledError", "finally"], "its source is closed")
        assert stored(storage.entries("chat")) == ['aborted {"reason":"lost"}']
        await broker.start("chat", [1])
        await until(lambda: storage.state("chat") is State.FINISHED, "another one has run")


# -- closing ----------------------------------------------------------------------------------------------------------


async def test_a_broker_whose_storage_is_away_is_closed_within_seconds(
    storage: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    broker = broker_on(storage, background_grace=5)
    await broker.__aenter__()
    sources = [Told() for _ in range(3)]
    for number, source in enumerate(sources):
        await broker.start(f"chat {number}", source.items())
        source.tell(1)
    storage.fails = True
    closing = asyncio.create_task(broker.__aexit__(None, None, None))
    await advance(4.9)
    assert [source.notes for source in sources] == [[]] * 3
    await advance(10)
    assert closing.done()
    await closing
    assert [source.notes for source in sources] == [["CancelledError", "finally"]] * 3
    await until(lambda: asyncio.all_tasks() <= before, "no task is left")


async def test_a_source_that_ignores_its_cancellation_does_not_hold_up_the_end(storage: Faulty) -> None:
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue

    broker = broker_on(storage, background_grace=0)
    await broker.__aenter__()
    await broker.start("chat", source())
    await until(lambda: storage.entries("chat"), "it runs")
    closing = asyncio.create_task(broker.__aexit__(None, None, None))
    await advance(1.4)
    assert not closing.done()
    await advance(0.2)
    assert closing.done()
    await closing
    assert stored(storage.entries("chat")) == ["1", SHUTDOWN]
    go_on.set()


async def test_a_start_that_is_being_recorded_when_the_broker_is_closed_is_taken_back(storage: Faulty) -> None:
    broker = broker_on(storage, background_grace=0)
    await broker.__aenter__()
    source = Closable()
    storage.flows.clear()
    starting = asyncio.create_task(broker.start("chat", source))
    await until(lambda: storage.waiting, "it is being recorded")
    closing = asyncio.create_task(broker.__aexit__(None, None, None))
    await advance(1)
    storage.flows.set()
    with pytest.raises(BrokerClosed):
        await starting
    await closing
    assert source.closed == 1
    assert storage.state("chat") is State.ABORTED


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_closing_that_is_cancelled_drops_everything(storage: Faulty, times: int, turns: int) -> None:
    before = asyncio.all_tasks()
    broker = broker_on(storage, background_grace=100)
    await broker.__aenter__()
    source = Told()
    await broker.start("chat", source.items())
    source.tell(1)
    await until(lambda: storage.entries("chat"), "it runs")
    closing = asyncio.create_task(broker.__aexit__(None, None, None))
    await asyncio.sleep(0.01)
    for _ in range(times):
        closing.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.wait([closing])
    assert closing.cancelled()
    await until(lambda: source.notes == ["CancelledError", "finally"], "its source is closed")
    await until(lambda: asyncio.all_tasks() <= before, "no task is left")
    with pytest.raises(BrokerClosed):
        await broker.publish("chat", 1)


async def test_nothing_is_left_of_a_broker_that_ran_something(storage: Faulty) -> None:
    before = asyncio.all_tasks()
    async with broker_on(storage, background_grace=0) as broker:
        loop: Any = asyncio.get_running_loop()
        timers = {timer for timer in loop._scheduled if not timer.cancelled()}
        for number in range(20):
            await broker.start(f"chat {number}", waiting([]))
        for number in range(10):
            await broker.stop(f"chat {number}")
    await until(lambda: asyncio.all_tasks() <= before, "no task is left")
    assert {timer for timer in loop._scheduled if not timer.cancelled()} <= timers
