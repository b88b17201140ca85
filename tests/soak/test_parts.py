"""The small parts of a soak run."""

from __future__ import annotations

import pytest
from soak.hand import Done
from soak.http import Chunks
from soak.ledger import Gap
from soak.run import cause_of
from soak.schedule import Kind

BODY = b"5\r\nhello\r\nb\r\n, \r\nwor\r\nld\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", range(1, len(BODY) + 1))
def test_a_body_in_chunks_is_read_however_it_is_cut(size: int) -> None:
    chunks = Chunks()
    body = b"".join(chunks.feed(BODY[start : start + size]) for start in range(0, len(BODY), size))
    assert body == b"hello, \r\nwor\r\nld"
    assert chunks.finished


def test_a_body_that_breaks_off_is_not_finished() -> None:
    chunks = Chunks()
    assert chunks.feed(BODY[:-1]) == b"hello, \r\nwor\r\nld"
    assert not chunks.finished


DONE = [
    Done(Kind.KILL_WORKER, 10.0, 12.0),
    Done(Kind.ROLL, 20.0, 30.0),
    Done(Kind.CUT, 26.0, 26.0),
]


@pytest.mark.parametrize(
    ("begin", "cause"),
    [
        (8.0, None),
        (9.5, Kind.KILL_WORKER),
        (12.5, Kind.KILL_WORKER),
        (15.0, None),
        (24.0, Kind.ROLL),  # as long as it is being done
        (26.1, Kind.CUT),  # the nearer of two
        (30.5, Kind.ROLL),
    ],
)
def test_a_gap_is_put_down_to_what_was_being_done_when_it_began(begin: float, cause: Kind | None) -> None:
    assert cause_of(Gap(begin, begin + 3), DONE) is cause
