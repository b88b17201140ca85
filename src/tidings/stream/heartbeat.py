"""Keeps silent connections alive: one timer per event loop, however many streams there are."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

__all__ = ["Heartbeat", "Silent"]

_TICK = 0.05
"""Seconds between two slots of the wheel: a ping is late by this at the most."""


class Silent(Protocol):
    """What a heartbeat watches over."""

    def next_ping(self, now: float) -> float:
        """Ping now if it is time to; return when to look again, in the loop's time."""


class Heartbeat:
    """A timer wheel. Each stream stands in one slot and is looked at once per interval, not at each of its events."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Silent]] = {}
        self._slot_of: dict[Silent, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_slot = 0

    def watch(self, stream: Silent, at: float) -> None:
        """Look at the stream at this time of the loop, and from then on as it says."""
        slot = math.ceil(at / _TICK)
        self._slots.setdefault(slot, set()).add(stream)
        self._slot_of[stream] = slot
        if self._timer is None or slot < self._timer_slot:
            self._set_timer(slot)

    def forget(self, stream: Silent) -> None:
        """Look at the stream no more; nothing happens if it isn't watched."""
        slot = self._slot_of.pop(stream, None)
        if slot is not None and slot in self._slots:
            self._slots[slot].discard(stream)
            if not self._slots[slot]:
                del self._slots[slot]
        if not self._slot_of:
            self.stop()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, slot: int) -> None:
        self.stop()
        self._timer_slot = slot
        self._timer = self._loop.call_at(slot * _TICK, self._turn)

    def _turn(self) -> None:
        self._timer = None
        for stream in self._slots.pop(self._timer_slot, ()):
            del self._slot_of[stream]
            self.watch(stream, stream.next_ping(self._loop.time()))
        if self._slots:
            self._set_timer(min(self._slots))
