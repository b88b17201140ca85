"""Events that are bytes already, and what gives them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Protocol

__all__ = ["FrameSource", "Frames", "Listener"]


class Frames:
    """An item of a stream that is encoded already: it goes out as it is.

    Attributes:
        frame: one block, or several.
        events: how many of them have data.
    """

    __slots__ = ("events", "frame")

    def __init__(self, frame: bytes, events: int = 1) -> None:
        self.frame = frame
        self.events = events


class Listener(Protocol):
    """Whom a source of frames calls."""

    def on_news(self, frames: Frames | None) -> bool:
        """There is something: these frames, or what `FrameSource.ready_frames` is to be called for.

        Returns:
            whether the frames are taken.
        """


class FrameSource(AsyncIterator[Any]):
    """A source of frames that has a word in how its response starts and ends."""

    __slots__ = ()

    @abstractmethod
    async def open(self) -> bool:
        """Begin. False if nothing follows and nothing ever will: so the client isn't to come back.

        Unless it returns True nothing is held, and `aclose` need not be called.
        """

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether nothing follows."""

    @abstractmethod
    async def ready_frames(self) -> Frames | None:
        """What there is, joined; None if there is nothing now."""

    @abstractmethod
    def listen(self, listener: Listener) -> None:
        """From now on call the listener when there is something after `ready_frames` had nothing.

        It is called on the event loop, outside of every task: with frames, if some are ready.
        """

    @abstractmethod
    def position_frame(self) -> bytes:
        """A block that tells the client where the source stands; empty if it was told."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give no more."""
