"""Moves the clock of the running event loop forward, from timer to timer.

Everything in asyncio that waits for a time, `sleep` and `timeout` and `call_later`, asks its loop for the time and
leaves a timer with it. So the clock of the loop is all that has to be moved. It is never set back, and goes on at its
own pace where it was moved to.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["advance"]

_TURNS = 1_000
"""How often the loop may turn before what is still busy, with `sleep(0)` say, is no longer waited for."""

_ROUNDING = 0.001
"""Seconds by which many short times may add up to more than a long one."""


async def advance(seconds: float) -> None:
    """Move the running loop's clock forward; what is due meanwhile happens, in its order and each thing at its time.

    Returns when everything that it set off has come to wait for something else: a later time, a message, a thread.

    Raises:
        RuntimeError: the loop keeps its timers where Python doesn't get at them, as uvloop does.
        ValueError: the seconds are negative or no number.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"'seconds' must be positive, not {seconds!r}: time doesn't run backwards")
    loop: Any = asyncio.get_running_loop()
    clock = _clock_of(loop)
    with clock.stopped():
        end = clock() + seconds
        await _settle(loop)
        while (timer := _next_timer(loop)) is not None and timer.when() <= end + _ROUNDING:
            clock.move_to(timer.when())
            while _next_timer(loop) is timer:
                await asyncio.sleep(0)
            await _settle(loop)
        clock.move_to(end)
        await _settle(loop)


class _Clock:
    """The clock that a loop had, so many seconds ahead.

    While it is moved it stands still in between: else a source that sleeps three times for a second would be late for
    the end of three seconds, by what its steps take.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._ahead = 0.0
        self._stops = 0
        self._stopped_at = 0.0

    def __call__(self) -> float:
        return self._stopped_at if self._stops else self._time() + self._ahead

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self._stopped_at = self()
        self._stops += 1
        try:
            yield
        finally:
            self._stops -= 1
            if not self._stops:
                self._ahead = self._stopped_at - self._time()

    def move_to(self, time: float) -> None:
        # A loop calls what is due before its time, not at it.
        self._stopped_at = max(self._stopped_at, math.nextafter(time, math.inf))


def _clock_of(loop: Any) -> _Clock:
    clock = getattr(loop, "time", None)
    if isinstance(clock, _Clock):
        return clock
    if not isinstance(loop, asyncio.BaseEventLoop) or not {"_ready", "_scheduled"} <= vars(loop).keys():
        kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
        raise RuntimeError(
            f"only the clock of asyncio's own event loops can be moved: run this test on one, not {kind}"
        )
    clock = _Clock(loop.time)
    loop.time = clock  # type: ignore[method-assign] # the loop asks itself for the time wherever it needs it
    return clock


def _next_timer(loop: Any) -> asyncio.TimerHandle | None:
    scheduled: list[asyncio.TimerHandle] = loop._scheduled  # noqa: SLF001 - a heap; there is no other way to it
    return scheduled[0] if scheduled else None


async def _settle(loop: Any) -> None:
    """Let everything run that can."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
        if not loop._ready:  # noqa: SLF001
            return
