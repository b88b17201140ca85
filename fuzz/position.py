"""Any bytes as the id to resume from are a place in a log, or a reset that says so; never an error, never a field.

    pip install atheris && python fuzz/position.py              # coverage-guided, until it is stopped
    python fuzz/position.py --runs 10000 --seed 1               # random, bounded, without atheris

An input is what a client sends as its `Last-Event-ID`. It goes the way that it goes in an application: from the header
to text, from the text to a position, and back to the client in the `reset` if it is none.
"""

from __future__ import annotations

import random
import string
from typing import get_args

from target import main

from tidings.broker.entry import NEVER, event_id, parse_id
from tidings.broker.resume import EARLIEST, Reset, check_last_event_id, reset_entry, start_of
from tidings.broker.storage import Page
from tidings.fastapi import LastEventId
from tidings.wire import EventDecoder

EPOCH = "k3"
"""That of the log here."""

LETTERS = frozenset(string.ascii_lowercase + string.digits)
DIGITS = frozenset(string.digits)

TOKENS = (
    *(b"k3", b"k3-", b"-", b"--", b"0", b"1", b"42", b"007", b"9" * 19, b"9" * 20, b"z" * 32, b"z" * 33, b"x" * 300),
    *(b"earliest", b"Earliest", b"+", b" ", b"K3", b"k3-5", b"\n", b"\r\n", b"\ndata: x\n\n", b"\0", b'"', b"\\"),
    *("٣".encode(), "é".encode(), b"\xff", b"\xed\xa0\x80", "\u2028".encode(), b"\x85"),
)

(_DEPENDS,) = get_args(LastEventId)[1:]


def check(case: bytes) -> None:
    """Raise `AssertionError` if the invariant doesn't hold for this input."""
    id = check_last_event_id(from_header(case))
    position, reset = start_of(id, EPOCH)
    if id is None:
        assert (case, position, reset) == (b"", None, None)
        return
    parsed = interpret(id)
    assert parse_id(id) == parsed
    if id == EARLIEST:
        assert (position, reset) == (NEVER, None)
    elif parsed is None:
        assert (position, reset) == (NEVER, Reset.MALFORMED)
    elif parsed[0] != EPOCH:
        assert (position, reset) == (NEVER, Reset.EPOCH)
    else:
        assert (position, reset) == (parsed[1], None)
        # An id has one spelling: what it means is that id again.
        assert event_id(*parsed) == id
    if reset is not None:
        check_reset(reset, id)


def from_header(value: bytes) -> str | None:
    """What an endpoint is given. Servers hand headers on as bytes, and Starlette reads them as Latin-1."""
    try:
        _DEPENDS.dependency(value.decode("latin-1"), None, None).send(None)
    except StopIteration as done:  # it waits for nothing
        id: str | None = done.value
        return id
    raise AssertionError("it waits")


def check_reset(reset: Reset, id: str) -> None:
    """What is sent back is one event that says so, whatever the id holds."""
    page = Page(EPOCH, [], position=7, newest=7, trimmed=0, finished=False)
    [event] = EventDecoder().feed(reset_entry(reset, id, page, EPOCH, "news").frame)
    assert (event.event, event.id) == ("reset", f"{EPOCH}-7")
    said = event.json()
    assert said == {"reason": reset.value, "requested": said["requested"], "oldest": None}
    assert said["requested"] == id[:256]


def interpret(id: str) -> tuple[str, int] | None:
    """The grammar, letter by letter: 1 to 32 of 0-9 and a-z, a hyphen, a number of at most 19 digits."""
    epoch, hyphen, sequence = id.partition("-")
    if not (1 <= len(epoch) <= 32 and set(epoch) <= LETTERS and hyphen):
        return None
    if not (1 <= len(sequence) <= 19 and set(sequence) <= DIGITS):
        return None
    if sequence[0] == "0" and sequence != "0":
        return None
    return epoch, int(sequence)


def random_case(source: random.Random) -> bytes:
    """An id, one that nearly is, or none at all."""
    tokens = [
        source.choice(TOKENS) if source.random() < 0.9 else source.randbytes(2) for _ in range(source.randint(0, 6))
    ]
    return b"".join(tokens)


if __name__ == "__main__":
    main(__doc__, check, random_case)
