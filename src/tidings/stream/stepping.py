"""Stepping coroutines by hand, inside a task that asyncio drives as always."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final

__all__ = ["AT_YIELD", "IDLE", "ONE_TURN", "Bell", "abandon", "observe"]


class _Marker:
    """What a suspended source waits for, when that is no future."""


AT_YIELD: Final = _Marker()
"""Nothing: the source stands at its `yield`."""

IDLE: Final = _Marker()
"""A call: nothing is suspended."""

ONE_TURN: Final = _Marker()
"""One turn of the event loop, as in `sleep(0)`."""


class Bell:
    """Lets one task wait until somebody rings."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def wait(self) -> asyncio.Future[None]:
        """What the next ring completes; to be awaited at once, by one at a time."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    def ring(self, _future: object = None) -> None:
        """Wake the task if it waits; usable as the callback of a future."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def observe(future: Any, callback: Callable[[Any], None]) -> None:
    """Have `callback` called when the future is done, that a coroutine stepped by hand awaits."""
    # The mark of an awaited future is a word between it and the task, which never gets to see this one.
    future._asyncio_future_blocking = False  # noqa: SLF001
    future.add_done_callback(callback)


def abandon(steps: Generator[Any, Any, Any]) -> None:
    """Close what was stepped by hand, wherever it stands; nothing happens if it has ended."""
    close = getattr(steps, "close", None)  # a server's own awaitables may have none
    if close is not None:
        with suppress(asyncio.CancelledError, RuntimeError):
            close()
