"""Feeds a stream from a source of frames, and keeps nothing suspended while that has nothing."""

from __future__ import annotations

import time

from tidings.events import StreamItems
from tidings.stream.feeder import Feeder, batch_is_full
from tidings.stream.stepping import IDLE
from tidings.wire.frames import FrameSource

__all__ = ["FrameFeeder"]

_ENCODER = StreamItems().encoder()
"""Nothing is left to encode: all such feeders have this one."""


class FrameFeeder(Feeder):
    """The source's side of a stream of frames.

    A source of items waits in a coroutine of its own. This one calls when it has something, so nothing has to wait for
    it: most of many streams are silent most of the time, and that is what each of them costs.
    """

    __slots__ = ()

    source: FrameSource

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source, _ENCODER, None)

    def advance(self, error: BaseException | None = None) -> None:
        if self.steps is _OVER:
            self.steps = self._feed()
        super().advance(error)

    async def _feed(self) -> None:
        while (frames := await self.source.ready_frames()) is not None:
            self.add(frames.frame, frames.events)
            if self._room <= 0 or time.perf_counter() >= self._deadline:
                await batch_is_full()

    def _end(self, error: BaseException | None) -> None:
        if error is None and not self.source.ended:
            self.steps = _OVER
            self.pending = IDLE
        else:
            super()._end(error)


async def _nothing() -> None:
    pass


_OVER = _nothing()
"""Steps that are over, for all feeders: what has run keeps its memory as long as somebody holds it."""

_OVER.close()
