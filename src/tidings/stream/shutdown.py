"""Ends streams when the process is told to stop.

ASGI has no message for it: a server that was sent SIGTERM waits for its responses, and an endless stream never ends.
So the first stream of a loop in the main thread puts handlers in front of the server's own for SIGTERM and SIGINT; each
tells the loop's streams to end, then calls the handler that it found.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

__all__ = ["Shutdown", "Stoppable"]

logger = logging.getLogger("tidings.stream")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_Handler = Callable[[int, FrameType | None], Any]


class Stoppable(Protocol):
    """What a shutdown ends."""

    def shut_down(self) -> None:
        """End soon, and never block."""


class Shutdown:
    """The streams open on one event loop, and the signals that end them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: set[Stoppable] = set()
        self._replaced: dict[int, _Handler] = {}
        self.begun = False

    def admit(self, stream: Stoppable) -> None:
        """Count a stream as open. If the shutdown has begun it is told at once."""
        if not self._streams and threading.current_thread() is threading.main_thread():
            self._take_signals()
        self._streams.add(stream)
        if self.begun:
            stream.shut_down()

    def release(self, stream: Stoppable) -> None:
        """The stream has ended."""
        self._streams.discard(stream)

    def begin(self) -> None:
        """Tell every stream to end, and each one admitted later."""
        if self.begun:
            return
        self.begun = True
        logger.debug("shutdown: ending %d streams", len(self._streams))
        for stream in list(self._streams):
            stream.shut_down()

    def close(self) -> None:
        """The loop closes: put the handlers back, but for those that others have replaced since."""
        for number, handler in self._replaced.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, _without_runner(handler))
        self._replaced.clear()

    def _take_signals(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler == self._on_signal:
                continue
            if self._replaced.pop(number, None) is not None:
                # Ours was replaced while no stream was open: by the server's end, or by a new server on the same loop.
                self.begun = False
            if callable(handler):
                # SIG_DFL ends the process at once, SIG_IGN says that the signal means nothing here: both stay.
                self._replaced[number] = handler
                signal.signal(number, self._on_signal)
                # uvicorn serves what comes within a moment after the signal, and this may be its first stream.
                if getattr(getattr(handler, "__self__", None), "should_exit", None) is True:
                    self.begun = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._loop.is_closed():
            # This runs between two instructions of whatever the main thread does: the work is left to the loop.
            self._loop.call_soon_threadsafe(self.begin)
        replaced = self._replaced.get(number)
        if replaced is not None:
            replaced(number, frame)


def _without_runner(handler: _Handler) -> _Handler:
    """What asyncio.run() replaced, if the handler is its own: it puts that back only where it finds its own."""
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return signal.default_int_handler if isinstance(runner, asyncio.Runner) else handler
