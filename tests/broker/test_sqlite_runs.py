"""What the SQLite storage records of background streams, and what it appends for them.

    python -m tests.broker.test_sqlite_runs PATH PRODUCER

is one of several processes that begin the same runs at the same moment.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from sqlite3 import connect
from typing import Self

import pytest

from tests.broker.sqlite_processes import KEEP_ALL, PATIENCE, ROOT, Feed, append, data_of, draft, until
from tests.broker.test_sqlite import Clock, count, everything, locked, opened, query
from tidings.broker.entry import FINISH, Draft, Kind
from tidings.broker.run import Lease, Run, State
from tidings.broker.sqlite import SQLiteStorage
from tidings.broker.sqlite.schema import MIGRATIONS
from tidings.broker.storage import Retention
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio

LEASE = 10.0
CONTROL = Draft(Kind.CONTROL, b"event: stopped\ndata: {}\n", b"\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def drafts(*data: str) -> list[Draft]:
    return [draft(one) for one in data]


async def data_in(storage: SQLiteStorage, *channels: str) -> list[str]:
    return [data_of(entry) for entry in await everything(storage, channels)]


async def run_in(storage: SQLiteStorage, channel: str) -> Run:
    run = await storage.run_of(channel)
    assert run is not None
    return run


async def lease_of(storage: SQLiteStorage, producer: str) -> Lease:
    (lease,) = [lease for lease in await storage.leases() if lease.producer == producer]
    return lease


async def is_finished(storage: SQLiteStorage, channel: str) -> bool:
    return (await storage.read([channel], None)).finished


# -- beginning --------------------------------------------------------------------------------------------------------


async def test_a_run_that_begins_is_recorded_with_its_producer_and_a_lease(path: Path, clock: Clock) -> None:
    async with opened(path) as storage:
        assert await storage.run_of("chat") is None
        assert await storage.leases() == []
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert await storage.run_of("chat") == Run("r1", "p1", State.RUNNING, clock.now, 0)
        (lease,) = await storage.leases()
        assert (lease.producer, lease.left) == ("p1", LEASE)
        # Nothing was appended, and no channel came to be.
        assert await storage.channels("", 10) == []
        assert (await storage.read(["chat"], 0)).newest == 0


async def test_what_is_recorded_is_in_the_file(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a", "b"))
        run, lease = await run_in(storage, "chat"), await lease_of(storage, "p1")
    async with opened(path) as storage, opened(path) as other:
        for each in (storage, other):
            assert await run_in(each, "chat") == run == Run("r1", "p1", State.RUNNING, run.at, 2)
            again = await lease_of(each, "p1")
            assert again.mark == lease.mark
            assert 0 < again.left < lease.left


@pytest.mark.parametrize("passed", [0.0, 1000.0], ids=["alive", "lost"])
async def test_a_channel_is_busy_while_another_run_is_running(path: Path, clock: Clock, passed: float) -> None:
    async with opened(path) as storage, opened(path) as other:
        await storage.begin("chat", "r1", "p1", LEASE)
        before = await storage.run_of("chat")
        clock.now += passed
        leases = await storage.leases()
        assert leases[0].left == LEASE - passed
        for producer in ("p1", "p2"):
            assert await other.begin("chat", "r2", producer, LEASE) is False
            assert await other.run_of("chat") == before
            assert await other.leases() == leases
        assert await other.begin("other", "r2", "p2", LEASE) is True


async def test_a_run_may_be_recorded_twice(path: Path, clock: Clock) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a"))
        before = await storage.run_of("chat")
        clock.now += 5
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert await storage.run_of("chat") == before
        assert (await lease_of(storage, "p1")).left == LEASE
        # Though it has ended meanwhile; it stays ended.
        await storage.extend("chat", "r1", 1, [FINISH], State.FINISHED)
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert (await run_in(storage, "chat")).state is State.FINISHED
        assert await is_finished(storage, "chat")


async def test_another_run_may_begin_when_one_has_ended(path: Path, clock: Clock) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, [*drafts("a", "b"), FINISH], State.FINISHED)
        clock.now += 1
        assert await storage.begin("chat", "r2", "p2", LEASE) is True
        assert await storage.run_of("chat") == Run("r2", "p2", State.RUNNING, clock.now, 0)
        assert await storage.extend("chat", "r2", 0, drafts("c")) is True
        assert await data_in(storage, "chat") == ["a", "b", "c"]


async def test_a_run_opens_a_finished_channel_without_an_entry(path: Path) -> None:
    async with opened(path) as storage:
        await append(storage, "chat", draft("a"))
        await storage.finish("chat")
        await storage.begin("chat", "r1", "p1", LEASE)
        page = await storage.read(["chat"], 0)
        assert (page.finished, page.newest, len(page.entries)) == (False, 2, 1)
        await storage.extend("chat", "r1", 0, [FINISH], State.FINISHED)
        assert await is_finished(storage, "chat")


async def test_a_channel_finished_and_begun_in_one_transaction_is_open(path: Path) -> None:
    async with opened(path) as storage:
        outcomes = await in_one_transaction(
            path, storage, storage.finish("chat"), storage.begin("chat", "r1", "p1", LEASE)
        )
        assert outcomes == [None, True]
        assert not await is_finished(storage, "chat")


async def test_of_processes_that_begin_a_run_at_once_exactly_one_does(path: Path) -> None:
    async with opened(path) as storage:
        with ExitStack() as cleanup:
            processes = [cleanup.enter_context(Process(path, f"p{number}")) for number in range(3)]
            for process in processes:
                await asyncio.to_thread(process.wait_until_ready)
            for process in processes:
                process.go()
            won = [await asyncio.to_thread(process.outcome) for process in processes]
        assert Counter(channel for channels in won for channel in channels) == Counter(CHANNELS)
        for number, channels in enumerate(won):
            for channel in channels:
                assert (await run_in(storage, channel)).producer == f"p{number}"


# -- what a run gives -------------------------------------------------------------------------------------------------


async def test_what_a_run_gives_is_appended_in_order_as_if_it_was_published(path: Path) -> None:
    async with opened(path) as storage:
        await append(storage, "chat", draft("before"))
        await storage.begin("chat", "r1", "p1", LEASE)
        assert await storage.extend("chat", "r1", 0, drafts("a", "b")) is True
        await append(storage, "chat", draft("beside"))
        assert await storage.extend("chat", "r1", 2, drafts("c")) is True
        entries = await everything(storage, ["chat"])
        assert [data_of(entry) for entry in entries] == ["before", "a", "b", "beside", "c"]
        assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
        assert entries[1].frame == b"data: a\nid: %b-2\n\n" % storage.epoch.encode()
        (channel,) = await storage.channels("", 10)
        assert (channel.events, channel.published) == (5, 5)
        assert (await run_in(storage, "chat")).events == 3  # those of the run alone


async def test_what_a_run_gives_is_fed(path: Path) -> None:
    feed = Feed()
    async with opened(path, feed=feed) as storage:
        storage.listen("chat")
        await storage.begin("chat", "r1", "p1", LEASE)
        await until(lambda: feed.skips)
        await storage.extend("chat", "r1", 0, [*drafts("a", "b"), FINISH], State.FINISHED)
        await until(lambda: len(feed.entries) == 3)
        assert [entry.kind for entry in feed.entries] == [Kind.RAW, Kind.RAW, Kind.FINISH]


async def test_only_what_the_source_gave_is_counted(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        given = [Draft(Kind.JSON, b"data: 1\n", b"\n"), Draft(Kind.RAW, b"data: 2\n", b"\n"), CONTROL, FINISH]
        assert await storage.extend("chat", "r1", 0, given, State.STOPPED) is True
        assert (await run_in(storage, "chat")).events == 2
        assert [entry.kind for entry in await everything(storage, ["chat"])] == [Kind.JSON, Kind.RAW, Kind.CONTROL]


async def test_a_run_may_have_given_nothing(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        before = await storage.run_of("chat")
        assert await storage.extend("chat", "r1", 0, []) is True
        assert await storage.run_of("chat") == before
        assert (await storage.read(["chat"], 0)).newest == 0


@pytest.mark.parametrize("state", [State.FINISHED, State.STOPPED, State.FAILED, State.ABORTED])
async def test_the_end_of_a_run_is_recorded_with_its_last_events(path: Path, clock: Clock, state: State) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        clock.now += 3
        await storage.extend("chat", "r1", 0, drafts("a"))
        assert (await run_in(storage, "chat")).at == clock.now - 3  # it is running since then
        assert await storage.extend("chat", "r1", 1, [*drafts("b"), FINISH], state) is True
        assert await storage.run_of("chat") == Run("r1", "p1", state, clock.now, 2)
        assert await is_finished(storage, "chat")
        assert await data_in(storage, "chat") == ["a", "b"]


async def test_a_run_that_is_not_the_one_recorded_appends_nothing(path: Path) -> None:
    async with opened(path) as storage, opened(path) as other:
        assert await storage.extend("chat", "r1", 0, drafts("unknown")) is False
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a"))
        assert await other.abort(await lease_of(other, "p1"), [FINISH], State.ABORTED, 100) == 1
        for after in (0, 1, None):
            assert await storage.extend("chat", "r1", after, drafts("ended")) is False
            assert await storage.extend("chat", "r1", after, [], State.FINISHED) is False
        await other.begin("chat", "r2", "p2", LEASE)
        before = await storage.run_of("chat")
        for after in (0, 1, None):
            assert await storage.extend("chat", "r1", after, drafts("fenced")) is False
            assert await storage.extend("chat", "r1", after, [FINISH], State.ABORTED) is False
            assert await storage.extend("chat", "r1", after, []) is False
        assert await storage.run_of("chat") == before
        assert await data_in(storage, "chat") == ["a"]
        assert not await is_finished(storage, "chat")
        assert (await storage.read(["chat"], 0)).newest == 2


async def test_what_is_stored_already_is_not_stored_again(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for _ in range(3):
            assert await storage.extend("chat", "r1", 0, drafts("a", "b")) is True
        for _ in range(3):
            assert await storage.extend("chat", "r1", 2, drafts("c")) is True
        assert await data_in(storage, "chat") == ["a", "b", "c"]
        assert (await run_in(storage, "chat")).events == 3


async def test_an_end_that_is_recorded_already_is_not_recorded_again(path: Path, clock: Clock) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        ending = [*drafts("a"), CONTROL, FINISH]
        assert await storage.extend("chat", "r1", 0, ending, State.STOPPED) is True
        run, page = await storage.run_of("chat"), await storage.read(["chat"], 0)
        clock.now += 1
        for after in (0, None):
            assert await storage.extend("chat", "r1", after, ending, State.STOPPED) is True
        # Of the same kind, but not this one: what it was to append is not there.
        assert await storage.extend("chat", "r1", 1, ending, State.STOPPED) is False
        # Another one.
        assert await storage.extend("chat", "r1", 0, ending, State.FAILED) is False
        assert await storage.extend("chat", "r1", 0, drafts("a")) is False
        assert (await storage.run_of("chat"), await storage.read(["chat"], 0)) == (run, page)


async def test_without_a_count_it_is_appended_however_many_there_are(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a", "b"))
        assert await storage.extend("chat", "r1", None, drafts("c")) is True
        assert await storage.extend("chat", "r1", None, [CONTROL, FINISH], State.STOPPED) is True
        assert [entry.kind for entry in await everything(storage, ["chat"])] == [1, 1, 1, Kind.CONTROL]
        run = await run_in(storage, "chat")
        assert (run.state, run.events) == (State.STOPPED, 3)


async def test_an_end_in_a_finished_channel_is_recorded_all_the_same(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.finish("chat")
        assert await storage.extend("chat", "r1", 0, [FINISH], State.FINISHED) is True
        assert (await run_in(storage, "chat")).state is State.FINISHED
        assert (await storage.read(["chat"], 0)).newest == 1
        assert await is_finished(storage, "chat")


async def test_what_runs_give_is_retained_as_what_is_published(path: Path) -> None:
    async with opened(path, Retention(100, None, None)) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for begin in range(0, 1000, 100):
            await storage.extend("chat", "r1", begin, drafts(*map(str, range(begin, begin + 100))))
        assert count(path, "events") <= 100 + 200
        assert await data_in(storage, "chat") == [str(number) for number in range(900, 1000)]
        assert (await run_in(storage, "chat")).events == 1000


# -- one transaction --------------------------------------------------------------------------------------------------


async def in_one_transaction(path: Path, storage: SQLiteStorage, *calls: object) -> list[object]:
    """What comes of these, called while the file was locked by somebody else."""
    assert storage._open is not None
    writer = storage._open.writer
    with locked(path):
        begun = asyncio.ensure_future(storage.append("the lock is waited for", draft("1")))
        await until(lambda: writer._locked_out)
        tasks = [asyncio.ensure_future(call) for call in calls]  # type: ignore[call-overload]
        await asyncio.sleep(0)
    await begun
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_many_runs_write_in_one_transaction_in_the_order_of_their_calls(path: Path) -> None:
    channels = [f"c{number}" for number in range(100)]
    async with opened(path) as storage:
        assert all(await asyncio.gather(*(storage.begin(c, f"r-{c}", "p1", LEASE) for c in channels)))
        calls = [
            call
            for c in channels
            for call in (storage.extend(c, f"r-{c}", 0, drafts("a", "b")), storage.append(c, draft("beside")))
        ]
        outcomes = await in_one_transaction(path, storage, *calls)
        assert outcomes[::2] == [True] * 100
        entries = await everything(storage, channels)
        assert len({entry.at for entry in entries}) == 1
        assert [(entry.channel, data_of(entry)) for entry in entries] == [
            (c, data) for c in channels for data in ("a", "b", "beside")
        ]


async def test_a_transaction_takes_no_more_than_some_entries(path: Path) -> None:
    async with opened(path) as storage:
        channels = [f"c{number}" for number in range(20)]
        for channel in channels:
            await storage.begin(channel, "r1", "p1", LEASE)
        given = drafts(*map(str, range(150)))
        assert (
            await in_one_transaction(path, storage, *(storage.extend(c, "r1", 0, given) for c in channels))
            == [True] * 20
        )
        times = Counter(entry.at for entry in await everything(storage, channels))
        assert max(times.values()) <= 1000 + 150
        assert len(times) >= 3


async def test_what_cannot_be_done_fails_alone(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("busy", "r1", "p1", LEASE)
        outcomes = await in_one_transaction(
            path,
            storage,
            storage.extend("busy", "r1", 0, drafts("a")),
            storage.begin("busy", "r2", "p2", LEASE),
            storage.extend("busy", "r2", 0, drafts("fenced")),
            storage.abort(Lease("p1", 0.0, "another mark"), [FINISH], State.ABORTED, 100),
            storage.renew("p2", LEASE),
            storage.extend("busy", "r1", 1, drafts("b")),
            append(storage, "news", draft("c")),
        )
        assert outcomes == [True, False, False, 0, False, True, 4]
        assert await data_in(storage, "busy", "news") == ["a", "b", "c"]


async def test_a_run_may_begin_give_and_end_in_one_transaction(path: Path) -> None:
    async with opened(path) as storage:
        outcomes = await in_one_transaction(
            path,
            storage,
            storage.begin("chat", "r1", "p1", LEASE),
            storage.extend("chat", "r1", 0, drafts("a")),
            storage.extend("chat", "r1", 1, [FINISH], State.FINISHED),
            storage.begin("chat", "r2", "p2", LEASE),
            storage.extend("chat", "r1", 1, drafts("fenced")),
            storage.extend("chat", "r2", 0, drafts("b")),
        )
        assert outcomes == [True, True, True, True, False, True]
        assert await data_in(storage, "chat") == ["a", "b"]
        assert not await is_finished(storage, "chat")


async def test_a_transaction_that_fails_stores_nothing_and_tells_all(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        run, lease = await storage.run_of("chat"), await lease_of(storage, "p1")
        query(path, "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no room'); END")
        assert storage._open is not None
        with locked(path):
            tasks = [
                asyncio.ensure_future(call)
                for call in (
                    storage.renew("p1", LEASE),
                    storage.extend("chat", "r1", 0, drafts("a")),
                    storage.begin("other", "r2", "p2", LEASE),
                    storage.append("chat", draft("b")),
                )
            ]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PublishError] * 4
        assert {str(outcome) for outcome in outcomes} == {f"{path} can't be used: no room"}
        assert await storage.run_of("chat") == run
        assert (await lease_of(storage, "p1")).mark == lease.mark
        assert await storage.run_of("other") is None
        query(path, "DROP TRIGGER full")
        assert await storage.extend("chat", "r1", 0, drafts("a")) is True
        assert await data_in(storage, "chat") == ["a"]


async def test_what_takes_too_long_is_repeated(path: Path) -> None:
    async with opened(path) as storage, opened(path, timeout=0.2) as hasty:
        await storage.begin("chat", "r1", "p1", LEASE)
        with locked(path):
            for call in (
                hasty.extend("chat", "r1", 0, drafts("a")),
                hasty.begin("other", "r2", "p2", LEASE),
                hasty.renew("p1", LEASE),
                hasty.abort(await lease_of(storage, "p1"), [FINISH], State.ABORTED, 100),
            ):
                with pytest.raises(
                    PublishError, match=r"locked by another process for 0.2 s; the change is not stored"
                ):
                    await call
        assert await storage.extend("chat", "r1", 0, drafts("a")) is True
        assert await data_in(storage, "chat") == ["a"]
        assert await storage.run_of("other") is None


async def test_closing_stores_what_runs_gave(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        extending = asyncio.ensure_future(storage.extend("chat", "r1", 0, [*drafts("a"), FINISH], State.FINISHED))
        await asyncio.sleep(0)
    assert await extending is True
    assert query(path, "SELECT state, events FROM runs") == [("finished", 1)]


@pytest.mark.parametrize("times", [0, 1], ids=["never opened", "closed"])
async def test_what_is_not_open_says_so(path: Path, times: int) -> None:
    storage = SQLiteStorage(path, KEEP_ALL)
    for _ in range(times):
        await storage.open(Feed())
        await storage.close()
    for write in (
        lambda: storage.begin("chat", "r1", "p1", LEASE),
        lambda: storage.extend("chat", "r1", 0, []),
        lambda: storage.renew("p1", LEASE),
        lambda: storage.abort(Lease("p1", 0.0, "mark"), [], State.ABORTED, 1),
    ):
        with pytest.raises(PublishError, match="is not open; the change is not stored"):
            await write()
    for read in (lambda: storage.run_of("chat"), storage.leases):
        with pytest.raises(StorageError, match="is not open"):
            await read()


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_from_now_on_and_gets_another_mark(path: Path, clock: Clock) -> None:
    async with opened(path) as storage, opened(path) as other:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.begin("other", "r2", "p2", 2 * LEASE)
        marks = {(await lease_of(storage, "p1")).mark}
        for passed, left in ((4.0, 6.0), (30.0, -20.0)):
            clock.now += passed
            assert (await lease_of(other, "p1")).left == left
            assert await storage.renew("p1", LEASE) is True  # run out or not
            lease = await lease_of(other, "p1")
            assert lease.left == LEASE
            marks.add(lease.mark)
        assert await storage.renew("p1", LEASE) is True  # at the same moment
        marks.add((await lease_of(other, "p1")).mark)
        await storage.begin("third", "r3", "p1", LEASE)
        marks.add((await lease_of(other, "p1")).mark)
        assert len(marks) == 5
        assert (await lease_of(other, "p2")).left == 2 * LEASE - 34


async def test_what_is_no_lease_cannot_be_renewed(path: Path) -> None:
    async with opened(path) as storage:
        assert await storage.renew("p1", LEASE) is False
        assert await storage.leases() == []


# -- aborting ---------------------------------------------------------------------------------------------------------


async def test_the_runs_of_a_lost_producer_are_ended_some_at_a_time(path: Path, clock: Clock) -> None:
    mine = [f"c{number}" for number in range(6)]
    async with opened(path) as storage, opened(path) as other:
        for channel in mine:
            await storage.begin(channel, "r1", "p1", LEASE)
            await storage.extend(channel, "r1", 0, drafts("a", "b"))
        await storage.begin("of another", "r1", "p2", LEASE)
        await storage.extend("c0", "r1", 2, [FINISH], State.FINISHED)  # has ended by itself
        finished = await storage.run_of("c0")
        clock.now += 11
        lease = await lease_of(other, "p1")
        for some, left in ((2, 3), (2, 1), (1, 0), (0, 0)):
            assert await other.abort(lease, [CONTROL, FINISH], State.ABORTED, 2) == some
            states = [(await run_in(storage, channel)).state for channel in mine]
            assert states.count(State.RUNNING) == left
            assert [lease.producer for lease in await storage.leases()] == (["p1", "p2"] if left else ["p2"])
        for channel in mine[1:]:
            assert await storage.run_of(channel) == Run("r1", "p1", State.ABORTED, clock.now, 2)
            assert [entry.kind for entry in await everything(storage, [channel])] == [1, 1, Kind.CONTROL]
            assert await is_finished(storage, channel)
            assert await storage.extend(channel, "r1", 2, drafts("late")) is False
        assert await storage.run_of("c0") == finished
        assert (await run_in(storage, "of another")).state is State.RUNNING
        assert await storage.renew("p1", LEASE) is False


async def test_the_lease_is_gone_with_the_last_run(path: Path) -> None:
    async with opened(path) as storage:
        for channel in ("a", "b"):
            await storage.begin(channel, "r1", "p1", LEASE)
        assert await storage.abort(await lease_of(storage, "p1"), [FINISH], State.ABORTED, 2) == 2
        assert await storage.leases() == []


async def test_a_lease_without_runs_goes(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, [FINISH], State.FINISHED)
        assert await storage.abort(await lease_of(storage, "p1"), [FINISH], State.ABORTED, 100) == 0
        assert await storage.leases() == []


async def test_a_run_without_an_event_is_ended_too(path: Path) -> None:
    async with opened(path) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        assert await storage.abort(await lease_of(storage, "p1"), [CONTROL, FINISH], State.ABORTED, 100) == 1
        assert [entry.kind for entry in await everything(storage, ["chat"])] == [Kind.CONTROL]
        assert await is_finished(storage, "chat")


@pytest.mark.parametrize("how", ["renew", "begin"])
async def test_a_producer_that_has_renewed_its_lease_keeps_its_runs(path: Path, how: str) -> None:
    async with opened(path) as storage, opened(path) as other:
        channels = ["a", "b", "c"]
        for channel in channels:
            await storage.begin(channel, "r1", "p1", LEASE)
        lease = await lease_of(other, "p1")
        assert await other.abort(lease, [FINISH], State.ABORTED, 1) == 1
        if how == "renew":
            assert await storage.renew("p1", LEASE) is True
        else:
            assert await storage.begin("d", "r1", "p1", LEASE) is True
        await storage.begin("other", "r1", "p2", LEASE)
        runs, leases = [await storage.run_of(channel) for channel in channels], await marks_in(storage)
        newest = (await storage.read(channels, None)).newest
        assert await other.abort(lease, [FINISH], State.ABORTED, 100) == 0
        of_p2 = await lease_of(other, "p2")
        assert await other.abort(lease._replace(mark=of_p2.mark), [FINISH], State.ABORTED, 100) == 0
        assert [await storage.run_of(channel) for channel in channels] == runs
        assert await marks_in(storage) == leases
        assert (await storage.read(channels, None)).newest == newest


async def marks_in(storage: SQLiteStorage) -> list[tuple[str, str]]:
    return [(lease.producer, lease.mark) for lease in await storage.leases()]


async def test_of_two_that_abort_one_does(path: Path) -> None:
    async with opened(path) as storage, opened(path) as other:
        channels = [f"c{number}" for number in range(50)]
        for channel in channels:
            await storage.begin(channel, "r1", "p1", LEASE)
        lease = await lease_of(storage, "p1")
        calls = [each.abort(lease, [CONTROL, FINISH], State.ABORTED, 7) for each in (storage, other) for _ in range(5)]
        assert sum(await asyncio.gather(*calls)) == 50
        assert await storage.leases() == []
        assert Counter(entry.channel for entry in await everything(storage, channels)) == Counter(channels)


# -- forgetting -------------------------------------------------------------------------------------------------------


async def test_a_run_is_forgotten_with_its_channel_but_not_while_it_is_running(path: Path, clock: Clock) -> None:
    retention = Retention(None, 0.4, 0.4)  # what is old is looked for every tenth of a second
    async with opened(path, retention) as storage:
        for channel in ("ended", "ended without a word", "running", "running without a word"):
            await storage.begin(channel, "r1", "p1", LEASE)
        await storage.extend("running", "r1", 0, drafts("a"))
        await storage.extend("ended", "r1", 0, [*drafts("a"), FINISH], State.FINISHED)
        await storage.extend("ended without a word", "r1", 0, [], State.FINISHED)
        clock.now += 1
        await until(lambda: count(path, "channels") == 0)
        assert query(path, "SELECT channel FROM runs ORDER BY channel") == [("running",), ("running without a word",)]
        assert await storage.run_of("ended") is None
        assert (await run_in(storage, "running")).events == 1
        # It goes on; and when it has ended, it is forgotten, too.
        assert await storage.extend("running", "r1", 1, drafts("b")) is True
        assert await data_in(storage, "running") == ["b"]
        for channel in ("running", "running without a word"):
            assert await storage.extend(channel, "r1", None, [FINISH], State.FINISHED) is True
        clock.now += 1
        await until(lambda: count(path, "runs") == 0)


async def test_a_run_is_not_forgotten_soon_after_its_end(path: Path, clock: Clock) -> None:
    async with opened(path, Retention(None, 0.4, 100.0)) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for channel in ("chat", "old"):
            await storage.finish(channel)
        clock.now += 90
        await storage.extend("chat", "r1", 0, [FINISH], State.FINISHED)  # no entry, as the channel is finished
        clock.now += 90
        await until(lambda: not count(path, "channels WHERE name = 'old'"))
        assert (await run_in(storage, "chat")).state is State.FINISHED
        assert await is_finished(storage, "chat")


# -- an older file ----------------------------------------------------------------------------------------------------


async def test_a_file_of_version_2_gets_room_for_runs(path: Path) -> None:
    with closing(connect(path)) as connection:
        for statements in MIGRATIONS[:2]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'tidi')}")
        connection.execute("PRAGMA user_version = 2")
        connection.execute("UPDATE log SET newest = 2, at = 5")
        connection.execute("INSERT INTO channels VALUES (1, 'chat', 5, 0, 1, 1, 17, 1)")
        connection.execute("INSERT INTO events VALUES (1, 1, 1, 5, ?), (2, 1, 3, 5, '')", (b"data: a\nid: x-1\n\n",))
        connection.commit()
    async with opened(path) as storage:
        assert await storage.run_of("chat") is None
        assert await storage.leases() == []
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert await storage.extend("chat", "r1", 0, drafts("b")) is True
        assert await data_in(storage, "chat") == ["a", "b"]
        assert not await is_finished(storage, "chat")
    assert query(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


# -- a process of its own ---------------------------------------------------------------------------------------------

CHANNELS = [f"c{number}" for number in range(100)]


class Process:
    """Begins a run in all channels when it is told to."""

    def __init__(self, path: Path, producer: str) -> None:
        command = [sys.executable, "-W", "error", "-m", __name__, str(path), producer]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def outcome(self) -> list[str]:
        output, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0
        return output.splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.communicate()


async def begin_everywhere(path: str, producer: str) -> None:
    async with opened(Path(path)) as storage:
        print("ready", flush=True)
        sys.stdin.readline()
        for number, channel in enumerate(CHANNELS):
            if await storage.begin(channel, f"{producer}-{number}", producer, LEASE):
                print(channel)


if __name__ == "__main__":
    asyncio.run(begin_everywhere(*sys.argv[1:]))
