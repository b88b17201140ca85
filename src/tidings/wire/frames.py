"""Events that are bytes already, and what gives them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any

__all__ = ["FrameSource", "Frames"]


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


class FrameSource(AsyncIterator[Any]):
    """A source of frames that has a word in how its response starts and ends."""

    __slots__ = ()

    @abstractmethod
    async def open(self) -> bool:
        """Begin. False if nothing follows and nothing ever will: so the client isn't to come back."""

    @abstractmethod
    def joined(self) -> AsyncIterator[Frames]:
        """What the source gives, as much at a time as there is."""

    @abstractmethod
    def divert(self, take: Callable[[Frames], bool] | None) -> None:
        """Offer `take` what comes while whoever iterates `joined` waits for it; None: no more.

        It returns whether it has taken the frames. What it takes doesn't come out of the iterator.
        """

    @abstractmethod
    def position_frame(self) -> bytes:
        """A block that tells the client where the source stands; empty if it was told."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give no more."""
