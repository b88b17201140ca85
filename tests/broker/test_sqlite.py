"""The SQLite storage by itself: what is stored, shown, fed, dropped, and what closing leaves."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from tests.broker.sqlite_processes import KEEP_ALL, PATIENCE, ROOT, Feed, Program, append, data_of, draft, until
from tidings.broker.entry import Draft, Entry, Kind, event_id
from tidings.broker.memory import MemoryStorage
from tidings.broker.sqlite import SQLiteStorage, keeper
from tidings.broker.sqlite.pages import read_page
from tidings.broker.sqlite.trimming import Budget, drop_expired, drop_oldest
from tidings.broker.storage import PAGE_BYTES, PAGE_ENTRIES, Page, Retention, Storage
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@asynccontextmanager
async def opened(
    path: Path, retention: Retention = KEEP_ALL, feed: Feed | None = None, timeout: float | None = PATIENCE
) -> AsyncIterator[SQLiteStorage]:
    storage = SQLiteStorage(path, retention, timeout=timeout)
    await storage.open(feed or Feed())
    try:
        yield storage
    finally:
        await storage.close()


def query(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


def count(path: Path, table: str) -> int:
    ((number,),) = query(path, f"SELECT count(*) FROM {table}")
    assert isinstance(number, int)
    return number


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def everything(storage: Storage, channels: Sequence[str], after: int = 0) -> list[Entry]:
    entries: list[Entry] = []
    while True:
        page = await storage.read(channels, after)
        entries += page.entries
        if page.complete:
            return entries
        after = page.position


# -- appending --------------------------------------------------------------------------------------------------------


async def test_what_comes_while_a_lock_is_waited_for_is_one_transaction(path: Path) -> None:
    async with opened(path) as storage:
        assert storage._open is not None
        writer = storage._open.writer
        with locked(path):
            publishing = [asyncio.ensure_future(append(storage, "news", draft("first")))]
            await until(lambda: writer._locked_out, "the writer waits for the lock")
            publishing += [asyncio.ensure_future(append(storage, "news", draft(str(n)))) for n in range(15)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*publishing) == list(range(1, 17))
        # All entries of a transaction have the same time.
        assert len({entry.at for entry in await everything(storage, ["news"])}) == 1


async def test_a_transaction_takes_no_more_than_some_mebibytes(path: Path) -> None:
    async with opened(path) as storage:
        with locked(path):
            publishing = [asyncio.ensure_future(storage.append("news", draft("x" * (1 << 20)))) for _ in range(9)]
            await asyncio.sleep(0)
        await asyncio.gather(*publishing)
        assert len({entry.at for entry in await everything(storage, ["news"])}) >= 2


async def test_frames_are_stored_with_their_id(path: Path) -> None:
    async with opened(path) as storage:
        await storage.append("other", draft("0"))
        await storage.append("news", Draft(Kind.JSON, b'event: e\ndata: "a"\n', b"retry: 5\n\n"))
        (entry,) = (await storage.read(["news"], 0)).entries
    assert entry.frame == b'event: e\ndata: "a"\nid: %b-2\nretry: 5\n\n' % storage.epoch.encode()
    assert (entry.sequence, entry.channel, entry.kind) == (2, "news", Kind.JSON)


async def test_time_never_goes_back_in_a_log(path: Path, clock: Clock) -> None:
    async with opened(path) as storage:
        await storage.append("news", draft("1"))
        clock.now -= 100
        await storage.append("news", draft("2"))
        await storage.append("other", draft("3"))
        clock.now += 101
        await storage.append("news", draft("4"))
        times = [entry.at for entry in await everything(storage, ["news", "other"])]
    assert times == [1_000_000.0, 1_000_000.0, 1_000_000.0, 1_000_001.0]


async def test_ids_that_a_power_cut_may_have_cost_are_not_given_out_again(path: Path) -> None:
    async with opened(path) as storage:
        assert await append(storage, "news", draft("1")) == 1
    async with opened(path) as storage:
        assert await append(storage, "news", draft("2")) == 2
        epoch = storage.epoch
    query(path, "UPDATE log SET boot = 'the run of the machine before'")
    async with opened(path) as storage:
        assert storage.epoch == epoch
        sequence = await append(storage, "news", draft("3"))
        assert sequence == 1_000_000_003
        lost = 5  # given out before the power cut, and lost with it
        page = await storage.read(["news"], lost)
        assert [entry.sequence for entry in page.entries] == [sequence]
        assert page.trimmed == 0
    async with opened(path) as storage:
        assert await append(storage, "news", draft("4")) == sequence + 1


async def test_a_finish_takes_a_sequence_once_until_the_channel_is_opened_again(path: Path) -> None:
    async with opened(path) as storage:
        await storage.finish("news")
        await asyncio.gather(*(storage.finish("news") for _ in range(5)))
        assert (await storage.read(["news"], 0)) == Page(storage.epoch, [], 1, 1, 0, True)
        assert await append(storage, "news", draft("again")) == 2
        assert not (await storage.read(["news"], 0)).finished
        await storage.finish("news")
        page = await storage.read(["news"], 0)
        assert (page.newest, page.finished, len(page.entries)) == (3, True, 1)
        assert not (await storage.read(["news", "unused"], 0)).finished
    assert count(path, "events") == 3


async def test_an_event_too_big_for_sqlite_fails_alone(path: Path) -> None:
    async with opened(path) as storage:
        huge = Draft(Kind.RAW, bytes(1_000_000_000), b"\n")
        good, bad = await asyncio.gather(
            append(storage, "news", draft("small")), append(storage, "news", huge), return_exceptions=True
        )
        assert good == 1
        assert isinstance(bad, PublishError)
        assert "too many" in str(bad)


async def test_names_of_channels_are_only_names(path: Path) -> None:
    names = ["*", "%", "a'b", 'a"b', "news ", "news", "NEWS", "e\u0301", "\u00e9", "\uff1f", "file:x?mode=ro"]
    async with opened(path) as storage:
        for name in names:
            await storage.append(name, draft(name))
        for name in names:
            assert [data_of(entry) for entry in await everything(storage, [name])] == [name]


async def test_an_append_cancelled_while_it_waits_for_the_lock_is_not_stored(path: Path) -> None:
    async with opened(path) as storage:
        with locked(path):
            publishing = [asyncio.ensure_future(storage.append("news", draft(str(n)))) for n in range(4)]
            await asyncio.sleep(0.01)
            for task in publishing[::2]:
                task.cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, str] * 2
        assert [data_of(entry) for entry in await everything(storage, ["news"])] == ["1", "3"]


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_a_page_ends_with_its_number_of_entries(path: Path) -> None:
    async with opened(path) as storage:
        await asyncio.gather(*(storage.append("news", draft(str(n))) for n in range(PAGE_ENTRIES + 1)))
        page = await storage.read(["news"], 0)
        assert (len(page.entries), page.position, page.complete) == (PAGE_ENTRIES, PAGE_ENTRIES, False)
        page = await storage.read(["news"], 1)
        assert (len(page.entries), page.complete) == (PAGE_ENTRIES, True)


async def test_a_page_ends_with_the_entry_that_fills_it(path: Path) -> None:
    async with opened(path) as storage:
        for size in (PAGE_BYTES - 100, 200, 5 * PAGE_BYTES, 1):
            await storage.append("news", draft("x" * size))
        assert [entry.sequence for entry in (await storage.read(["news"], 0)).entries] == [1, 2]
        assert [entry.sequence for entry in (await storage.read(["news"], 2)).entries] == [3]
        page = await storage.read(["news"], 3)
        assert ([entry.sequence for entry in page.entries], page.complete) == ([4], True)


async def test_a_full_page_is_complete_if_only_other_channels_follow(path: Path) -> None:
    async with opened(path) as storage:
        await storage.append("news", draft("x" * PAGE_BYTES))
        await storage.append("other", draft("1"))
        await storage.finish("news")
        page = await storage.read(["news"], 0)
        assert (page.position, page.newest, page.complete) == (3, 3, True)


async def test_positions_before_everything_and_ahead_of_the_log(path: Path) -> None:
    async with opened(path) as storage:
        assert await storage.read(["news"], 0) == Page(storage.epoch, [], 0, 0, 0, False)
        await storage.append("news", draft("1"))
        assert await storage.read(["news"], 9_999_999_999_999_999_999) == Page(storage.epoch, [], 1, 1, 0, False)
        assert await storage.read(["news"], None) == Page(storage.epoch, [], 1, 1, 0, False)


async def test_pages_are_those_of_the_storage_in_memory(path: Path, clock: Clock) -> None:
    """Whatever is appended to some channels, whatever time passes: both show and count as trimmed the same."""
    channels = ["a", "b", "c"]

    for seed in range(6):
        chance = random.Random(seed)
        retention = Retention(chance.choice([None, 0, 1, 7, 300]), chance.choice([None, 10.0, 3.0]), None)
        memory = MemoryStorage(retention)
        await memory.open(Feed())
        async with opened(path.with_name(f"{seed}.db"), retention) as storage:
            memory.epoch = storage.epoch
            for _ in range(120):
                channel = chance.choice(channels[: chance.choice([1, 3])])
                match chance.choice("aaaaaaaafttr"):
                    case "a":
                        events = [draft("x" * chance.choice([1, 1, 5000])) for _ in range(chance.choice([1, 3, 60]))]
                        ours = await asyncio.gather(*(storage.append(channel, event) for event in events))
                        assert ours == [await memory.append(channel, event) for event in events]
                    case "f":
                        await storage.finish(channel)
                        await memory.finish(channel)
                    case "t":
                        clock.now += chance.choice([0.5, 2.0, 6.0])
                    case "r":
                        await storage.close()
                        await storage.open(Feed())
                wanted = chance.sample([*channels, "unused"], chance.choice([1, 1, 2, 4]))
                after = chance.choice([None, 0, chance.randrange(1 + (await memory.read(wanted, None)).newest)])
                page, expected = await storage.read(wanted, after), await memory.read(wanted, after)
                assert page == expected, (seed, wanted, after)
        await memory.close()


# -- dropping ---------------------------------------------------------------------------------------------------------


async def test_a_file_keeps_little_more_than_the_history(path: Path) -> None:
    async with opened(path, Retention(100, None, None)) as storage:
        for _ in range(20):
            await asyncio.gather(*(storage.append("news", draft("x" * 100)) for _ in range(100)))
            await storage.append("quiet", draft("1"))
            await storage.finish("news")
            assert count(path, "events WHERE channel = 1 AND kind <> 3") <= 100 + 200
            assert count(path, "events WHERE channel = 1 AND kind = 3") <= 4
            assert len(await everything(storage, ["news"])) == 100
        assert len(await everything(storage, ["quiet"])) == 20


async def test_old_entries_leave_the_file(path: Path) -> None:
    async with opened(path, Retention(None, 0.2, None)) as storage:
        await asyncio.gather(*(storage.append(f"c{n}", draft("x" * 100)) for n in range(1500)))
        await storage.finish("c0")
        await until(lambda: count(path, "events") == 0)
        page = await storage.read(["c0", "c3"], 0)
        assert (page.entries, page.trimmed) == ([], 4)
        assert (await storage.read(["c0"], 0)).finished
        assert query(path, "SELECT DISTINCT events FROM channels") == [(0,)]


async def test_channels_are_forgotten_and_leave_one_mark(path: Path) -> None:
    async with opened(path, Retention(None, 0.1, 0.3)) as storage:
        await asyncio.gather(*(storage.append(f"c{n}", draft("1")) for n in range(1200)))
        await storage.finish("c7")
        await until(lambda: count(path, "channels") == 0 and count(path, "events") == 0)
        assert await storage.read(["c0"], 0) == Page(storage.epoch, [], 1201, 1201, 1200, False)
        await storage.append("c0", draft("2"))
        assert (await storage.read(["c0"], 0)).trimmed >= 1200


async def test_a_channel_that_shows_something_is_not_forgotten(path: Path) -> None:
    async with opened(path, Retention(None, None, 0.05)) as storage:
        await storage.append("news", draft("1"))
        await storage.finish("done")
        await until(lambda: count(path, "channels") == 1)
        assert count(path, "events") == 1
        assert (await storage.read(["done"], None)).finished is False
        page = await storage.read(["news"], 0)
        assert ([data_of(entry) for entry in page.entries], page.trimmed) == (["1"], 0)


async def test_without_a_history_nothing_is_kept_for_long(path: Path) -> None:
    async with opened(path, Retention(0, None, 0.1)) as storage:
        await storage.append("news", draft("1"))
        assert await storage.read(["news"], 0) == Page(storage.epoch, [], 1, 1, 1, False)
        await until(lambda: count(path, "channels") == 0)


@pytest.mark.parametrize("retention", [Retention(20, None, None), Retention(None, 1.0, None)], ids=["count", "age"])
async def test_bytes_are_counted_down_as_events_are_dropped(path: Path, clock: Clock, retention: Retention) -> None:
    async with opened(path, retention) as storage:
        for number in range(600):
            clock.now += 0.01
            await storage.append(f"channel {number % 2}", draft("x" * (number % 50)))
        await until(lambda: count(path, "events") < 500)
        counted = "SELECT name, size, events FROM channels ORDER BY name"
        stored = """
            SELECT name, sum(length(frame)), count(*) FROM events JOIN channels ON channels.id = channel
            GROUP BY name ORDER BY name
        """
        assert query(path, counted) == query(path, stored)


async def test_bytes_never_fall_below_nothing(path: Path) -> None:
    """A process of an older version, which doesn't count them, may still append beside this one."""
    async with opened(path, Retention(1, None, None)) as storage:
        await storage.append("news", draft("x" * 100_000))
        query(path, "UPDATE channels SET size = 0")
        for _ in range(250):
            await storage.append("news", draft(""))
        (channel,) = await storage.channels("", 1)
        assert channel.size >= 0
        ((size,),) = query(path, "SELECT size FROM channels")
        assert isinstance(size, int)
        assert size >= 0


async def test_a_history_made_shorter_drops_what_is_too_much(path: Path) -> None:
    async with opened(path) as storage:
        await asyncio.gather(*(storage.append("news", draft("1")) for _ in range(3000)))
        await asyncio.gather(*(storage.append(f"c{n}", draft("1")) for n in range(100)))
    async with opened(path, Retention(10, None, 4.0)) as storage:
        assert len(await everything(storage, ["news"])) == 10
        await until(lambda: count(path, "events WHERE channel = 1") <= 10, "the file has no more than that")


class Steps:
    """Counts what SQLite does, in hundreds of its virtual machine's instructions: a measure of work without a clock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._count = 0
        connection.set_progress_handler(self._step, 100)

    def _step(self) -> int:
        self._count += 1
        return 0

    def taken(self) -> int:
        taken, self._count = self._count, 0
        return taken


async def test_a_step_takes_as_long_however_much_is_stored(path: Path) -> None:
    """So that nobody waits longer to publish because there is much to drop."""
    measured = []
    for number in (2_000, 40_000):
        file = path.with_name(f"{number}.db")
        async with opened(file):
            pass
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            rows = ((n, 1 + n % 2, n, bytes(50)) for n in range(1, number + 1))
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO channels VALUES (?, ?, 0, 0, 0, ?, 0, 0)", [(1, "a", number // 2), (2, "b", number // 2)]
            )
            connection.executemany("INSERT INTO events VALUES (?, ?, 0, ?, ?)", rows)
            connection.execute("UPDATE log SET newest = ?", (number,))
            connection.execute("COMMIT")
            steps = Steps(connection)
            drop_expired(connection, 1e9, Budget())
            expired = steps.taken()
            drop_oldest(connection, 1, number, Budget())
            oldest = steps.taken()
            read_page(connection, ["a", "b"], 0, Retention(10, None, None))
            short = steps.taken()
            read_page(connection, ["a", "b"], 0, Retention(number // 2 - 400, None, None))
            long = steps.taken()
            read_page(connection, ["a", "b"], 0, Retention(None, time.time() - number + 5, None))
            measured.append([expired, oldest, short, long, steps.taken()])
            ((left,),) = connection.execute("SELECT count(*) FROM events").fetchall()
            assert left == number - 2 * Budget().rows
    few, many = measured
    assert min(few) > 1
    assert [after / before < 1.5 for before, after in zip(few, many, strict=True)] == [True] * 5, measured


def test_a_step_drops_no_more_than_some_mebibytes(path: Path) -> None:
    SQLiteStorage(path, KEEP_ALL)._database.prepare()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO channels VALUES (1, 'a', 0, 0, 0, 30, 30 << 20, 30)")
        connection.executemany(
            "INSERT INTO events VALUES (?, 1, 0, 0, zeroblob(?))", [(n, 1 << 20) for n in range(1, 31)]
        )
        drop_expired(connection, 1.0, Budget())
        assert connection.execute("SELECT min(sequence) FROM events").fetchone() == (5,)
        budget = Budget()
        drop_oldest(connection, 1, 20, budget)
        drop_oldest(connection, 1, 20, budget)
        assert connection.execute("SELECT min(sequence) FROM events").fetchone() == (9,)
        drop_expired(connection, 1.0, Budget(size=1))
        assert connection.execute("SELECT min(sequence) FROM events").fetchone() == (10,)
        assert connection.execute("SELECT events, trimmed FROM channels").fetchone() == (21, 9)


# -- feeding ----------------------------------------------------------------------------------------------------------


async def test_everything_new_is_fed_in_order(path: Path) -> None:
    feed = Feed()
    async with opened(path, feed=feed) as storage:
        await storage.append("news", draft("before"))
        storage.listen("news")
        await storage.read(["news"], None)
        await asyncio.gather(*(storage.append(f"c{n % 3}", draft("x" * n)) for n in range(2000)))
        await storage.finish("c0")
        await until(lambda: feed.positions and feed.positions[-1] == 2002)
        assert feed.skips == [1]
        assert [entry.sequence for entry in feed.entries] == list(range(2, 2003))
        assert (feed.entries[-1].kind, feed.entries[-1].frame) == (Kind.FINISH, b"")
        stored = await everything(storage, ["c0", "c1", "c2"])
        assert stored == feed.entries[:-1]


async def test_nothing_is_fed_to_nobody(path: Path) -> None:
    feed = Feed()
    async with opened(path, feed=feed) as storage, opened(path) as other:
        await storage.append("news", draft("1"))
        storage.listen("news")
        storage.unlisten("news")
        await storage.read(["news"], None)
        await other.append("news", draft("2"))
        await storage.append("news", draft("3"))
        await storage.read(["news"], 0)
        await asyncio.sleep(0.05)
        assert feed.entries == []
        storage.listen("news")
        await storage.read(["news"], 0)
        await other.append("news", draft("4"))
        await until(lambda: feed.entries)
        assert [data_of(entry) for entry in feed.entries] == ["4"]
        assert feed.skips[-1] == 3


async def test_what_follows_a_page_is_fed(path: Path) -> None:
    """No seam: between what a page holds and what is fed nothing is missing, whoever appends meanwhile."""
    async with opened(path) as other:
        ended = False

        async def publish() -> None:
            while not ended:
                await other.append("news", draft("x"))

        publishing = asyncio.ensure_future(publish())
        for _ in range(30):
            feed = Feed()
            async with opened(path, feed=feed) as storage:
                storage.listen("news")
                page = await storage.read(["news"], None)
                await until(lambda feed=feed, page=page: feed.positions and feed.positions[-1] > page.position + 3)
                fed = [entry.sequence for entry in feed.entries]
                assert fed[0] <= page.position + 1
                assert fed == list(range(fed[0], fed[-1] + 1))
        ended = True
        await publishing


async def test_what_is_too_much_for_the_event_loop_waits_in_the_file(path: Path) -> None:
    feed = Feed()
    async with opened(path, feed=feed) as storage:
        storage.listen("news")
        await storage.read(["news"], None)
        before = len(asyncio.get_running_loop()._ready)  # type: ignore[attr-defined]
        publish_from_a_process_while_the_loop_stands_still(path, 8000)
        assert len(asyncio.get_running_loop()._ready) - before <= 10  # type: ignore[attr-defined]
        await until(lambda: feed.positions and feed.positions[-1] == 8000)
        assert feed.skips == [0]
        assert [entry.sequence for entry in feed.entries] == list(range(1, 8001))


async def test_what_was_dropped_before_it_was_seen_is_skipped(path: Path) -> None:
    feed = Feed()
    async with opened(path, Retention(10, None, None), feed=feed) as storage:
        storage.listen("news")
        await storage.read(["news"], None)
        publish_from_a_process_while_the_loop_stands_still(path, 8000, history=10)
        await until(lambda: max(feed.positions[-1:] + feed.skips[-1:]) == 8000)
        fed = [entry.sequence for entry in feed.entries]
        assert fed == sorted(set(fed))
        assert len(fed) < 8000
        # Whatever is missing, a skip stands behind it, which sends subscribers to the storage.
        missing = set(range(1, 8001)) - set(fed)
        assert missing
        assert len(feed.skips) > 1
        assert max(missing) <= feed.skips[-1]
        assert (await storage.read(["news"], 0)).trimmed == 7990


def publish_from_a_process_while_the_loop_stands_still(path: Path, number: int, history: int = 0) -> None:
    arguments = ["publish", path, "news", number, 100, history]
    command = [sys.executable, "-m", "tests.broker.sqlite_processes", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE)


# -- closing ----------------------------------------------------------------------------------------------------------


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("tidings")}


def files_open(folder: Path) -> list[str]:
    return [link for link in map(_link, Path("/proc/self/fd").iterdir()) if link.startswith(str(folder))]


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # the directory's own descriptor
        return ""


async def test_closing_leaves_nothing_and_opening_again_goes_on(path: Path, tmp_path: Path) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=PATIENCE)
    epochs = set()
    for number in range(1, 4):
        await storage.open(Feed())
        assert len(threads()) == 3
        epochs.add(storage.epoch)
        storage.listen("news")
        assert await append(storage, "news", draft(str(number))) == number
        await storage.close()
        await storage.close()
        assert threads() == set()
        assert files_open(tmp_path) == []
        assert [file.name for file in tmp_path.iterdir()] == ["events.db"]  # the write-ahead log has gone into it
    assert len(epochs) == 1


async def test_closing_stores_what_was_appended(path: Path) -> None:
    async with opened(path) as storage:
        publishing = [asyncio.ensure_future(append(storage, "news", draft(str(n)))) for n in range(3000)]
        await asyncio.sleep(0)
    assert [await task for task in publishing] == list(range(1, 3001))
    assert count(path, "events") == 3000


async def test_closing_ends_who_waits_for_a_page(path: Path) -> None:
    async with opened(path) as storage:
        await asyncio.gather(*(storage.append("news", draft("x" * 200)) for _ in range(1000)))
        reading = [asyncio.ensure_future(storage.read(["news"], 0)) for _ in range(300)]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {Page, StorageError}
    assert isinstance(outcomes[-1], StorageError)
    assert "closed" in str(outcomes[-1])


async def test_closing_under_a_lock_takes_no_longer_than_the_timeout(path: Path) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=0.3)
    await storage.open(Feed())
    with locked(path):
        publishing = asyncio.ensure_future(storage.append("news", draft("1")))
        await asyncio.sleep(0)
        begin = time.monotonic()
        await storage.close()
        assert time.monotonic() - begin < 5
        with pytest.raises(PublishError, match="not stored"):
            await publishing
    assert threads() == set()
    assert count(path, "events") == 0


async def test_closing_under_a_lock_ends_who_would_wait_for_ever(path: Path) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=None)
    storage._database.patience = 0.2
    await storage.open(Feed())
    with locked(path):
        publishing = asyncio.ensure_future(storage.append("news", draft("1")))
        await asyncio.sleep(0)
        await storage.close()
        with pytest.raises(PublishError, match="locked by another process"):
            await publishing
    assert threads() == set()


async def test_what_is_closed_says_so(path: Path) -> None:
    async with opened(path) as storage:
        pass
    with pytest.raises(PublishError, match="not open"):
        await storage.append("news", draft("1"))
    with pytest.raises(StorageError, match="not open"):
        await storage.read(["news"], 0)


async def test_an_opening_that_is_cancelled_leaves_nothing(path: Path, tmp_path: Path) -> None:
    for turns in range(12):
        storage = SQLiteStorage(path, KEEP_ALL, timeout=PATIENCE)
        opening = asyncio.ensure_future(storage.open(Feed()))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await storage.close()
        assert threads() == set()
        assert files_open(tmp_path) == []


async def test_a_closing_that_is_cancelled_closes_all_the_same(path: Path, tmp_path: Path) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=PATIENCE)
    await storage.open(Feed())
    closing = asyncio.ensure_future(storage.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await until(lambda: threads() == set())
    assert files_open(tmp_path) == []


async def test_the_loop_goes_on_while_the_file_is_locked(path: Path) -> None:
    async with opened(path) as storage:
        with locked(path):
            publishing = asyncio.ensure_future(storage.append("news", draft("1")))
            latest, longest = time.monotonic(), 0.0
            for _ in range(100):
                await asyncio.sleep(0.001)
                latest, longest = time.monotonic(), max(longest, time.monotonic() - latest)
            assert not publishing.done()
        assert await publishing == event_id(storage.epoch, 1)
    assert longest < 1  # the file is waited for much longer


# -- the file ---------------------------------------------------------------------------------------------------------


async def test_the_write_ahead_log_begins_anew_under_constant_load(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_WAL_PAGES", 1_000)  # its real bound takes a slow disk long
    wal = path.with_name("events.db-wal")

    def beginnings() -> int:
        with wal.open("rb") as file:
            return int.from_bytes(file.read(16)[12:], "big")  # "checkpoint sequence number" of its header

    async with opened(path, Retention(500, None, None)) as storage:
        await storage.append("news", draft("1"))
        first = beginnings()
        with (
            Program(tmp_path, "read_on", path) as reader,
            Program(tmp_path, "read_on", path),
            Program(tmp_path, "publish", path, "other", 0, 16, 500),
        ):
            await reader.says("reading")
            deadline = time.monotonic() + PATIENCE
            while beginnings() < first + 3:
                assert time.monotonic() < deadline
                await asyncio.gather(*(storage.append("news", draft("x" * 20_000)) for _ in range(16)))


async def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SQLiteStorage(Path("file:events.db"), KEEP_ALL, timeout=PATIENCE)
    monkeypatch.chdir("/")
    await storage.open(Feed())
    await storage.close()
    assert [file.name for file in tmp_path.iterdir()] == ["file:events.db"]


@pytest.mark.parametrize(("synchronous", "number"), [("NORMAL", 1), ("FULL", 2)])
async def test_the_writer_waits_for_the_disk_as_it_was_told(path: Path, synchronous: str, number: int) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, synchronous=synchronous, timeout=PATIENCE)
    storage._database.prepare()
    with closing(storage._database.connect()) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (number,)
