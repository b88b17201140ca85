"""Stepping coroutines by hand, inside a task that asyncio drives as always."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

__all__ = ["AT_YIELD", "IDLE", "ONE_TURN", "Bell", "abandon"]


class _Marker:
    """What a suspended source waits for, when that is no future."""


AT_YIELD: Final = _Marker()
"""Nothing: the source stands at its `yield`."""

IDLE: Final = _Marker()
"""A call: nothing is suspended."""

ONE_TURN: Final = _Marker()
"""One turn of the event loop, as in `sleep(0)`."""


class Bell:
    """Lets one task wait until somebody rings.

    Args:
        context: what it is called in by futures; it reads none of the variables, so many bells may share one.
    """

    __slots__ = ("_context", "_waiter")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiter: asyncio.Future[None] | None = None

    def wait(self) -> asyncio.Future[None]:
        """What the next ring completes; to be awaited at once, by one at a time."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def ring(self) -> None:
        """Wake the task if it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def ring_after(self, future: Any) -> None:
        """Ring when the future is done, that a coroutine stepped by hand awaits."""
        # The mark of an awaited future is a word between it and the task, which never gets to see this one.
        future._asyncio_future_blocking = False  # noqa: SLF001
        # The bell itself and its context: a bound method and a copy of the current context would be 128 bytes more of
        # each stream that waits.
        future.add_done_callback(self, context=self._context)

    def __call__(self, _future: object) -> None:
        self.ring()


def abandon(steps: Generator[Any, Any, Any]) -> None:
    """Close what was stepped by hand, wherever it stands; nothing happens if it has ended."""
    close = getattr(steps, "close", None)  # a server's own awaitables may have none
    if close is not None:
        with suppress(asyncio.CancelledError, RuntimeError):
            close()
