"""A thread that owns a connection, and does one thing after the other with it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from tidings.broker.sqlite.database import Database

__all__ = ["Worker", "settle"]

Message = TypeVar("Message")


class Worker(ABC, Generic[Message]):
    """What the threads of a storage have in common. All but `_open` and `_work` runs on the event loop."""

    def __init__(self, name: str, database: Database) -> None:
        self._name = name
        self._database = database
        self._inbox: SimpleQueue[Message | None] = SimpleQueue()
        """What is to be done; None: stop."""
        self._stopping = False
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Start the thread; returns when it has its connection.

        Raises:
            StorageError: it can't have one.
        """
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        started: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a disk that doesn't answer must not keep the process from its exit.
        thread = threading.Thread(target=self._run, args=(started,), name=f"tidings-{self._name}", daemon=True)
        thread.start()
        self._thread = thread
        await started

    def stop(self) -> None:
        """Have the thread do what must still be done, then end."""
        self._stopping = True
        self._inbox.put(None)

    async def wait_until_ended(self, timeout: float) -> bool:
        """Whether the thread has ended, and released what it had."""
        if self._thread is None:
            return True
        await asyncio.wait([self._ended], timeout=timeout)
        if self._ended.done():
            self._thread.join()  # it is on its last line
        return self._ended.done()

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _run(self, started: asyncio.Future[None]) -> None:
        try:
            try:
                connection = self._open()
            except BaseException as error:  # noqa: BLE001 - raised by start()
                self._call(settle, started, error)
                return
            self._call(settle, started, None)
            try:
                self._work(connection)
            finally:
                with suppress(sqlite3.Error):
                    connection.close()
        finally:
            self._call(settle, self._ended, None)

    def _open(self) -> sqlite3.Connection:
        return self._database.connect()

    @abstractmethod
    def _work(self, connection: sqlite3.Connection) -> None:
        """Do what the inbox says, until it says None."""

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function on the event loop."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def settle(future: asyncio.Future[Any], outcome: Any) -> None:
    """Give a future its result or its exception; nothing happens if nobody waits for it any more."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
