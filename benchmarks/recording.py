"""A recorded event stream, 100 bytes an event: what a market-data feed sent, for clients to read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.traffic import SYMBOLS

NAMES = ("price", "trade", "order-book", "auction")
SIZES = (88, 104, 96, 112)
"""Bytes of the events in turn: 100 on average."""
NOTE = "continuous trading, next auction at 17:25"

Received = tuple[str, str, str]
"""The name, the data and the id of an event."""


@dataclass(frozen=True)
class Recording:
    stream: bytes
    events: list[Received]

    def chunks(self, size: int) -> list[bytes]:
        return [self.stream[start : start + size] for start in range(0, len(self.stream), size)]


def quoted(sequence: int, note: str) -> Received:
    data = {"symbol": SYMBOLS[sequence % 8], "price": 100.0 + sequence % 400 * 0.25, "note": note}
    return NAMES[sequence % 4], json.dumps(data, separators=(",", ":")), str(100_000 + sequence)


def block(event: Received) -> bytes:
    name, data, id = event
    return f"event: {name}\ndata: {data}\nid: {id}\n\n".encode()


def numbered(count: int) -> Iterator[Received]:
    for sequence in range(count):
        room = SIZES[sequence % 4] - len(block(quoted(sequence, "")))
        yield quoted(sequence, NOTE[:room])


@cache
def record(count: int) -> Recording:
    """A stream of `count` events, a multiple of 4."""
    events = list(numbered(count))
    stream = b"".join(map(block, events))
    assert len(stream) == 100 * count
    return Recording(stream, events)


@cache
def record_large(size: int) -> Recording:
    """A stream of one event of `size` bytes."""
    name, _, id = quoted(0, "")
    room = size - len(block((name, "", id)))
    data = (json.dumps(NOTE) * (room // len(NOTE) + 1))[:room]
    stream = block((name, data, id))
    assert len(stream) == size
    return Recording(stream, [(name, data, id)])
