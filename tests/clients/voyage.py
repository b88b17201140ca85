"""What the tests' ferry sends, and what any client must make of it.

The voyage has whatever the format has: typed events, names, ids, text of several lines, characters that are line ends
to Python but not to the standard, an event larger than a socket takes at once, an empty one, and blocks that are no
events (comments, an id alone, the `retry` before everything).
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel

from tidings import Event, ServerSentEvent


class Call(BaseModel):
    port: str
    passengers: int


class CastOff(Event[Call]):
    pass


class Docked(Event[Call]):
    pass


class Seen(NamedTuple):
    """An event as the standard has clients dispatch it."""

    event: str
    data: str
    id: str


QUIET = object()
"""In place of an item: nothing to send, until the client has got some keep-alive comments."""

CHART = "é·🚢·\t" * 20_000

ITEMS: list[object] = [
    CastOff.create(Call(port="Ærøskøbing", passengers=37), id=1),
    QUIET,
    ServerSentEvent(raw_data="wind 4\n\n  engine: ok\u2028bridge: ok \n", event="logbook", id=2),
    ServerSentEvent(comment="a comment of the ship's own\nin two lines"),
    {"latitude": 54.8, "longitude": 10.4},
    ServerSentEvent(raw_data="", event="fog", id=3),
    QUIET,
    ServerSentEvent(raw_data=": data: no, id: 9\x85\v\f\x1e\u2029\0", id="4 ü"),
    ServerSentEvent(raw_data=CHART, event="chart", id=5),
    ServerSentEvent(id=6),
    QUIET,
    Docked.create(Call(port="Faaborg", passengers=38), id=7),
]

SEEN = [
    Seen("cast_off", '{"port":"Ærøskøbing","passengers":37}', "1"),
    Seen("logbook", "wind 4\n\n  engine: ok\u2028bridge: ok \n", "2"),
    Seen("message", '{"latitude":54.8,"longitude":10.4}', "2"),
    Seen("fog", "", "3"),
    Seen("message", ": data: no, id: 9\x85\v\f\x1e\u2029\0", "4 ü"),
    Seen("chart", CHART, "5"),
    Seen("docked", '{"port":"Faaborg","passengers":38}', "7"),
]

NAMES = sorted({seen.event for seen in SEEN})

CLEAN_CUTS, TORN_CUTS = {"1", "6"}, {"4 ü"}
"""Ids behind which a stream of legs ends: in good order, and in the middle of the response."""

LEGS = ["None", "1", "4 ü", "6"]
"""The ids that a client comes with, one request each, until it has everything."""

LAST = "7"
"""The id that is answered with 204."""
