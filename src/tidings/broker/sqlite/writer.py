"""Appends to the log: whatever was published while one transaction was written is the next one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Final

from tidings.broker.entry import Draft
from tidings.broker.sqlite.appending import append_all
from tidings.broker.sqlite.database import Database, is_busy, pause
from tidings.broker.sqlite.worker import Worker, settle
from tidings.errors import PublishError, StorageError

__all__ = ["Writer"]

_BATCH_ENTRIES: Final = 1_000
"""Entries of one transaction."""

_BATCH_BYTES: Final = 4 << 20
"""A transaction ends with the entry that brings it to this size."""

_ROW_BYTES: Final = 1_024
"""Bytes of a row beside its frame's head and tail, at the most."""


class _Append:
    """Somebody waits for this draft to be stored."""

    __slots__ = ("channel", "draft", "future", "size")

    def __init__(self, channel: str, draft: Draft, future: asyncio.Future[int]) -> None:
        self.channel = channel
        self.draft = draft
        self.future = future
        self.size = len(draft.head) + len(draft.tail)


class Writer(Worker[_Append]):
    """The thread that appends.

    Args:
        database: the file; this thread prepares it.
        history: events to keep of a channel.
        committed: called in the thread after each transaction with the bytes that it has written.
    """

    def __init__(self, database: Database, history: int | None, committed: Callable[[int], None]) -> None:
        super().__init__("writer", database)
        self._history = history
        self._committed = committed
        self._waiting: deque[_Append] = deque()  # taken from the inbox; the thread's own
        self._locked_out = False  # another process has the lock
        self.epoch = ""

    async def append(self, channel: str, draft: Draft) -> int:
        """Append a draft, return its sequence.

        Raises:
            PublishError: it may or may not be stored.
        """
        if self._stopping:
            raise PublishError(f"{self._database.path} is closed: the event is not stored")
        request = _Append(channel, draft, self._loop.create_future())
        if request.size + _ROW_BYTES > self._most_bytes:
            raise PublishError(f"the event has {request.size} bytes, too many for an SQLite database: it is not stored")
        self._inbox.put(request)
        try:
            async with asyncio.timeout(self._database.timeout):
                return await request.future
        except TimeoutError:
            raise PublishError(self._why_late()) from None

    def _why_late(self) -> str:
        path, timeout = self._database.path, self._database.timeout
        if self._locked_out:
            return f"{path} was locked by another process for {timeout:g} s: the event is not stored"
        return f"{path} did not take the event within {timeout:g} s: it may or may not be stored"

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        self.epoch = self._database.prepare()
        connection = super()._open()
        connection.execute("PRAGMA busy_timeout = 0")  # see _begin
        self._most_bytes = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        return connection

    def _work(self, connection: sqlite3.Connection) -> None:
        stopping = False
        while not stopping:
            stopping = self._take(self._inbox.get())
            while self._waiting:
                try:
                    self._database.check()
                    begun, stopped = self._begin(connection)
                    stopping = stopping or stopped
                    if begun:
                        self._write(connection)
                except (sqlite3.Error, StorageError) as error:
                    self._reject(self._waiting, error)

    def _take(self, request: _Append | None) -> bool:
        """Note what the inbox held; whether it says stop."""
        if request is not None:
            self._waiting.append(request)
        return request is None
