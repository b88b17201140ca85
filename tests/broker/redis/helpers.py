"""What the tests of the storage on Redis share."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tests.broker.redis_server import RedisServer
from tidings.broker.entry import Draft, Entry, Kind
from tidings.broker.redis import RedisStorage
from tidings.broker.storage import Retention

__all__ = ["KEEP_ALL", "PATIENCE", "Feed", "draft", "everything", "nothing_left_behind", "opened", "text_of", "until"]

PATIENCE = 30.0
"""Seconds after which something won't happen any more."""

KEEP_ALL = Retention(None, None, None)


def draft(text: str) -> Draft:
    return Draft(Kind.RAW, f"data: {text}\n".encode(), b"\n")


def text_of(entry: Entry) -> str:
    """What was given to `draft`."""
    return entry.frame.split(b"\n")[0].removeprefix(b"data: ").decode()


class Feed:
    """Notes what it is fed."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.skips: list[tuple[int, str | None]] = []
        self.misses: list[tuple[str, int, int]] = []
        self.losses = 0

    def append(self, entries: Sequence[Entry]) -> None:
        assert entries
        self.entries += entries

    def skip(self, position: int, channel: str | None = None) -> None:
        self.skips.append((position, channel))

    def miss(self, channel: str, after: int, position: int) -> None:
        self.misses.append((channel, after, position))

    def lose(self) -> None:
        self.losses += 1

    def texts(self, channel: str | None = None) -> list[str]:
        return [text_of(entry) for entry in self.entries if channel in {None, entry.channel}]

    def skipped(self, channel: str) -> list[int]:
        return [position for position, name in self.skips if name in {None, channel}]


async def until(condition: Callable[[], object], what: str = "it happens", timeout: float = PATIENCE) -> None:
    """Poll, while the event loop turns."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(
    url: str,
    namespace: str,
    retention: Retention = KEEP_ALL,
    feed: Feed | None = None,
    timeout: float | None = PATIENCE,
) -> AsyncIterator[RedisStorage]:
    storage = RedisStorage(url, retention, namespace=namespace, timeout=timeout)
    await storage.open(feed or Feed())
    try:
        yield storage
    finally:
        await storage.close()


async def everything(storage: RedisStorage, *channels: str) -> list[Entry]:
    """All that is stored of these."""
    page = await storage.read(channels, 0)
    entries = list(page.entries)
    while not page.complete:
        page = await storage.read(channels, page.position)
        entries += page.entries
    return entries


@contextmanager
def nothing_left_behind(*servers: RedisServer) -> Iterator[None]:
    """No task, no connection, and no exception that nobody was told of."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks()
    connections = [connected(server) for server in servers]
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    try:
        yield
        left = asyncio.all_tasks() - tasks
        assert not left
        gc.collect()
        assert told == []
    finally:
        loop.set_exception_handler(None)
    end = time.monotonic() + PATIENCE
    while [connected(server) for server in servers] != connections:
        assert time.monotonic() < end, [server.client.client_list() for server in servers]
        time.sleep(0.01)  # the server notices


def connected(server: RedisServer) -> int:
    """How many clients a server has."""
    return len(server.client.client_list())
