"""What was seen of a stream. Measured by `measure`; the rules read it and know no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

from tidings.wire import ReceivedEvent

__all__ = ["PAUSE", "Burst", "Connection", "End", "Piece", "Record", "first_resumed"]

PAUSE: Final = 0.01
"""Seconds without a byte that part two bursts."""


class End(StrEnum):
    """How the reading of a stream ended."""

    STOPPED = "stopped"  # by us, and it would have gone on
    COMPLETED = "completed"  # by the server, in order
    CUT = "cut"  # by whoever it was, in the middle


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that came together; `at` counts seconds from the head, `size` is what went over the wire."""

    at: float
    size: int
    text: bytes  # decompressed
    events: int = 0  # that it completed


@dataclass(frozen=True, slots=True)
class Burst:
    """Pieces that came without a pause in between."""

    begin: float
    end: float
    text: bytes
    events: int

    @property
    def torn(self) -> bool:
        """It ends within a line, where no application would make a pause."""
        return not self.text.endswith((b"\n", b"\r"))


@dataclass(slots=True)
class Connection:
    """One request and what came back.

    Attributes:
        last_event_id: what was sent as such.
        unreachable: why there was no answer; None if there was one.
        redirects: the status of each, and where it led.
        connecting: seconds until the request was sent, redirects included.
        head: seconds from there to the head of the answer, None: it didn't come.
        end: how it ended, `age` seconds after the head.
        error: what the client said of an end in the middle.
        undecodable: the body's compression is one that can't be read here.
    """

    last_event_id: str | None = None
    unreachable: str | None = None
    redirects: list[tuple[int, str]] = field(default_factory=list)
    connecting: float = 0.0
    head: float | None = None
    url: str = ""
    status: int = 0
    http_version: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    events: list[ReceivedEvent] = field(default_factory=list)
    retry: int | None = None
    end: End = End.STOPPED
    age: float = 0.0
    error: str = ""
    undecodable: bool = False

    def header(self, name: str) -> str | None:
        """The values of a header, joined; None if it is missing."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def body(self) -> bytes:
        return b"".join(piece.text for piece in self.pieces)

    @property
    def bursts(self) -> list[Burst]:
        """The body by its pauses. What a decompressor gave out nothing for is none."""
        groups: list[list[Piece]] = []
        for piece in self.pieces:
            if not piece.text:
                continue
            if not groups or piece.at - groups[-1][-1].at >= PAUSE:
                groups.append([])
            groups[-1].append(piece)
        return [
            Burst(group[0].at, group[-1].at, b"".join(piece.text for piece in group), sum(p.events for p in group))
            for group in groups
        ]

    @property
    def silences(self) -> list[float]:
        """Seconds between bytes, from the head on; the last one is the silence before the end."""
        times = [0.0, *(piece.at for piece in self.pieces), self.age]
        return [later - earlier for earlier, later in pairwise(times)]

    @property
    def ids(self) -> list[str]:
        """The ids of its events, in order, each once."""
        return list(dict.fromkeys(event.id for event in self.events if event.id))


@dataclass(frozen=True, slots=True)
class Record:
    """A stream, connected to once, and again with the id of an event if it has ids or was cut."""

    seconds: float
    method: str
    origin: str | None
    http2: bool  # whether it was offered to the server
    first: Connection
    second: Connection | None = None


def first_resumed(first: Connection, again: Connection) -> ReceivedEvent | None:
    """The first event of a second connection that tells whether it resumed.

    Greetings don't: new events without an id, or with the id that was asked for, which says where the stream stands.
    """
    known = set(first.events)
    for event in again.events:
        if event.event == "reset" or (event.id and (event.id != again.last_event_id or event in known)):
            return event
    return None
