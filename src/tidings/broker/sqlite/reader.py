"""Reads the log: pages of it for those who ask, and, while anybody listens, what is new in it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from queue import Empty
from typing import Any, Final, NamedTuple, TypeVar

from tidings.broker.entry import Entry
from tidings.broker.sqlite.database import Database
from tidings.broker.sqlite.listing import list_channels
from tidings.broker.sqlite.pages import newest_of, read_page
from tidings.broker.sqlite.worker import Worker, settle
from tidings.broker.storage import ChannelInfo, Feed, Page, Retention
from tidings.errors import StorageError

__all__ = ["Reader"]

T = TypeVar("T")

logger = logging.getLogger("tidings.broker")

_LISTED_AT_ONCE: Final = 100
"""Channels listed in one step: this takes a few milliseconds, in which nothing else is read."""

_POLL: Final = 0.02
"""Seconds between two looks at whether another process has appended something."""

_FEED_ENTRIES: Final = 500
"""Entries fed at once."""

_FEED_BYTES: Final = 1 << 20
"""What is fed at once ends with the entry that brings it to this size."""

_FEEDS_AHEAD: Final = 4
"""How often something may be fed while the event loop has not taken the first of it."""

_NEW: Final = """
    SELECT sequence, name, kind, events.at, frame FROM events JOIN channels ON channels.id = channel
    WHERE sequence > ? ORDER BY sequence
"""


class _Query(NamedTuple):
    """Somebody waits for what this returns."""

    function: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class _Signal(Enum):
    LISTEN = "listen"
    UNLISTEN = "unlisten"
    LOOK = "look"
    """There may be something to feed, or room for it again."""


class Reader(Worker[_Query | _Signal]):
    """The thread that reads.

    As it does everything in turn, what is stored after a page was read is fed, if the thread was told before to listen.
    """

    def __init__(self, database: Database, retention: Retention, feed: Feed) -> None:
        super().__init__("reader", database)
        self._retention = retention
        self._feed = feed
        self.position: int | None = None
        """Up to here everything was fed or skipped, if anything was since `listen`."""
        self.failing = False
        """Whether the file could not be read when that was tried last."""
        # The thread's own: whether it feeds, and from where; None if the log has not been looked at since.
        self._listening = False
        self._seen: int | None = None
        self._failing = False
        self._fed = 0  # times that something was fed, and that the event loop took it
        self._taken = 0

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        """The next page of some channels behind a position.

        Raises:
            StorageError: the file can't be read.
        """
        return await self.ask(lambda connection: read_page(connection, channels, after, self._retention))

    async def channels(self, epoch: str, after: str, most: int) -> Sequence[ChannelInfo]:
        """The next channels behind this name, some of them at a time.

        Raises:
            StorageError: the file can't be read.
        """
        some = min(most, _LISTED_AT_ONCE)
        return await self.ask(lambda connection: list_channels(connection, epoch, after, some, self._retention))

    async def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What this returns, called in the thread.

        Raises:
            StorageError: the file can't be read.
        """
        self._check_open()
        future: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Query(query, future))
        return await future

    def listen(self) -> None:
        """Feed what is new in all channels; first comes a `skip` to where the log stands."""
        self.position = None
        self._inbox.put(_Signal.LISTEN)

    def unlisten(self) -> None:
        """Feed nothing more."""
        self._inbox.put(_Signal.UNLISTEN)

    def look(self) -> None:
        """Look at once whether there is something new. Any thread may call this."""
        if self._listening:
            self._inbox.put(_Signal.LOOK)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _work(self, connection: sqlite3.Connection) -> None:
        more = False
        while not (self._stopping and self._inbox.empty()):
            match self._next(more):
                case _Query() as query:
                    self._serve(connection, query)
                case _Signal.LISTEN:
                    self._listening = True
                    self._seen = None
                case _Signal.UNLISTEN:
                    self._listening = False
            more = self._may_feed() and self._feed_some(connection)

    def _next(self, more: bool) -> _Query | _Signal | None:
        if not self._may_feed():
            return self._inbox.get()
        try:
            return self._inbox.get(timeout=_POLL) if not more else self._inbox.get_nowait()
        except Empty:
            return None

    def _may_feed(self) -> bool:
        return self._listening and self._fed - self._taken < _FEEDS_AHEAD

    def _serve(self, connection: sqlite3.Connection, query: _Query) -> None:
        if query.future.done():
            return
        try:
            self._check_open()
            self._database.check()
            if self._listening and self._seen is None:
                self._begin_to_feed(connection)
            outcome = query.function(connection)
            self.failing = False
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self.failing = True
            outcome = StorageError(self._database.explain(error))
            outcome.__cause__ = error
        self._call(settle, query.future, outcome)

    def _check_open(self) -> None:
        if self._stopping:
            raise StorageError(f"{self._database.path} is closed")

    def _feed_some(self, connection: sqlite3.Connection) -> bool:
        """Feed what is new, if anything is; whether there may be more."""
        try:
            self._database.check()
            found = self._find_new(connection, self._begin_to_feed(connection) if self._seen is None else self._seen)
        except Exception as error:  # noqa: BLE001 - reported, and tried again
            self.failing = True
            if not self._failing:
                self._failing = True
                logger.warning("subscribers get nothing new for now: %s", self._database.explain(error))
            return False
        self._failing = self.failing = False
        return found

    def _begin_to_feed(self, connection: sqlite3.Connection) -> int:
        self._seen = newest_of(connection)
        self._call(self._skip, self._seen)
        return self._seen

    def _find_new(self, connection: sqlite3.Connection, seen: int) -> bool:
        # Asked for before the entries are: of those up to here it is then sure that they were dropped, if they miss.
        newest = newest_of(connection)
        if newest == seen:
            return False
        entries: list[Entry] = []
        size = 0
        with closing(connection.execute(_NEW, (seen,))) as rows:
            for entry in map(Entry._make, rows):
                entries.append(entry)
                size += len(entry.frame)
                if len(entries) == _FEED_ENTRIES or size >= _FEED_BYTES:
                    break
        self._seen = entries[-1].sequence if entries else newest
        if self._seen == seen + len(entries):
            self._fed += 1
            self._call(self._take_over, entries)
        else:
            # Some was dropped before it was seen here: this process was stopped for long, or the channels are short.
            self._call(self._skip, self._seen)
        return True

    # -- on the event loop --------------------------------------------------------------------------------------------

    def _take_over(self, entries: Sequence[Entry]) -> None:
        self._taken += 1
        # Counted before it is asked, as the thread counts before it asks: it can't wait unnoticed.
        if self._fed - self._taken >= _FEEDS_AHEAD - 1:
            self.look()
        self.position = entries[-1].sequence
        self._feed.append(entries)

    def _skip(self, position: int) -> None:
        self.position = position
        self._feed.skip(position)
