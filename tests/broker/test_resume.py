"""Where a subscription begins: decided from an id and what the storage says, without either."""

from __future__ import annotations

from typing import Any

import pytest

from tidings.broker.entry import NEVER, Entry, Kind, split_frame
from tidings.broker.resume import EARLIEST, Reset, check_last_event_id, reset_entry, start_of, was_missed
from tidings.broker.storage import Page
from tidings.wire import EventDecoder


def page_of(*sequences: int, newest: int, trimmed: int = 0) -> Page:
    entries = [Entry(sequence, "news", Kind.JSON, 0.0, b"data: 1\n\n") for sequence in sequences]
    return Page("e", entries, newest, newest, trimmed, finished=False)


@pytest.mark.parametrize("id", [None, ""])
def test_no_id_is_none(id: str | None) -> None:
    assert check_last_event_id(id) is None
    assert start_of(None, "e") == (None, None)


@pytest.mark.parametrize("id", ["earliest", "e-1", "no id", " "])
def test_any_text_is_an_id(id: str) -> None:
    assert check_last_event_id(id) == id


@pytest.mark.parametrize("id", [1, b"e-1", ["e-1"], True, 0, b""])
def test_what_is_no_text_is_no_id(id: Any) -> None:
    with pytest.raises(TypeError, match="'last_event_id' must be a str or None, not"):
        check_last_event_id(id)


@pytest.mark.parametrize(
    ("id", "start"),
    [
        (EARLIEST, (NEVER, None)),
        ("epoch1-0", (0, None)),
        ("epoch1-1", (1, None)),
        ("epoch1-9999999999999999999", (9_999_999_999_999_999_999, None)),
        ("epoch2-7", (NEVER, Reset.EPOCH)),
        ("epoch-7", (NEVER, Reset.EPOCH)),
        ("epoch11-7", (NEVER, Reset.EPOCH)),
        ("Earliest", (NEVER, Reset.MALFORMED)),
        ("epoch1", (NEVER, Reset.MALFORMED)),
        ("epoch1-", (NEVER, Reset.MALFORMED)),
        ("epoch1--1", (NEVER, Reset.MALFORMED)),
        ("epoch1-01", (NEVER, Reset.MALFORMED)),
        ("epoch1-1 ", (NEVER, Reset.MALFORMED)),
        ("epoch1-1\n", (NEVER, Reset.MALFORMED)),
        (" epoch1-1", (NEVER, Reset.MALFORMED)),
        ("EPOCH1-1", (NEVER, Reset.MALFORMED)),
        ("-1", (NEVER, Reset.MALFORMED)),
        ("7", (NEVER, Reset.MALFORMED)),
        ("epoch1-\u0661", (NEVER, Reset.MALFORMED)),
        ("epoch1-99999999999999999999", (NEVER, Reset.MALFORMED)),
        ("x" * 32 + "-1", (NEVER, Reset.EPOCH)),
        ("x" * 33 + "-1", (NEVER, Reset.MALFORMED)),
        ("\ud800", (NEVER, Reset.MALFORMED)),
        ("x" * 1_000_000, (NEVER, Reset.MALFORMED)),
    ],
)
def test_what_an_id_stands_for(id: str, start: tuple[int, Reset | None]) -> None:
    assert start_of(id, "epoch1") == start


@pytest.mark.parametrize(
    ("position", "newest", "trimmed", "reason"),
    [
        (0, 0, 0, None),
        (5, 5, 0, None),
        (5, 9, 5, None),
        (5, 9, 4, None),
        (5, 9, 6, Reset.TRIMMED),
        (0, 9, 1, Reset.TRIMMED),
        (5, 5, 5, None),
        (6, 5, 0, Reset.AHEAD),
        (6, 5, 5, Reset.AHEAD),
        (1, 0, 0, Reset.AHEAD),
    ],
)
def test_whether_something_was_missed(position: int, newest: int, trimmed: int, reason: Reset | None) -> None:
    assert was_missed(position, page_of(newest=newest, trimmed=trimmed)) is reason


@pytest.mark.parametrize("reason", Reset)
def test_a_reset_says_why_and_stands_just_before_the_first_event_that_follows(reason: Reset) -> None:
    entry = reset_entry(reason, "e-3", page_of(7, 9, newest=12), "e", "news")
    assert (entry.sequence, entry.channel, entry.kind) == (6, "news", Kind.CONTROL)
    (event,) = EventDecoder().feed(entry.frame)
    assert (event.event, event.id) == ("reset", "e-6")
    assert event.json() == {"reason": reason.value, "requested": "e-3", "oldest": "e-7"}
    assert split_frame(entry.frame)[0] == "reset"


def test_a_reset_that_nothing_follows_stands_at_the_newest_position() -> None:
    entry = reset_entry(Reset.TRIMMED, None, page_of(newest=12), "e", "news")
    (event,) = EventDecoder().feed(entry.frame)
    assert event.id == "e-12"
    assert event.json() == {"reason": "trimmed", "requested": None, "oldest": None}


def test_whoever_resumes_from_a_reset_has_missed_nothing_since() -> None:
    for page in (page_of(7, 9, newest=12, trimmed=6), page_of(newest=12, trimmed=12), page_of(1, newest=1)):
        entry = reset_entry(Reset.TRIMMED, "e-0", page, "e", "news")
        assert was_missed(entry.sequence, page) is None
        assert all(entry.sequence < following.sequence for following in page.entries)


@pytest.mark.parametrize(
    ("requested", "sent"),
    [
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 256),
        ("\u20ac" * 300, "\u20ac" * 256),
        ("half a pair: \ud83d", "half a pair: ?"),
        ('"\n\r\u2028\0', '"\n\r\u2028\0'),
    ],
)
def test_what_was_asked_for_is_sent_back_as_far_as_it_can_be(requested: str, sent: str) -> None:
    entry = reset_entry(Reset.MALFORMED, requested, page_of(newest=1), "e", "news")
    (event,) = EventDecoder().feed(entry.frame)
    assert event.json()["requested"] == sent
