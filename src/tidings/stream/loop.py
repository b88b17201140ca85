"""What the streams of one event loop share, for as long as the loop lives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextvars import Context
from typing import ClassVar
from weakref import WeakKeyDictionary

from tidings.stream.heartbeat import Heartbeat
from tidings.stream.shutdown import Shutdown

__all__ = ["LoopState", "shutting_down"]


class LoopState:
    """The heartbeat and the shutdown of one event loop.

    Attributes:
        context: for callbacks that read no variable; of one loop, as two threads can't run in the same one at once.
    """

    _states: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, LoopState]] = WeakKeyDictionary()
    _of_thread: ClassVar[threading.local] = threading.local()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.heartbeat = Heartbeat(loop)
        self.shutdown = Shutdown(loop)
        self.context = Context()
        self._guard = self._until_loop_closes()

    @classmethod
    def current(cls) -> LoopState:
        """That of the running loop, made with its first stream."""
        loop = asyncio.get_running_loop()
        state = cls._states.get(loop)
        if state is None:
            for other in [other for other in cls._states if other.is_closed()]:
                cls._states.pop(other).close()
            state = cls._states[loop] = cls(loop)
            state._arm()
        return state

    @classmethod
    def find(cls) -> LoopState | None:
        """That of the running loop, or of the loop whose stream this thread serves; None if there is none."""
        try:
            return cls._states.get(asyncio.get_running_loop())
        except RuntimeError:
            return getattr(cls._of_thread, "state", None)

    def serve_thread(self) -> None:
        """Say that the current thread serves a stream of this loop."""
        LoopState._of_thread.state = self

    def _arm(self) -> None:
        # asyncio tells of a loop's end in one way: it closes the async generators that were begun on it.
        try:
            self._guard.__anext__().send(None)
        except StopIteration:
            return

    async def _until_loop_closes(self) -> AsyncGenerator[None, None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._states.pop(loop, None)
            self.close()

    def close(self) -> None:
        """The loop is at its end."""
        self.heartbeat.stop()
        if threading.current_thread() is threading.main_thread():
            self.shutdown.close()


def shutting_down() -> bool:
    """Whether the streams of this event loop were told to stop. A source may ask, in a sync generator's thread too."""
    state = LoopState.find()
    return state is not None and state.shutdown.begun
