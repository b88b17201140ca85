"""Ends a stream at a time of the calendar, such as the end of a login."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any, Final

from starlette.exceptions import HTTPException

from tidings.stream.ending import Ending
from tidings.stream.pump import Pump

__all__ = ["check_not_past", "is_moment", "run_until"]

_LOOK: Final = 30.0
"""Seconds between two looks at the clock on the wall. It may be set, and it goes on while a machine sleeps; the event
loop's clock does neither."""

_YEAR_10000: Final = 253_402_300_800
"""Whoever says a later time has milliseconds, and would wait for ever."""


def is_moment(value: Any) -> bool:
    """Whether it says a time that means the same everywhere."""
    if isinstance(value, datetime):
        return value.utcoffset() is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _YEAR_10000


def check_not_past(moment: datetime | float) -> None:
    """Raise what is answered to who comes too late: as the login would say that is asked a little later."""
    if _seconds_to(moment) <= 0:
        raise HTTPException(401, "The login has expired.", {"www-authenticate": 'Bearer error="invalid_token"'})


async def run_until(moment: datetime | float, pump: Pump) -> Ending:
    """Run a stream, and end it in good order at that time, if it hasn't ended before."""
    expiry = _Expiry(moment, pump)
    try:
        return await pump.run()
    finally:
        expiry.cancel()


class _Expiry:
    """Ends the stream by whichever clock comes first to its time: one that is set back gives nobody more of it."""

    def __init__(self, moment: datetime | float, pump: Pump) -> None:
        self._loop = asyncio.get_running_loop()
        self._moment = moment
        self._due = self._loop.time() + _seconds_to(moment)
        self._pump = pump
        self._plan()

    def _plan(self) -> None:
        left = max(0.0, min(_seconds_to(self._moment), self._due - self._loop.time()))
        self._timer = self._loop.call_later(min(left, _LOOK), self._look)

    def _look(self) -> None:
        if _seconds_to(self._moment) <= 0 or self._loop.time() >= self._due:
            self._pump.reach_limit()
        else:
            self._plan()

    def cancel(self) -> None:
        self._timer.cancel()


def _seconds_to(moment: datetime | float) -> float:
    return (moment.timestamp() if isinstance(moment, datetime) else moment) - time.time()
