"""Ids, frames, and the window on a channel's newest entries."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import properties, server_sent_events
from tidings import ServerSentEvent
from tidings.broker.entry import FINISH, Draft, Entry, Kind, Window, event_id, parse_id, split_frame
from tidings.events import has_data
from tidings.wire import EventDecoder, encode

# -- ids --------------------------------------------------------------------------------------------------------------


def shortened(id: str) -> str:
    return ascii(id[:30])


@pytest.mark.parametrize(
    ("id", "parsed"),
    [
        ("abc-1", ("abc", 1)),
        ("0-0", ("0", 0)),
        ("z9-10", ("z9", 10)),
        ("earliest-5", ("earliest", 5)),
        ("a" * 32 + "-7", ("a" * 32, 7)),
        ("abc-9999999999999999999", ("abc", 9_999_999_999_999_999_999)),
    ],
)
def test_an_id_is_an_epoch_and_a_sequence(id: str, parsed: tuple[str, int]) -> None:
    assert parse_id(id) == parsed
    assert event_id(*parsed) == id


@pytest.mark.parametrize(
    "id",
    [
        *(
            "",
            "-",
            "abc",
            "abc-",
            "-1",
            "abc--1",
            "abc-1-",
            "abc-1-2",
            "a_b-1",
            "abc-x",
            "abc-1.0",
            "abc-1_0",
            "abc-+1",
        ),
        *("abc-01", "abc-00", "abc-10000000000000000000", "a" * 33 + "-1", "Abc-1", "é-1", "abc-1" + "0" * 10_000),
        *(" abc-1", "abc-1 ", "abc-1\n", "\nabc-1", "abc-1\0", "abc-\u0661", "abc-1\u0662", "abc-\xb2", "\ud800-1"),
        *("earliest", "abc\u20101"),
    ],
    ids=shortened,
)
def test_what_is_not_quite_an_id_is_none(id: str) -> None:
    assert parse_id(id) is None


@properties
@given(st.from_regex(r"[0-9a-z]{1,32}", fullmatch=True), st.integers(0, 10**19 - 1))
def test_every_epoch_and_sequence_make_an_id(epoch: str, sequence: int) -> None:
    assert parse_id(event_id(epoch, sequence)) == (epoch, sequence)


@properties
@given(st.text("0123456789az-\u0661 \n", max_size=8))
def test_an_id_is_told_from_what_is_none_by_its_parts(id: str) -> None:
    epoch, _, sequence = id.partition("-")
    digits = set("0123456789")
    expected = (
        bool(epoch)
        and set(epoch) <= digits | set("az")
        and bool(sequence)
        and set(sequence) <= digits
        and (sequence == "0" or not sequence.startswith("0"))
    )
    assert parse_id(id) == ((epoch, int(sequence)) if expected else None)


# -- frames -----------------------------------------------------------------------------------------------------------


def text_of(event: ServerSentEvent) -> str:
    """The data of an event as clients get it."""
    (received,) = EventDecoder().feed(encode(event))
    return received.data


@properties
@given(server_sent_events().filter(has_data))
def test_a_frame_is_taken_apart_into_what_it_was_made_of(event: ServerSentEvent) -> None:
    frame = encode(replace(event, id="abc-1"))
    assert split_frame(frame) == (event.event, text_of(event))


@properties
@given(server_sent_events().filter(has_data), st.integers(1, 10**18))
def test_a_draft_becomes_the_block_of_its_event(event: ServerSentEvent, sequence: int) -> None:
    head = encode(replace(event, id=None, retry=None)).removesuffix(b"\n")
    tail = encode(ServerSentEvent(retry=event.retry))
    frame = Draft(Kind.JSON, head, tail).frame("abc", sequence)
    assert frame == encode(replace(event, id=f"abc-{sequence}"))
    assert split_frame(frame) == (event.event, text_of(event))


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (b"data: \nid: a-1\n\n", (None, "")),
        (b"data: \ndata: \nid: a-1\n\n", (None, "\n")),
        (b"event: \ndata: 1\nid: a-1\n\n", ("", "1")),
        (b"event: data: x\ndata: 1\nid: a-1\n\n", ("data: x", "1")),
        (b": event: no\n: \n: data: no\nevent: yes\ndata: 1\nid: a-1\nretry: 5\n\n", ("yes", "1")),
        (b"data: id: x\ndata: id: y\nid: a-1\nretry: 5\n\n", (None, "id: x\nid: y")),
        (b"data: data: data: \ndata: data: \nid: a-1\n\n", (None, "data: data: \ndata: ")),
        (b"data: event: x\ndata: : y\nid: a-1\n\n", (None, "event: x\n: y")),
        ("event: é\ndata: \u2028\x85\nid: a-1\n\n".encode(), ("é", "\u2028\x85")),
    ],
)
def test_what_looks_like_a_field_inside_of_another_is_none(frame: bytes, parts: tuple[str | None, str]) -> None:
    assert split_frame(frame) == parts


def test_the_end_of_a_channel_has_no_frame() -> None:
    assert FINISH.frame("abc", 5) == b""


# -- a window ---------------------------------------------------------------------------------------------------------


def entry(sequence: int, size: int = 1) -> Entry:
    return Entry(sequence, "news", Kind.RAW, sequence / 2, b"x" * size)


operations = st.lists(
    st.tuples(st.just("append"), st.integers(1, 3), st.integers(0, 20))
    | st.tuples(st.just("drop"), st.integers(1, 6), st.just(0))
    | st.tuples(st.just("after"), st.integers(0, 80), st.integers(0, 60)),
    max_size=60,
)


@properties
@given(operations, st.integers(1, 10))
def test_a_window_is_a_list_that_forgets_its_oldest_entries(operations: list[tuple[str, int, int]], most: int) -> None:
    window = Window()
    model: list[Entry] = []
    sequence = 0
    for operation, number, size in operations:
        if operation == "append":
            sequence += number
            model.append(entry(sequence, size))
            window.append(model[-1])
        elif operation == "drop":
            for _ in range(min(number, len(model))):
                assert window.drop_oldest() == model.pop(0).sequence
        else:
            behind = [entry for entry in model if entry.sequence > number][:most]
            room = [total - len(entry.frame) < size for entry, total in zip(behind, sizes(behind), strict=True)]
            expected = [entry for entry, fits in zip(behind, room, strict=True) if fits] or behind[:1]
            run = window.after(number, most, size)
            assert list(run) == expected
            assert [len(run), *run.sequences] == [len(expected), *(entry.sequence for entry in expected)]
            assert window.first_after(number) == (expected[0].sequence if expected else None)
        assert len(window) == len(model)
        assert window.size == sum(len(entry.frame) for entry in model)
        if model:
            assert window.oldest == model[0]
            assert window.oldest_at == model[0].at
            assert window.newest == model[-1]


def sizes(entries: list[Entry]) -> list[int]:
    return list(accumulate(len(entry.frame) for entry in entries))


def test_a_page_of_a_window_ends_with_the_entry_that_fills_it() -> None:
    window = Window()
    for number in range(1, 11):
        window.append(entry(number, 10))
    assert [entry.sequence for entry in window.after(2, 100, 30)] == [3, 4, 5]
    assert [entry.sequence for entry in window.after(2, 100, 31)] == [3, 4, 5, 6]
    assert [entry.sequence for entry in window.after(2, 2, 30)] == [3, 4]
    assert [entry.sequence for entry in window.after(2, 100, 1)] == [3]
    assert list(window.after(10, 100, 30)) == []


def test_a_window_gives_back_what_it_dropped() -> None:
    window = Window()
    for number in range(1, 100_001):
        window.append(entry(number, 0))
        if number > 10:
            window.drop_oldest()
    assert len(window) == 10
    assert len(window._frames) <= 25
