"""The SQLite storage among other processes: several that publish, some that are killed, files that can't be used."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.broker.sqlite_processes import KEEP_ALL, PATIENCE, Feed, Program, append, data_of, draft, opened, until
from tidings.broker.sqlite import SQLiteStorage, database
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


async def stored(storage: SQLiteStorage, *channels: str) -> list[str]:
    """All that is in some channels, as `sequence data`."""
    lines: list[str] = []
    after = 0
    while True:
        page = await storage.read(channels, after)
        lines += [f"{entry.sequence} {data_of(entry)}" for entry in page.entries]
        if page.complete:
            return lines
        after = page.position


def sequence_of(line: str) -> int:
    return int(line.partition(" ")[0])


# -- several processes ------------------------------------------------------------------------------------------------


async def test_what_three_processes_publish_reaches_the_others_once_and_in_order(path: Path, tmp_path: Path) -> None:
    storage, feed = await opened(str(path))
    storage.listen("news")
    await storage.read(["a"], None)
    with Program(tmp_path, "listen", path) as listener:
        await listener.says("listening")
        with (
            Program(tmp_path, "publish", path, "a", 1000, 16) as one,
            Program(tmp_path, "publish", path, "b", 1000, 16) as two,
            Program(tmp_path, "publish", path, "c", 200, 1) as three,
        ):
            acknowledged = [line for program in (one, two, three) for line in await program.end()]
        await until(lambda: len(feed.entries) == 2200)
        await listener.has_said(2201)
        listener.tell("enough")
        first, *heard, last = await listener.end()
    assert (first, last) == ("listening", "")  # and nothing was skipped
    assert [sequence_of(line) for line in heard] == list(range(1, 2201))
    assert sorted(heard) == sorted(acknowledged)
    assert [f"{entry.sequence} {data_of(entry)}" for entry in feed.entries] == heard
    assert await stored(storage, "a", "b", "c") == heard
    # One publisher waits for each acknowledgement: its events are in the order in which it published them.
    assert [line.split(" ")[1] for line in heard if " c-" in line] == [f"c-{n}" for n in range(200)]
    await storage.close()


async def test_an_event_reaches_another_process_soon(path: Path, tmp_path: Path) -> None:
    storage, feed = await opened(str(path))
    storage.listen("news")
    await storage.read(["news"], None)
    other, _ = await opened(str(path))
    delays = []
    for _ in range(20):
        number = len(feed.entries)
        begin = time.monotonic()
        await other.append("news", draft("1"))
        await until(lambda number=number: len(feed.entries) > number)
        delays.append(time.monotonic() - begin)
        await asyncio.sleep(random.random() / 50)
    await other.close()
    await storage.close()
    assert statistics.median(delays) < 1  # some 10 ms, on a machine that has nothing else to do


async def test_processes_that_open_a_new_file_at_the_same_moment_share_one_log(path: Path, tmp_path: Path) -> None:
    start = time.time() + 1.5
    programs = [Program(tmp_path, "open_together", path, start) for _ in range(6)]
    try:
        said = [line.split() for program in programs for line in await program.end()]
    finally:
        for program in programs:
            program.__exit__()
    assert len({epoch for epoch, _ in said}) == 1
    assert sorted(int(sequence) for _, sequence in said) == [1, 2, 3, 4, 5, 6]
    assert query(path, "SELECT count(*) FROM log") == [(1,)]


# -- crashes ----------------------------------------------------------------------------------------------------------


async def test_killed_processes_lose_nothing_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    storage, feed = await opened(str(path))
    storage.listen("news")
    await storage.read(["a"], None)
    acknowledged: list[str] = []
    running = Program(tmp_path, "publish", path, "a", 0, 16)
    for _ in range(8):
        successor = Program(tmp_path, "publish", path, "a", 0, 16)
        await successor.has_said(50)
        await asyncio.sleep(random.random() / 20)
        running.kill()
        acknowledged += running.lines
        running.__exit__()
        running = successor
        assert await append(storage, "a", draft("goes on")) > 0
    running.kill()
    acknowledged += running.lines
    running.__exit__()

    # Another than those that have it open: it has to cope with the file as the killed ones left it.
    reopened, _ = await opened(str(path))
    lines = await stored(reopened, "a")
    assert len(acknowledged) > 400
    assert set(acknowledged) <= set(lines)
    newest = (await reopened.read(["a"], None)).newest
    await reopened.close()
    assert [sequence_of(line) for line in lines] == list(range(1, newest + 1))
    await until(lambda: feed.positions[-1] == newest)
    assert [f"{entry.sequence} {data_of(entry)}" for entry in feed.entries] == lines
    await storage.close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert [file.name for file in tmp_path.glob("events.db*")] == ["events.db"]


async def test_all_processes_killed_at_once_leave_a_file_that_is_whole(path: Path, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for _ in range(4):
        programs = [Program(tmp_path, "publish", path, name, 0, 16) for name in ("a", "b")]
        for program in programs:
            await program.has_said(100)
        await asyncio.sleep(random.random() / 20)
        for program in programs:
            program.process.kill()
        for program in programs:
            program.kill()
            acknowledged += program.lines
            program.__exit__()
        assert path.with_name("events.db-wal").exists()  # nobody was left to clear it away
        storage, _ = await opened(str(path))
        assert set(acknowledged) <= set(await stored(storage, "a", "b"))
        await storage.close()
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_process_killed_in_the_middle_of_a_commit_leaves_nothing_of_it(path: Path, tmp_path: Path) -> None:
    storage, _ = await opened(str(path))
    await storage.append("news", draft("before"))
    with Program(tmp_path, "hold", path) as holder:
        await holder.says("holding")
        assert path.with_name("events.db-wal").stat().st_size > 1 << 20  # its pages are in the log, uncommitted
        publishing = asyncio.ensure_future(append(storage, "news", draft("after")))
        assert await stored(storage, "news") == ["1 before"]
        assert not publishing.done()
        holder.kill()
    assert await publishing == 2
    assert await stored(storage, "news", "torn") == ["1 before", "2 after"]
    await storage.close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_crash_in_the_middle_of_a_commit_leaves_a_file_that_opens(path: Path, tmp_path: Path) -> None:
    storage, _ = await opened(str(path))
    await storage.append("news", draft("before"))
    await storage.close()
    with Program(tmp_path, "hold", path) as holder:
        await holder.says("holding")
        holder.kill()
    storage, _ = await opened(str(path))
    assert await stored(storage, "news", "torn") == ["1 before"]
    assert await append(storage, "news", draft("after")) == 2
    await storage.close()


# -- locks ------------------------------------------------------------------------------------------------------------


async def test_an_append_gives_up_after_the_timeout_and_is_not_stored(path: Path, tmp_path: Path) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=0.3)
    await storage.open(Feed())
    with Program(tmp_path, "hold", path) as holder:
        await holder.says("holding")
        begin = time.monotonic()
        outcomes = await asyncio.gather(
            *(storage.append("news", draft("late")) for _ in range(3)), return_exceptions=True
        )
        assert 0.29 < time.monotonic() - begin < 3
        for outcome in outcomes:
            assert isinstance(outcome, PublishError)
            assert f"{path} was locked by another process for 0.3 s; the event is not stored" in str(outcome)
        holder.kill()
    await storage.append("news", draft("in time"))
    assert await stored(storage, "news") == ["1 in time"]
    await storage.close()


async def test_without_a_timeout_an_append_waits_for_the_lock(path: Path, tmp_path: Path) -> None:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=None)
    await storage.open(Feed())
    with Program(tmp_path, "hold", path) as holder:
        await holder.says("holding")
        publishing = asyncio.ensure_future(append(storage, "news", draft("1")))
        await asyncio.wait([publishing], timeout=0.3)
        assert not publishing.done()
        holder.kill()
    assert await publishing == 1
    await storage.close()


# -- files that can't be used -----------------------------------------------------------------------------------------


async def refusal(path: Path, timeout: float = PATIENCE) -> str:
    storage = SQLiteStorage(path, KEEP_ALL, timeout=timeout)
    with pytest.raises(StorageError) as raised:
        await storage.open(Feed())
    await storage.close()
    assert str(path) in str(raised.value)
    return str(raised.value)


async def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("Dear diary, today I was opened by a program that I don't know. " * 50)
    before = path.read_bytes()
    assert "is no SQLite database: name another file" in await refusal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mark", ["CREATE TABLE mine (x)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"])
async def test_the_database_of_another_program(path: Path, mark: str) -> None:
    query(path, mark)
    before = path.read_bytes()
    assert "another program" in await refusal(path)
    assert path.read_bytes() == before
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


async def test_a_file_of_a_newer_version(path: Path) -> None:
    storage, _ = await opened(str(path))
    await storage.close()
    query(path, "PRAGMA user_version = 99")
    message = await refusal(path)
    assert "version 99" in message
    assert "update tidings" in message


async def test_an_older_file_is_brought_to_this_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, _ = await opened(str(path))
    epoch = storage.epoch
    await storage.append("news", draft("kept"))
    await storage.close()
    migrations = (*database.MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (1)"))
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    for _ in range(2):
        storage, _ = await opened(str(path))
        assert storage.epoch == epoch
        assert await stored(storage, "news") == ["1 kept"]
        await storage.close()
    assert query(path, "SELECT * FROM later") == [(1,)]
    assert query(path, "PRAGMA user_version") == [(len(migrations),)]


async def test_a_file_of_version_1_is_counted(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in database.MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'tidi')}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("UPDATE log SET newest = 4, at = 5")
        connection.execute("INSERT INTO channels VALUES (1, 'news', 5, 1, 0, 2), (2, 'done', 5, 0, 1, 0)")
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, 5, ?)", [(2, 1, 1, b"12345"), (3, 1, 1, b"123"), (4, 2, 3, b"")]
        )
        connection.commit()
    storage, _ = await opened(str(path))
    done, news = await storage.channels("", 10)
    await storage.close()
    assert (news.name, news.events, news.size, news.published) == ("news", 2, 8, 2)
    assert (done.name, done.events, done.size, done.published, done.finished) == ("done", 0, 0, 0, True)


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, _ = await opened(str(path))
    await storage.close()
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, ("CREATE TABLE later (x)", "NONSENSE")))
        assert "NONSENSE" in await refusal(path)
    storage, _ = await opened(str(path))
    await storage.close()
    assert query(path, "SELECT count(*) FROM sqlite_master WHERE name = 'later'") == [(0,)]


async def test_an_sqlite_that_is_too_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert "needs SQLite 3.35" in await refusal(path)


async def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    assert f"create the directory {tmp_path / 'missing'} first" in await refusal(tmp_path / "missing" / "events.db")


async def test_a_path_that_is_a_directory(tmp_path: Path) -> None:
    assert "is a directory: name a file in it" in await refusal(tmp_path)


async def test_a_file_that_is_damaged(path: Path) -> None:
    storage, _ = await opened(str(path))
    await asyncio.gather(*(storage.append("news", draft("x" * 500)) for _ in range(500)))
    await storage.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(40_000))
    assert "is damaged" in await refusal(path)


async def test_a_file_that_stays_locked(path: Path) -> None:
    storage, _ = await opened(str(path))
    await storage.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        begin = time.monotonic()
        assert "was locked by another process for more than 0.3 s" in await refusal(path, timeout=0.3)
        assert 0.29 < time.monotonic() - begin < 3


async def test_a_new_file_that_stays_locked(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert "was locked by another process" in await refusal(path, timeout=0.3)


@contextmanager
def for_others(folder: Path) -> Iterator[None]:
    """Let other users come to this folder: pytest's are private."""
    parents = [parent for parent in folder.parents if parent.owner() == folder.owner() and len(parent.parts) > 2]
    modes = {parent: parent.stat().st_mode for parent in parents}
    for parent in parents:
        parent.chmod(modes[parent] | 0o055)
    try:
        yield
    finally:
        for parent in parents:
            parent.chmod(modes[parent])


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A folder of its own, with a log in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    storage, _ = await opened(str(folder / "events.db"))
    await storage.close()
    return folder


async def open_as_nobody(path: Path, tmp_path: Path) -> str:
    with for_others(tmp_path / "folder"), Program(tmp_path, "open_as_nobody", path) as program:
        (said,) = await program.end()
    return said


async def test_a_file_that_may_only_be_read(folder: Path, tmp_path: Path) -> None:
    folder.chmod(0o777)
    (folder / "events.db").chmod(0o444)
    said = await open_as_nobody(folder / "events.db", tmp_path)
    assert f"{folder / 'events.db'} can't be opened for writing" in said
    assert "let the user of this process write to the file and to its directory" in said


@pytest.mark.parametrize("name", ["events.db", "new.db"])
async def test_a_directory_that_may_only_be_read(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "events.db").chmod(0o666)
    folder.chmod(0o555)
    said = await open_as_nobody(folder / name, tmp_path)
    folder.chmod(0o755)
    assert f"{folder / name} can't be opened for writing" in said
    assert "directory" in said


async def test_a_file_that_others_may_write_to_is_opened_by_them(folder: Path, tmp_path: Path) -> None:
    (folder / "events.db").chmod(0o666)
    folder.chmod(0o777)
    assert await open_as_nobody(folder / "events.db", tmp_path) == "open"


# -- what happens to a file that is open ------------------------------------------------------------------------------


async def test_a_disk_that_is_full_and_then_is_not(path: Path, tmp_path: Path) -> None:
    with Program(tmp_path, "fill", path) as program:
        why, failures, readable, complete = await program.end()
    assert "is the disk full, or a quota or size limit reached?" in why
    assert str(path) in why
    assert failures == "50"
    assert readable == "True"
    assert complete == "True"
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_full_disk_is_called_that(path: Path) -> None:
    storage, _ = await opened(str(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.execute("INSERT INTO events VALUES (1, 1, 0, 0, zeroblob(1000000))")
    assert "the disk is full: free some space" in storage._database.explain(raised.value)
    await storage.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_deleted_or_replaced_takes_nothing_more(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    caplog.set_level(logging.ERROR)
    storage, _ = await opened(str(path))
    storage.listen("news")
    await storage.append("news", draft("1"))
    if replaced:
        other, _ = await opened(str(tmp_path / "other.db"))
        await other.close()
        (tmp_path / "other.db").rename(path)
        path.with_name("events.db-wal").unlink()  # or SQLite would take it for the new one's
    else:
        path.unlink()
    for _ in range(2):
        with pytest.raises(PublishError, match="deleted or replaced"):
            await storage.append("news", draft("2"))
        with pytest.raises(StorageError, match="deleted or replaced"):
            await storage.read(["news"], 0)
    await storage.close()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert str(path) in errors[0].getMessage()
    # Opened again it is a log, the new one.
    storage, _ = await opened(str(path))
    assert await append(storage, "news", draft("again")) == 1
    await storage.close()
