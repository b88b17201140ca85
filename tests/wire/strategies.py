"""Streams, events, and ways to cut bytes, for the property tests."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st

from tidings.wire import ServerSentEvent

properties = settings(max_examples=150, deadline=None, derandomize=True)
"""The same examples in every run."""

# Random bytes hardly ever spell a field; these are what the branches of a decoder look at.
TOKENS = [
    *(b"data", b"event", b"id", b"retry", b"data: ", b"id: ", b"event: ", b"retry: "),
    *(b"Data", b"unknown", b":", b" ", b"0", b"15", "٣".encode(), b"\xb2", b"text", "é🐟".encode()),
    *(b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\0", "\u2028".encode(), b"\xc2\x85", b"\x0b"),
    *(b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xbf", b"\xe2\x82", b"\xac", b"\xed\xa0\x80", b"\xff"),
]


def streams() -> st.SearchStrategy[bytes]:
    """Streams of fields, line ends, and what only looks like them."""
    return st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=40).map(b"".join)


def blocks() -> st.SearchStrategy[bytes]:
    """Streams of whole lines: events in the forms that servers write, and in forms that are nearly those."""
    values = st.sampled_from([b"", b" ", b" 7", b"7", b"  a: b ", b" \0", " é🐟".encode(), b" \xff", b" data: x"])
    names = st.sampled_from([b"data", b"data", b"event", b"id", b"id", b"retry", b"", b"datax"])
    fields = st.tuples(names, st.just(b":"), values).map(b"".join) | st.sampled_from([b"data", b"id", b"event"])
    ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r", b"\r\n"])
    return st.lists(st.tuples(fields | st.just(b""), ends).map(b"".join), max_size=40).map(b"".join)


@st.composite
def chunkings(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream cut anywhere, into pieces that may be empty."""
    cuts = draw(st.lists(st.integers(min_value=0, max_value=len(stream)), max_size=12))
    return [stream[start:end] for start, end in pairwise([0, *sorted(cuts), len(stream)])]


def json_values() -> st.SearchStrategy[object]:
    """What comes back from JSON as it went in."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.recursive(
        scalars,
        lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
        max_leaves=5,
    )


def lines(exclude: str = "\r\n") -> st.SearchStrategy[str]:
    """Text of one line; often what has to do with the format."""
    characters = st.characters(codec="utf-8", exclude_characters=exclude) | st.sampled_from(": \u2028\x85\v\ufeff")
    return st.text(characters, max_size=20)


def texts() -> st.SearchStrategy[str]:
    """Text of any number of lines."""
    return st.lists(lines() | st.sampled_from(["\n", "\r", "\r\n"]), max_size=8).map("".join)


def any_texts() -> st.SearchStrategy[str]:
    """What somebody types, or wants to be taken for a field; also halves of surrogate pairs."""
    injected = [
        "\ndata: x",
        "\n\n",
        "\r\nid: 7\r\n",
        "\revent: x",
        "data: ",
        ":",
        "\0",
        "\u2028id: 7",
        "\x85",
        "\ufeff",
        "\ud800",
    ]
    return st.lists(st.sampled_from(injected) | st.text(st.characters(), max_size=4) | lines(), max_size=4).map("".join)


@st.composite
def server_sent_events(draw: st.DrawFn) -> ServerSentEvent:
    """Events with any of their fields."""
    data, raw_data = draw(st.tuples(json_values(), st.none()) | st.tuples(st.none(), texts()) | st.just((None, None)))
    return ServerSentEvent(
        data=data,
        raw_data=raw_data,
        event=draw(st.none() | lines()),
        id=draw(st.none() | lines(exclude="\r\n\0")),
        retry=draw(st.none() | st.integers(min_value=0)),
        comment=draw(st.none() | texts()),
    )
