"""What a log holds: entries in order, each with its place and the bytes that subscribers are sent."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import accumulate, repeat
from typing import Any, Final, NamedTuple

__all__ = ["FINISH", "NEVER", "Draft", "Entry", "Kind", "Run", "Window", "event_id", "parse_id", "split_frame"]

NEVER: Final = 0
"""The position before everything: the first entry of a log has the sequence 1."""


class Kind(IntEnum):
    """What an entry is; storages keep the number."""

    JSON = 0
    """An event whose data is JSON."""

    RAW = 1
    """An event whose data is text."""

    CONTROL = 2
    """An event of the broker's own, its data JSON."""

    FINISH = 3
    """The end of a channel, until something else is appended to it. It has no frame, and nobody is shown it."""


class Draft(NamedTuple):
    """What is to be appended: an event that has no id yet."""

    kind: int
    head: bytes
    """The fields in front of the id: comment, event, data."""
    tail: bytes
    """What follows it: retry, if there is one, and the empty line."""

    def frame(self, epoch: str, sequence: int) -> bytes:
        """The block that goes to subscribers, its id included."""
        if self.kind == Kind.FINISH:
            return b""
        return b"%bid: %b-%d\n%b" % (self.head, epoch.encode(), sequence, self.tail)


FINISH: Final = Draft(Kind.FINISH, b"", b"")


class Entry(NamedTuple):
    """One entry of a log, as it was stored."""

    sequence: int
    """Its place: it grows over all channels of a log."""
    channel: str
    kind: int
    at: float
    """When it was stored, in seconds since the epoch; in one channel it never goes back."""
    frame: bytes


def event_id(epoch: str, sequence: int) -> str:
    """The id of the event with this sequence; also the id of a position in the log."""
    return f"{epoch}-{sequence}"


# The digits are those of ASCII: \d would take others, which int() takes too.
_ID = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})")


def parse_id(id: str) -> tuple[str, int] | None:
    """The epoch and the sequence of an id; None if it is none of a broker's."""
    match = _ID.fullmatch(id)
    return None if match is None else (match[1], int(match[2]))


def split_frame(frame: bytes) -> tuple[str | None, str]:
    """The name of a frame's event, None if it has none, and its data as text."""
    start = 0
    while frame.startswith(b":", start):
        start = frame.index(b"\n", start) + 1
    name = None
    if frame.startswith(b"event: ", start):
        end = frame.index(b"\n", start)
        name = frame[start + len(b"event: ") : end].decode()
        start = end + 1
    # Each line of the data begins with its field's name, so this can't be found inside of it.
    end = frame.rindex(b"\nid: ")
    data = frame[start + len(b"data: ") : end].decode()
    return name, data.replace("\ndata: ", "\n")


class Run(Sequence[Entry]):
    """Some entries of one channel, in columns: most of them go out as bytes, and nobody asks for an entry."""

    __slots__ = ("_channel", "_made", "_times", "frames", "kinds", "sequences")

    def __init__(
        self, channel: str, sequences: array[int], kinds: bytearray, times: array[float], frames: list[bytes]
    ) -> None:
        self.sequences = sequences
        self.kinds = kinds
        self.frames = frames
        self._channel = channel
        self._times = times
        self._made: list[Entry] | None = None

    @property
    def _entries(self) -> list[Entry]:
        if self._made is None:
            columns = (self.sequences, repeat(self._channel), self.kinds, self._times, self.frames)
            self._made = list(map(Entry._make, zip(*columns, strict=False)))
        return self._made

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)


class Window:
    """The newest entries of one channel: grows at its end, shrinks at its front, is searched by sequence.

    It has their fields in columns, and makes entries of them for who asks. A process may hold a million: as tuples they
    would all be visited by the garbage collector, which then stops everything for half a second.
    """

    __slots__ = ("_channel", "_first", "_frames", "_kinds", "_sequences", "_times", "size")

    def __init__(self) -> None:
        self._channel = ""
        self._sequences = array("q")
        self._kinds = bytearray()
        self._times = array("d")
        self._frames: list[bytes] = []
        self._first = 0  # what stands before it was dropped, and is cut off when it is half of the list
        self.size = 0
        """Bytes of its frames."""

    def __len__(self) -> int:
        return len(self._frames) - self._first

    @property
    def oldest(self) -> Entry:
        return self._entry(self._first)

    @property
    def newest(self) -> Entry:
        return self._entry(-1)

    @property
    def oldest_at(self) -> float:
        """When the oldest entry was stored."""
        return self._times[self._first]

    def _entry(self, at: int) -> Entry:
        return Entry(self._sequences[at], self._channel, self._kinds[at], self._times[at], self._frames[at])

    def append(self, entry: Entry) -> None:
        sequence, self._channel, kind, at, frame = entry
        self._sequences.append(sequence)
        self._kinds.append(kind)
        self._times.append(at)
        self._frames.append(frame)
        self.size += len(frame)

    def drop_oldest(self) -> int:
        """Forget the oldest entry; its sequence."""
        first = self._first
        sequence = self._sequences[first]
        self.size -= len(self._frames[first])
        self._first = first = first + 1
        if first > len(self._frames) // 2:
            for column in (self._sequences, self._kinds, self._times, self._frames):
                del column[:first]
            self._first = 0
        return sequence

    def first_after(self, sequence: int) -> int | None:
        """The sequence of the first entry behind this position; None if there is none."""
        start = bisect_left(self._sequences, sequence + 1, lo=self._first)
        return self._sequences[start] if start < len(self._sequences) else None

    def after(self, sequence: int, most: int, most_bytes: int) -> Run:
        """The entries behind this position: at most so many, and not more once they have so many bytes."""
        start = bisect_left(self._sequences, sequence + 1, lo=self._first)
        frames = self._frames[start : start + most]
        if len(frames) > 1:
            sizes = list(accumulate(map(len, frames)))
            del frames[bisect_left(sizes, most_bytes) + 1 :]
        end = start + len(frames)
        return Run(self._channel, self._sequences[start:end], self._kinds[start:end], self._times[start:end], frames)
