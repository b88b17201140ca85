"""Programs that use an SQLite log in processes of their own, and what starts them.

    python -m tests.broker.sqlite_processes PROGRAM PATH [ARGUMENT …]

A program says what it has done on its standard output, which is a file: what it has said stays said when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Self

from tidings.broker.entry import Draft, Entry, Kind
from tidings.broker.sqlite import SQLiteStorage
from tidings.broker.storage import Retention
from tidings.errors import PublishError, StorageError

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0

KEEP_ALL = Retention(history=None, max_age=None, forget_after=None)


def draft(data: str) -> Draft:
    return Draft(Kind.RAW, b"data: %b\n" % data.encode(), b"\n")


def data_of(entry: Entry) -> str:
    return entry.frame.partition(b"\n")[0].removeprefix(b"data: ").decode()


class Feed:
    """Takes what a storage feeds."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.positions: list[int] = []
        self.skips: list[int] = []

    def append(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        self.positions.append(entries[-1].sequence)

    def skip(self, position: int, channel: str | None = None) -> None:
        assert channel is None, "a file is read for all channels at once"
        self.skips.append(position)

    def miss(self, channel: str, after: int, position: int) -> None:
        raise AssertionError("nothing is ever missed here")

    def lose(self) -> None:
        raise AssertionError("the epoch of a file doesn't change while it is open")


async def append(storage: SQLiteStorage, channel: str, draft: Draft) -> int:
    """Append an event; its sequence."""
    epoch, _, sequence = (await storage.append(channel, draft)).partition("-")
    assert epoch == storage.epoch
    return int(sequence)


async def until(condition: Callable[[], object], what: str = "it happens", timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.002)


class Program:
    """A program that runs."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._output = folder / f"output-{time.monotonic_ns()}"
        command = [sys.executable, "-W", "error", "-m", __name__, *map(str, arguments)]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=output)

    @property
    def lines(self) -> list[str]:
        """What it has said, in whole lines."""
        return self._output.read_text().split("\n")[:-1]

    async def says(self, line: str) -> None:
        await until(lambda: line in self.lines or self.process.poll() is not None, f"{line!r} in {self.lines[-5:]}")
        assert line in self.lines, f"it ended without: {line!r}"

    async def has_said(self, number: int) -> None:
        await until(lambda: len(self.lines) >= number, f"{number} lines")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(PATIENCE) == -signal.SIGKILL

    async def end(self) -> list[str]:
        """Wait until it has ended by itself; what it has said."""
        await until(lambda: self.process.poll() is not None, "the program ends")
        assert self.process.returncode == 0
        return self.lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(PATIENCE)


# -- the programs -----------------------------------------------------------------------------------------------------


def say(line: object) -> None:
    os.write(1, f"{line}\n".encode())


async def opened(path: str, retention: Retention = KEEP_ALL) -> tuple[SQLiteStorage, Feed]:
    storage, feed = SQLiteStorage(Path(path), retention, timeout=PATIENCE), Feed()
    await storage.open(feed)
    return storage, feed


async def told() -> str:
    """What the parent says next; "" if it has gone."""
    return (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n")


async def publish(path: str, channel: str, number: str, publishers: str, history: str = "0") -> None:
    """Publish so many events, 0: endlessly; say the sequence and the data of each that is acknowledged."""
    storage, _ = await opened(path, Retention(int(history) or None, None, None))
    numbers = iter(range(int(number)) if int(number) else count())

    async def publisher() -> None:
        for value in numbers:
            data = f"{channel}-{value}"
            say(f"{await append(storage, channel, draft(data))} {data}")

    await asyncio.gather(*(publisher() for _ in range(int(publishers))))
    await storage.close()


async def listen(path: str) -> None:
    """Say when it listens, then the sequence and the data of each entry that is fed, until it is told something."""
    storage, feed = await opened(path)
    storage.listen("a")
    await until(lambda: feed.skips)
    say("listening")
    feed.append = lambda entries: [say(f"{entry.sequence} {data_of(entry)}") for entry in entries]  # type: ignore[method-assign,assignment]
    await told()
    say("" if feed.skips == feed.skips[:1] else "skipped")
    await storage.close()


async def read_on(path: str) -> None:
    """Say when it reads pages, without a pause, until it is told something."""
    storage, _ = await opened(path)
    say("reading")
    end = asyncio.create_task(told())
    position = 0
    while not end.done():
        page = await storage.read(["news"], position)
        position = 0 if page.complete else page.position
    await storage.close()


async def open_together(path: str, start: str) -> None:
    """Open the file at this moment, say the epoch and the sequence of an event."""
    while time.time() < float(start):
        await asyncio.sleep(0)
    storage, _ = await opened(path)
    say(f"{storage.epoch} {await append(storage, 'news', draft('here'))}")
    await storage.close()


async def hold(path: str) -> None:
    """Write something and never commit it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # so that it is in the write-ahead log already
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO channels (name, at, trimmed, finished, events) VALUES ('torn', 0, 0, 0, 0)")
    connection.executemany(
        "INSERT INTO events VALUES (?, 1, 0, 0, ?)", [(number, bytes(1000)) for number in range(10**6, 10**6 + 1000)]
    )
    connection.execute("UPDATE log SET newest = 1001000")
    say("holding")
    await told()


async def open_as_nobody(path: str) -> None:
    """Open the file as a user who may write to nothing; say what comes of it."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        storage = SQLiteStorage(Path(path), KEEP_ALL, timeout=1)
        await storage.open(Feed())
    except StorageError as error:
        say(error)
    else:
        say("open")
        await storage.close()


async def fill(path: str) -> None:
    """Publish until files can't grow any more, say that and why; then again when they can, then say what is stored."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    storage, _ = await opened(path)
    acknowledged = []
    try:
        while True:
            acknowledged += [await append(storage, "news", draft("x" * 10_000))]
    except PublishError as error:
        say(error)
    failures = await asyncio.gather(
        *(storage.append("news", draft("x" * 50_000)) for _ in range(50)), return_exceptions=True
    )
    say([type(failure).__name__ for failure in failures].count("PublishError"))
    page = await storage.read(["news"], None)
    say(page.newest >= acknowledged[-1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    acknowledged += [await append(storage, "news", draft("after")) for _ in range(20)]
    stored = []
    position = 0
    while not (page := await storage.read(["news"], position)).complete or page.entries:
        stored += [entry.sequence for entry in page.entries]
        position = page.position
    say(set(acknowledged) <= set(stored))
    await storage.close()


PROGRAMS = {program.__name__: program for program in (publish, listen, read_on, open_together, hold)} | {
    program.__name__: program for program in (open_as_nobody, fill)
}

if __name__ == "__main__":
    asyncio.run(PROGRAMS[sys.argv[1]](*sys.argv[2:]))
