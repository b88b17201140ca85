"""Changes the log: whatever is to be changed while one transaction is written is the next one."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty
from typing import Any, Final, TypeVar, TypeVarTuple

from tidings.broker.sqlite.appending import Changes
from tidings.broker.sqlite.database import Database, committing, is_busy, pause
from tidings.broker.sqlite.worker import Worker, settle
from tidings.errors import PublishError

__all__ = ["Writer"]

T = TypeVar("T")
_Arguments = TypeVarTuple("_Arguments")

_BATCH_ENTRIES: Final = 1_000
"""A transaction ends with the change that brings it to so many entries; each counts as one at least."""

_BATCH_BYTES: Final = 4 << 20
"""A transaction ends with the change that brings it to this size."""

_ROW_BYTES: Final = 1_024
"""Bytes of a row beside its frame's head and tail, at the most."""


class _Request:
    """Somebody waits for this to be done and committed."""

    __slots__ = ("action", "arguments", "begun", "entries", "future", "size")

    def __init__(
        self,
        action: Callable[..., Any],
        arguments: tuple[Any, ...],
        entries: int,
        size: int,
        future: asyncio.Future[Any],
    ) -> None:
        self.action = action
        self.arguments = arguments
        self.entries = entries
        self.size = size
        self.future = future
        self.begun = False
        """Whether it may be stored though the caller gave up. Until then it won't be."""


class Writer(Worker[_Request]):
    """The thread that appends, and changes all else that goes with it.

    Args:
        database: the file; this thread prepares it.
        history: events to keep of a channel.
        timeout: seconds after which a change is given up. None: never.
        committed: called in the thread after each transaction with the bytes that it has written.
    """

    def __init__(
        self, database: Database, history: int | None, timeout: float | None, committed: Callable[[int], None]
    ) -> None:
        super().__init__("writer", database)
        self._history = history
        self._timeout = timeout
        self._committed = committed
        self._waiting: deque[_Request] = deque()  # taken from the inbox; the thread's own
        self._locked_out = False  # another process has the lock
        self._give_up_at = math.inf
        self.epoch = ""
        self.failing = False
        """Whether the last change could not be made, or took too long."""

    async def do(
        self,
        action: Callable[[Changes, *_Arguments], T],
        arguments: tuple[*_Arguments],
        what: str,
        entries: int,
        size: int,
    ) -> T:
        """Make a change, in one transaction with others; they are made in the order in which they were asked for.

        Args:
            action: makes it, in the thread. If it raises, the others fail, too.
            arguments: for it.
            what: it is called in messages.
            entries: that it appends.
            size: bytes of their frames, without the ids.

        Returns:
            What the action returned, once it is committed.

        Raises:
            PublishError: it may or may not be stored.
        """
        if self._stopping:
            raise PublishError(f"{self._database.path} is closed; the {what} is not stored")
        if size + _ROW_BYTES > self._most_bytes:
            raise PublishError(f"the {what} has {size} bytes, too many for SQLite; it is not stored")
        request = _Request(action, arguments, entries, size, self._loop.create_future())
        self._inbox.put(request)
        try:
            async with asyncio.timeout(self._timeout):
                result: T = await request.future
                return result
        except TimeoutError:
            self.failing = True
            path, timeout = self._database.path, self._timeout
            if request.begun:
                message = f"{path} did not confirm the {what} within {timeout:g} s; it may or may not be stored"
            elif self._locked_out:
                message = f"{path} was locked by another process for {timeout:g} s; the {what} is not stored"
            else:
                message = f"{path} did not take the {what} within {timeout:g} s; it is not stored"
            raise PublishError(message) from None

    def stop(self) -> None:
        self._give_up_at = time.monotonic() + self._database.patience
        super().stop()

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        self.epoch = self._database.prepare()
        connection = super()._open()
        connection.execute("PRAGMA busy_timeout = 0")  # see _begin
        self._most_bytes = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        return connection

    def _work(self, connection: sqlite3.Connection) -> None:
        while not (self._stopping and self._inbox.empty()):
            self._take(self._inbox.get())
            while self._waiting:
                try:
                    self._database.check()
                    if self._begin(connection):
                        self._write(connection)
                except Exception as error:  # noqa: BLE001 - raised by those who wait
                    self._reject(self._waiting, error)
                    self._waiting.clear()

    def _take(self, request: _Request | None) -> None:
        """Take this and all else that the inbox holds."""
        while True:
            if request is not None:
                self._waiting.append(request)
            try:
                request = self._inbox.get_nowait()
            except Empty:
                return

    def _begin(self, connection: sqlite3.Connection) -> bool:
        """Begin to write, once no other process does; False if all have given up waiting for it."""
        while True:
            while self._waiting and self._waiting[0].future.done():
                self._waiting.popleft()
            if not self._waiting:
                return False
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() >= self._give_up_at:
                    raise
                self._locked_out = True
                pause()
            else:
                self._locked_out = False
                return True

    def _write(self, connection: sqlite3.Connection) -> None:
        """One transaction."""
        self._take(None)  # what came while the lock was waited for
        batch: list[_Request] = []
        entries = size = 0
        while self._waiting and entries < _BATCH_ENTRIES and size < _BATCH_BYTES:
            request = self._waiting.popleft()
            request.begun = True  # before it is seen that the caller still waits
            if not request.future.done():
                batch.append(request)
                entries += request.entries or 1
                size += request.size
        try:
            with committing(connection):
                changes = Changes(connection, self.epoch)
                results = [request.action(changes, *request.arguments) for request in batch]
                changes.write(self._history)
        except Exception as error:  # noqa: BLE001 - raised by those who wait
            self._reject(batch, error)
        else:
            self.failing = False
            self._call(_settle_all, [request.future for request in batch], results)
            self._committed(changes.size)

    def _reject(self, requests: Iterable[_Request], cause: Exception) -> None:
        self.failing = True
        futures = [request.future for request in requests]
        self._call(_settle_all, futures, [_rejection(self._database.explain(cause), cause) for _ in futures])


def _rejection(why: str, cause: Exception) -> PublishError:
    error = PublishError(why)
    error.__cause__ = cause
    return error


def _settle_all(futures: Iterable[asyncio.Future[Any]], outcomes: Iterable[Any]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        settle(future, outcome)
