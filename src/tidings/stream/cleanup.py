"""Closes a source where it stands, within a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import suppress
from types import coroutine
from typing import Any, cast

from tidings.sources.content import close_source
from tidings.sources.threaded import ThreadedSource
from tidings.stream.feeder import Feeder
from tidings.stream.stepping import AT_YIELD, IDLE, ONE_TURN

__all__ = ["Cleanup"]

logger = logging.getLogger("tidings.stream")

_CUTS = 3
"""How often a cleanup that is over its time is cancelled, before it is left to itself."""

_BETWEEN_CUTS = 0.05
"""Seconds."""


class Cleanup:
    """The end of a source: `CancelledError` at its `await`, or closed at its `yield`, in the request's task.

    Args:
        feeder: what drives the source.
        timeout: seconds that it may take; None: as long as it takes.
    """

    def __init__(self, feeder: Feeder, timeout: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._feeder = feeder
        self._cancels = 0  # of the task, by this cleanup
        self._cuts = 0
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            self.shorten(timeout)

    def shorten(self, timeout: float) -> None:
        """Let it take this long from now on, and no longer."""
        when = self._loop.time() + timeout
        if self._timer is None or when < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._cut)

    async def run(self) -> None:
        """Close the source; what it raises is logged.

        Raises:
            asyncio.CancelledError: somebody cancelled the task meanwhile.
        """
        before = self._task.cancelling()
        try:
            await self._close()
        except Exception:
            # The stream's own ending stands: there is nobody left to tell but the log.
            logger.warning("a source raised while it was closed", exc_info=True)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for _ in range(self._cancels):
                self._task.uncancel()
        if self._cuts and not isinstance(self._feeder.source, ThreadedSource):  # a thread can only end at its next item
            logger.warning("a source took too long to close: its cleanup was cancelled")
        if self._task.cancelling() > before:
            raise asyncio.CancelledError

    async def _close(self) -> None:
        pending = self._feeder.pending
        if not self._feeder.ended and pending is not None and pending is not AT_YIELD and pending is not IDLE:
            with suppress(asyncio.CancelledError):
                await self._cancel(pending)
        if not self._feeder.ended:
            self._feeder.steps.close()
        with suppress(asyncio.CancelledError):
            await self._carry_out(close_source(self._feeder.source).__await__())

    async def _cancel(self, pending: Any) -> None:
        """Cancel the source where it awaits, as a cancellation of the task would."""
        steps = self._feeder.steps.__await__()
        if self._task.cancel():
            self._cancels += 1
            await self._carry_out(steps, pending)  # asyncio does the rest, at this task's next suspension
        else:
            # Some servers run requests in what is no real task.
            await self._carry_out(steps, steps.throw(asyncio.CancelledError()))

    @coroutine
    def _carry_out(self, steps: Generator[Any, Any, Any], pending: Any = None) -> Generator[Any, Any, None]:
        """Await what was stepped by hand so far and is suspended on `pending`; leave it if it was cut too often."""
        try:
            if pending is None:
                pending = next(steps)
            while pending is not AT_YIELD and self._cuts < _CUTS:
                try:
                    if pending is None or pending is ONE_TURN:
                        yield
                    else:
                        pending._asyncio_future_blocking = True  # noqa: SLF001 - the mark of an awaited future
                        yield pending
                except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the source's
                    pending = steps.throw(raised)
                else:
                    pending = next(steps)
        except StopIteration:
            return

    def _cut(self) -> None:
        """It takes too long."""
        self._cuts += 1
        if self._task.cancel():
            self._cancels += 1
        if self._cuts < _CUTS:
            self._timer = self._loop.call_later(_BETWEEN_CUTS, self._cut)
