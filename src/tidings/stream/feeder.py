"""Steps a source and collects the frames of its items."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Generator
from types import coroutine
from typing import Any

from tidings.events import ItemEncoder, has_data
from tidings.stream.stepping import AT_YIELD, ONE_TURN
from tidings.wire.event import ServerSentEvent

__all__ = ["Feeder"]

_BATCH_BYTES = 65_536
_BATCH_SECONDS = 0.001
_TURNS_SAVED = 16
"""How often in a row `sleep(0)` without an item counts as ready: a source that polls with it must let others run."""


class Feeder:
    """The source's side of a stream.

    Attributes:
        frames: what the items gave, not sent yet.
        events: how many events with data there were.
        complete: whether `max_events` of them were reached.
        pending: what the suspended source waits for: a future, `AT_YIELD` or `ONE_TURN`; None before and after.
        ended: the source has ended, by itself or by an error.
        error: what it raised.
    """

    __slots__ = (
        "_deadline",
        "_encode",
        "_max_events",
        "_room",
        "_steps",
        "_stopped",
        "complete",
        "ended",
        "error",
        "events",
        "frames",
        "pending",
        "source",
    )

    def __init__(self, source: AsyncIterator[Any], encode: ItemEncoder, max_events: int | None) -> None:
        self.source = source
        self.frames: list[bytes] = []
        self.events = 0
        self.complete = False
        self.pending: Any = None
        self.ended = False
        self.error: BaseException | None = None
        self._encode = encode
        self._max_events = max_events
        self._stopped = False
        self._room = 0  # bytes until the batch is full
        self._deadline = 0.0
        self._steps: Coroutine[Any, None, None] = self._feed()

    @property
    def steps(self) -> Coroutine[Any, None, None]:
        """The coroutine between the source and `advance`, for who closes it."""
        return self._steps

    async def _feed(self) -> None:
        """Collect frames; suspends where the source does, and at a full batch. The loop that every event passes."""
        encode = self._encode
        collect = self.frames.append
        clock = time.perf_counter
        async for item in self.source:
            frame = encode(item)
            collect(frame)
            if not isinstance(item, ServerSentEvent) or has_data(item):
                self.events += 1
                if self.events == self._max_events:
                    self.complete = True
                    self.stop()
            self._room -= len(frame)
            if self._room <= 0 or clock() >= self._deadline:
                await _batch_is_full()

    def stop(self) -> None:
        """Take no item more than the one that may be under way."""
        self._stopped = True
        self._room = 0

    def advance(self, error: BaseException | None = None) -> None:
        """Let the source run, or raise `error` where it waits, until it suspends, fills a batch or ends."""
        self._deadline = time.perf_counter() + _BATCH_SECONDS
        if not self._stopped:
            self._room = _BATCH_BYTES
        turns = 0
        while True:
            try:
                waits_for = self._steps.send(None) if error is None else self._steps.throw(error)
            except StopIteration:
                self._end(None)
                return
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - whatever the source raises
                self._end(raised)
                return
            error = None
            if waits_for is None:
                turns += 1
                if turns < _TURNS_SAVED and time.perf_counter() < self._deadline:
                    continue
                waits_for = ONE_TURN
            elif waits_for is not AT_YIELD and getattr(waits_for, "_asyncio_future_blocking", None) is None:
                error = RuntimeError(f"the source awaited what is no asyncio future: {waits_for!r}")
                continue
            self.pending = waits_for
            return

    def _end(self, error: BaseException | None) -> None:
        self.ended = True
        self.pending = None
        self.error = error

    def pass_on(self, cancelled: asyncio.CancelledError) -> None:
        """Give the source a cancellation of the task, at its `await`, as if it were awaited directly.

        Somebody other than the pump cancelled: a timeout or a scope of the source's own, one around the request, or the
        server. Where the source isn't suspended in an `await`, the cancellation goes up.
        """
        if self.ended or self.pending is AT_YIELD or self.pending is None:
            raise cancelled
        # As Task.cancel() does it: the awaited future first, and if that is done already, the coroutine.
        if self.pending is ONE_TURN or not self.pending.cancel(*cancelled.args):
            self.advance(cancelled)
        elif self.pending.done():
            self.advance()


@coroutine
def _batch_is_full() -> Generator[Any, None, None]:
    yield AT_YIELD
