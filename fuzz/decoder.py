"""Any bytes, cut anywhere, give the decoder the same events as the whole does, and those are the standard's.

    pip install atheris && python fuzz/decoder.py               # coverage-guided, until it is stopped
    python fuzz/decoder.py --runs 10000 --seed 1                # random, bounded, without atheris
    python fuzz/decoder.py crash-1234                           # atheris: one input again

An input's first byte seeds the places where it is cut; the stream is the rest.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from reference import Interpretation, interpret
from target import main

from tidings.errors import EventTooLarge
from tidings.wire import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

# Small enough that random inputs meet it, large enough that most don't.
SMALL_BOUND = 24

# Random bytes hardly ever spell a field; these are what the branches of the decoder look at.
TOKENS = (
    *(b"data", b"event", b"id", b"retry", b"Data", b"datax", b"unknown"),
    *(b":", b": ", b":  ", b" ", b"0", b"42", b"\xd9\xa3", b"\xb2", b"text"),
    *(b"\n", b"\n", b"\n\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\0"),
    *(b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xbf", b"\xc3\xa9", b"\xf0\x9f\x90\x9f", b"\xe2\x80\xa8"),
    *(b"\xed\xa0\x80", b"\xff"),
)
# Of these are the blocks that the decoder reads as a whole, and those that it only might.
LINES = (
    *(b"data: text\n", b"data:text\n", b"data:  a: b\n", b"data: \xc3\xa9\xff\n", b"data: data: a\n"),
    *(b"data:\n", b"data\n", b"datax: 1\n", b"retry: 42\n", b": comment\n", b":\n"),
    *(b"event: x\n", b"event:\n", b"event:  x\n", b"event: \xc3\xa9\n"),
    *(b"id: 1\n", b"id: 2\n", b"id:\n", b"id: \n", b"id: 1\0\n", b"id:  3 \n", b"id: \xc3\xa9\n"),
    *(b"\n", b"\n", b"\n", b"\n", b"\n", b"\r\n", b"data: text\r\n", b"event: x\r\n", b"id: 4\r"),
)


def check(case: bytes) -> None:
    """Raise `AssertionError` if the invariant doesn't hold for this input."""
    cuts = random.Random(case[0] if case else 0)
    stream = case[1:]
    pieces = list(cut(stream, cuts))
    assert b"".join(pieces) == stream

    expected = interpret(stream)
    for chunks in ([stream], pieces, [stream[i : i + 1] for i in range(len(stream))]):
        assert decode(chunks) == expected, chunks

    whole = decode_bounded([stream])
    for chunks in (pieces, [stream[i : i + 1] for i in range(len(stream))]):
        assert decode_bounded(chunks) == whole, chunks


def cut(stream: bytes, cuts: random.Random) -> Iterator[bytes]:
    """The stream in small pieces, some of them empty, or in pieces that may hold a few lines."""
    largest = cuts.choice((8, 64))
    position = 0
    while position < len(stream):
        size = cuts.randint(0, largest)
        yield stream[position : position + size]
        position += size


def decode(chunks: list[bytes]) -> Interpretation:
    """What the decoder makes of a stream that comes in these chunks."""
    decoder = EventDecoder()
    events: list[tuple[str, str, str]] = [event for chunk in chunks for event in decoder.feed(chunk)]
    return Interpretation(events, decoder.last_event_id, decoder.retry)


def decode_bounded(chunks: list[bytes]) -> tuple[Interpretation, bool]:
    """The same under a small bound, and whether it was met."""
    decoder = EventDecoder(SMALL_BOUND)
    result = Interpretation()
    met = False
    try:
        for chunk in chunks:
            result.events += decoder.feed(chunk)
    except EventTooLarge as error:
        result.events += error.events
        met = True
    result.last_event_id, result.retry = decoder.last_event_id, decoder.retry
    return result, met


def random_case(source: random.Random) -> bytes:
    """An input of tokens or of whole lines, with some noise between them."""
    size = source.randint(0, 40)
    words = source.choice((TOKENS, LINES))
    tokens = [source.choice(words) if source.random() < 0.95 else source.randbytes(2) for _ in range(size)]
    return source.randbytes(1) + b"".join(tokens)


if __name__ == "__main__":
    main(__doc__, check, random_case)
