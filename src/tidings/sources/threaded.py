"""A sync iterable as an async iterator, on a thread of its own.

Not on the pool that `def` endpoints run in: a few dozen idle sources would use it up.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Self

__all__ = ["ThreadLimitReached", "ThreadedSource"]

_AHEAD = 256
"""Items that a thread may be ahead of its reader."""


class ThreadLimitReached(Exception):  # noqa: N818 - a reason, which the response turns into a 503
    """The process has as many sync sources as it may."""


class _Threads:
    """How many threads run sources in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def take(self, limit: int) -> None:
        with self._lock:
            if self._count >= limit:
                raise ThreadLimitReached
            self._count += 1

    def give_back(self) -> None:
        with self._lock:
            self._count -= 1


_threads = _Threads()


class ThreadedSource:
    """Hands over each item the moment the thread has it; wakes the loop once for a burst of them.

    `reserve` comes first and may fail; then either iterate, or `aclose`.
    """

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterable = iterable
        self._in_thread: Callable[[], None] | None = None
        self._items: deque[Any] = deque()
        # The newest, until it is woken: a deque, as `pop` takes it in one step that nothing else comes between.
        self._waiter: deque[asyncio.Future[None]] = deque(maxlen=1)
        self._drained = threading.Event()
        self._closing = False
        self._over = False  # the thread has ended; what it left is in _items and _error
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._reserved = False

    def reserve(self, limit: int, in_thread: Callable[[], None] | None = None) -> None:
        """Count this source's thread, in which `in_thread` is called first.

        Raises:
            ThreadLimitReached: the process has `limit` of them.
        """
        _threads.take(limit)
        self._reserved = True
        self._in_thread = in_thread

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._thread is None:
            self._start()
        while True:
            if self._items:
                return self._items.popleft()
            self._drained.set()
            if self._over and not self._items:
                error, self._error = self._error, None
                raise error if error is not None else StopAsyncIteration
            await self._wait()

    async def aclose(self) -> None:
        """Close the iterable, in its thread, at the item where it is; return when that is done."""
        self._closing = True
        self._drained.set()
        if self._thread is None:
            self.release()
            return
        while not self._over:
            self._items.clear()
            await self._wait()
        if self._error is not None:
            raise self._error

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiter.append(waiter)
        # The thread looks for a waiter after it has put an item: one that came since we looked must not be missed.
        if not self._items and not self._over:
            await waiter
        self._waiter.clear()

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        # A daemon: a source that blocks for good must not keep the process from its exit.
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="tidings-source", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            raise

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._in_thread is not None:
                self._in_thread()
            self._iterate()
        except BaseException as error:  # noqa: BLE001 - raised again where the items are read
            self._error = error
        finally:
            self._over = True
            self.release()
            self._notify()

    def _iterate(self) -> None:
        iterator = iter(self._iterable)
        try:
            for item in iterator:
                if self._closing:
                    return
                self._items.append(item)
                self._notify()
                if len(self._items) >= _AHEAD:
                    self._wait_until_drained()
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _wait_until_drained(self) -> None:
        self._drained.clear()
        # Looked at again, or what happened before the clear() would be waited for in vain.
        if len(self._items) >= _AHEAD and not self._closing:
            self._drained.wait()

    def _notify(self) -> None:
        try:
            waiter = self._waiter.pop()
        except IndexError:
            return  # the reader is awake
        try:
            self._loop.call_soon_threadsafe(_wake, waiter)
        except RuntimeError:
            self._closing = True  # the loop is closed: nobody reads on

    def release(self) -> None:
        """Count it no more: its thread has ended, or will never begin."""
        if self._reserved:
            self._reserved = False
            _threads.give_back()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
