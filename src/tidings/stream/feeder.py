"""Steps a source and collects the frames of its items."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Generator
from types import coroutine
from typing import Any, cast

from tidings.events import ItemEncoder
from tidings.sources.content import Resumable
from tidings.stream.loop import LoopState
from tidings.stream.stepping import AT_YIELD, IDLE, ONE_TURN, Bell
from tidings.wire.frames import FrameSource

__all__ = ["Feeder", "batch_is_full"]

_BATCH_BYTES = 65_536
_BATCH_SECONDS = 0.001
_TURNS_SAVED = 16
"""How often in a row `sleep(0)` without an item counts as ready: a source that polls with it must let others run."""


class Feeder:
    """The source's side of a stream.

    Attributes:
        bell: rung when the source has what it waited for. Whoever else wakes the stream's task rings it, too.
        frames: what the items gave, not sent yet.
        complete: whether `max_events` of them were reached.
        pending: what the suspended source waits for: a future, `AT_YIELD`, `ONE_TURN` or `IDLE`; None before and after.
        ended: the source has ended, by itself or by an error.
        error: what it raised.
        source: what is stepped.
        steps: the coroutine around it that `advance` steps, for who closes it.
    """

    __slots__ = (
        "_cancelling",
        "_deadline",
        "_encoder",
        "_left",
        "_room",
        "_silent",
        "_stopped",
        "_task",
        "bell",
        "complete",
        "ended",
        "error",
        "frames",
        "pending",
        "source",
        "steps",
    )

    def __init__(self, source: AsyncIterator[Any], encoder: ItemEncoder, max_events: int | None) -> None:
        self.source = source
        self.bell = Bell(LoopState.current().context)
        self.frames: list[bytes] = []
        self._silent = 0  # how many more frames there are than events with data in them
        self.complete = False
        self.pending: Any = None
        self.ended = False
        self.error: BaseException | None = None
        self._encoder = encoder
        self._left = max_events or 0  # events with data until that; 0 if there is no limit
        self._stopped = False
        self._room = 0  # bytes until the batch is full
        self._deadline = 0.0
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self.steps: Coroutine[Any, None, None] = self._feed()

    @property
    def ready(self) -> bool:
        """Whether the source can run: it has not begun, or has what it waited for."""
        pending = self.pending
        return (
            pending is None
            or pending is AT_YIELD
            or pending is ONE_TURN
            or (pending is not IDLE and bool(pending.done()))
        )

    async def _feed(self) -> None:
        """Collect frames; suspends where the source does, and at a full batch. The loop that every event passes."""
        kind = None
        frames = self.frames
        clock = time.perf_counter
        counted = self._left > 0
        items: Any = self.source
        while True:
            async for item in items:
                if type(item) is not kind:  # most are of the type of the one before
                    kind = type(item)
                    encode, count_events = self._encoder.of(kind)
                frame = encode(item)
                frames.append(frame)
                events = 1
                if count_events is not None:
                    events = count_events(item)
                    self._silent += 1 - events
                if counted and events:
                    self._count_down()
                self._room -= len(frame)
                del item, frame  # a silent stream doesn't hold its last event
                if self._room <= 0 or clock() >= self._deadline:
                    try:
                        await batch_is_full()
                    except asyncio.CancelledError as cancelled:
                        items = Resumable(self.source)
                        items.cancel(cancelled)
                        break
            else:
                return

    def _count_down(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.complete = True
            self.stop()
        elif self._left < 0:  # a scope of the source's has cancelled it at the `yield` of the last one, and it went on
            self.frames.pop()

    def add(self, block: bytes, events: int = 0) -> None:
        """Put a block behind the frames, or several at once, with so many events with data in them."""
        if block:
            self.frames.append(block)
            self._silent += 1 - events
            self._room -= len(block)

    def take(self) -> tuple[bytes, int]:
        """Hand over the frames, joined, and how many events with data they hold."""
        body = b"".join(self.frames)
        events = len(self.frames) - self._silent
        self.frames.clear()
        self._silent = 0
        return body, events

    def position_frame(self) -> bytes:
        """A block that says where the source stands, if the client is to be told."""
        return self.source.position_frame() if isinstance(self.source, FrameSource) else b""

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
                waits_for = self.steps.send(None) if error is None else self.steps.throw(error)
            except StopIteration:
                self._end(None)
                return
            except (Exception, BaseExceptionGroup, asyncio.CancelledError) as raised:  # noqa: BLE001 - whatever it is
                self._end(raised)
                return
            except BaseException:  # the process's own end, which waits for nothing
                self._end(None)
                raise
            error = None
            if waits_for is None:
                turns += 1
                if turns < _TURNS_SAVED and time.perf_counter() < self._deadline:
                    continue
                waits_for = ONE_TURN
            elif waits_for is not AT_YIELD:
                if getattr(waits_for, "_asyncio_future_blocking", None) is None:
                    error = RuntimeError(f"the source awaited what is no asyncio future: {waits_for!r}")
                    continue
                self.bell.ring_after(waits_for)
            self.pending = waits_for
            return

    def resume(self) -> None:
        """A source that was idle has something."""
        if self.pending is IDLE:
            self.pending = None

    def _end(self, error: BaseException | None) -> None:
        self.ended = True
        self.pending = None
        self.error = error

    def pass_on(self, cancelled: asyncio.CancelledError) -> None:
        """Give the source a cancellation of the task, at its `await`, as if it were awaited directly.

        Somebody other than the pump cancelled: a timeout or a scope of the source's own, one around the request, or the
        server. A generator that stands at its `yield` gets it there, for its scopes to see. What the source doesn't
        take goes up.
        """
        if self.ended or self.pending is None or self.pending is IDLE:
            raise cancelled
        # As Task.cancel() does it: the awaited future first, and if that is done already, the coroutine.
        if self.pending is AT_YIELD or self.pending is ONE_TURN:
            self._unwind(cancelled)
        elif not self.pending.cancel(*cancelled.args):
            self.pending.add_done_callback(_retrieve)  # the source never gets to see what became of it
            self._unwind(cancelled)
        elif self.pending.done():
            self._unwind()

    @property
    def unwinding(self) -> bool:
        """Whether the source is busy with a cancellation, its own or one from outside, and isn't to be left waiting."""
        at_rest = self.pending is None or self.pending is AT_YIELD or self.pending is IDLE
        return not at_rest and self.cancelled

    @property
    def cancelled(self) -> bool:
        """Whether the task is to be cancelled: no scope of the source's has taken it back."""
        return self._task.cancelling() > self._cancelling

    async def unwind(self) -> None:
        """Let a source that is unwinding do its next step, or wait until it can, or until the bell rings."""
        pending = self.pending
        if pending is ONE_TURN:
            await asyncio.sleep(0)
        elif not pending.done():
            await self.bell.wait()
        if self.pending is pending and (pending is ONE_TURN or pending.done()):
            self._unwind()

    def _unwind(self, error: asyncio.CancelledError | None = None) -> None:
        self.advance(error)
        if isinstance(self.error, asyncio.CancelledError):
            raise self.error  # it was not the source's own, and waits for no write


def _retrieve(future: Any) -> None:
    """Look at a future's exception, or asyncio says in the log that nobody has."""
    if not future.cancelled():
        future.exception()


@coroutine
def batch_is_full() -> Generator[Any, None, None]:
    """Suspend a feeder's steps: what was collected is to be sent."""
    yield AT_YIELD
