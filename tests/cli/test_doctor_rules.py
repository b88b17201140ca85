"""What `tidings doctor` finds in a record: its rules are functions, so a record is all that they need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tidings.cli.doctor.judging import judge
from tidings.cli.doctor.record import Connection, End, Piece, Record
from tidings.wire import EventDecoder

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}

EVENT = b'data: {"line":4}\n\n'


def seen(
    *pieces: tuple[float, bytes], headers: dict[str, str | None] | None = None, age: float = 20.0, **fields: Any
) -> Connection:
    """A connection on which these pieces came, otherwise as it should be."""
    decoder = EventDecoder()
    connection = Connection(head=0.01, status=200, http_version="HTTP/2", age=age)
    for at, text in pieces:
        events = decoder.feed(text)
        connection.events += events
        connection.pieces.append(Piece(at, len(text), text, len(events)))
    connection.retry = decoder.retry
    connection.headers = [(name, value) for name, value in (HEADERS | (headers or {})).items() if value is not None]
    return replace(connection, **fields)


def steadily(count: int, text: bytes = EVENT, every: float = 1.0) -> list[tuple[float, bytes]]:
    return [(number * every, text) for number in range(count)]


def numbered(*ids: int) -> bytes:
    return b"".join(b"id: %d\ndata: x\n\n" % number for number in ids)


def levels(first: Connection, second: Connection | None = None, origin: str | None = None) -> dict[str, str]:
    """The findings but those that are well."""
    found = judge(Record(20.0, "GET", origin, True, first, second))
    return {finding.check: str(finding.level) for finding in found if finding.level != "ok"}


PINGED = [*steadily(4, b": ping\n\n", 15.0)]

WELL = [(0.0, b"retry: 3000\n\n"), *steadily(19), (16.0, b": ping\n\n"), (18.5, b": ping\n\n")]
WELL.sort()

PLAIN = {"resuming": "note"}  # a stream without ids


def test_a_good_stream() -> None:
    assert levels(seen(*WELL)) == PLAIN


# -- the head ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({"content-type": None}, "content-type", "problem"),
        ({"content-type": "text/html; charset=utf-8"}, "content-type", "problem"),
        ({"content-type": "text/event-stream-ish"}, "content-type", "problem"),
        ({"content-type": "text/event-stream; charset=latin-1"}, "content-type", "warning"),
        ({"content-type": "text/event-stream;charset=UTF8"}, None, None),
        ({"content-type": "Text/Event-Stream"}, None, None),
        ({"cache-control": None}, "cache-control", "warning"),
        ({"cache-control": "public, max-age=60"}, "cache-control", "warning"),
        ({"cache-control": "private, NO-STORE"}, None, None),
        ({"x-accel-buffering": None}, "x-accel-buffering", "note"),
        ({"x-accel-buffering": "yes"}, "x-accel-buffering", "warning"),
        ({"content-length": "512"}, "content-length", "problem"),
        ({"content-encoding": "gzip"}, "content-encoding", "warning"),
    ],
)
def test_headers(change: dict[str, str | None], check: str | None, level: str | None) -> None:
    expected = PLAIN | ({check: level} if check and level else {})
    assert levels(seen(*WELL, headers=change)) == expected


@pytest.mark.parametrize(
    ("headers", "level"),
    [
        ({}, "problem"),
        ({"access-control-allow-origin": "*"}, None),
        ({"access-control-allow-origin": "https://app.example"}, None),
        ({"access-control-allow-origin": "https://other.example"}, "problem"),
        ({"access-control-allow-origin": "https://app.example, https://app.example"}, "problem"),
    ],
)
def test_another_origin(headers: dict[str, str | None], level: str | None) -> None:
    assert levels(seen(*WELL, headers=headers), origin="https://app.example").get("cors") == level


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 406, 429, 500, 502, 503, 504])
def test_a_status_of_failure_is_all_there_is_to_say(status: int) -> None:
    assert levels(seen(status=status)) == {"status": "problem"}


def test_no_content() -> None:
    assert levels(seen(status=204)) == {"status": "warning"}


def test_no_answer() -> None:
    assert levels(Connection(unreachable="refused")) == {"connection": "problem"}


def test_no_head() -> None:
    assert levels(Connection()) == {"connection": "problem"}


@pytest.mark.parametrize(("version", "level"), [("HTTP/1.0", "warning"), ("HTTP/1.1", "note"), ("HTTP/2", None)])
def test_the_version_of_http(version: str, level: str | None) -> None:
    assert levels(seen(*WELL, http_version=version)).get("http-version") == level


@pytest.mark.parametrize(("head", "level"), [(1.0, None), (5.0, "warning")])
def test_a_late_head(head: float, level: str | None) -> None:
    assert levels(seen(*WELL, head=head)).get("time-to-head") == level


def test_redirects() -> None:
    assert levels(seen(*WELL, redirects=[(308, "http://127.0.0.1/events")])) == PLAIN | {"redirect": "note"}


# -- arrival ----------------------------------------------------------------------------------------------------------

LONG = b"data: " + b"x" * 1000 + b"\n\n"


def in_buffers(size: int, every: float) -> list[tuple[float, bytes]]:
    text = LONG * 100
    return [(number * every, text[number * size : (number + 1) * size]) for number in range(10)]


@pytest.mark.parametrize(
    ("pieces", "level"),
    [
        pytest.param([], "unknown", id="nothing"),
        pytest.param([(0.0, b":\n\n")], "unknown", id="one comment"),
        pytest.param([(0.0, EVENT * 50)], "unknown", id="a history, and silence"),
        pytest.param([(0.0, b":\n\n"), (15.0, b": ping\n\n")], None, id="a ping"),
        pytest.param(steadily(20), None, id="one by one"),
        pytest.param([(0.0, EVENT * 50), *steadily(3, every=6.0)[1:]], None, id="a history, and some"),
        pytest.param(steadily(400, every=0.005), None, id="faster than can be told apart"),
        pytest.param(in_buffers(4096, 2.0), "problem", id="4 KiB at a time"),
        pytest.param(in_buffers(3900, 2.0), "problem", id="nearly 4 KiB at a time"),
        pytest.param(in_buffers(1 << 14, 1.0)[:4], "problem", id="16 KiB at a time"),
        pytest.param([(0.0, EVENT + b"data: unfin")], "problem", id="stuck in a line"),
        pytest.param([(19.9, EVENT + b"data: unfin")], "unknown", id="in a line when the time was over"),
        pytest.param([(0.0, LONG * 9 + b"data"), (0.1, b": x\n\n"), (1.0, EVENT)], None, id="torn by the network"),
        pytest.param(steadily(4, EVENT * 30, 5.0), "warning", id="thirty at a time"),
    ],
)
def test_buffering(pieces: list[tuple[float, bytes]], level: str | None) -> None:
    assert levels(seen(*pieces)).get("buffering") == level


@pytest.mark.parametrize(
    ("pieces", "level"),
    [
        pytest.param([(3.0, EVENT * 9)], "warning", id="all at the end"),
        pytest.param([(0.0, EVENT * 9)], "unknown", id="all at once"),
        pytest.param([(3.0, EVENT)], "unknown", id="one event"),
    ],
)
def test_buffering_of_a_stream_that_is_over(pieces: list[tuple[float, bytes]], level: str) -> None:
    assert levels(seen(*pieces, age=3.0, end=End.COMPLETED))["buffering"] == level


def test_a_compressor_that_gives_nothing_out() -> None:
    kept = seen(headers={"content-encoding": "gzip"}, pieces=[Piece(0.0, 10, b"")])
    assert levels(kept) | PLAIN == PLAIN | {
        "content-encoding": "problem",
        "buffering": "unknown",
        "keep-alive": "warning",
        "resuming": "note",
        "retry": "note",
    }


def test_a_compression_that_cannot_be_read() -> None:
    unread = seen(headers={"content-encoding": "br"}, undecodable=True, pieces=[Piece(0.0, 99, b"")])
    assert levels(unread)["content-encoding"] == "problem"


# -- lasting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "age", "level"),
    [
        pytest.param(PINGED, 60.0, None, id="pings"),
        pytest.param(steadily(3), 3.0, "unknown", id="never silent"),
        pytest.param([(0.0, EVENT)], 20.0, "warning", id="20 s of silence"),
        pytest.param([(0.0, EVENT)], 70.0, "problem", id="70 s of silence"),
        pytest.param([(0.0, b":\n\n: b\n\n"), (58.0, EVENT)], 59.0, "problem", id="58 s between bytes"),
    ],
)
def test_keep_alives(pieces: list[tuple[float, bytes]], age: float, level: str | None) -> None:
    assert levels(seen(*pieces, age=age)).get("keep-alive") == level


def cut(age: float, *pieces: tuple[float, bytes]) -> Connection:
    return seen(*pieces, age=age, end=End.CUT, error="reset")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (cut(5.0, (0.0, EVENT)), None, "look at their logs"),
        (cut(5.0, (0.0, EVENT)), seen((0.0, EVENT), age=7.0), "look at their logs"),
        (cut(5.0, (0.0, EVENT)), cut(5.1, (0.0, EVENT)), "Something allows 5 s of silence"),
        (cut(9.0, (4.0, EVENT)), cut(5.1, (0.0, EVENT)), "Something allows 5 s of silence"),
        (cut(9.0, *steadily(9)), cut(9.1, *steadily(9)), "Always at the same age"),
        (cut(9.0, *steadily(9, every=1.1)), cut(2.0, *steadily(2)), "something fails"),
    ],
)
def test_a_cut(first: Connection, second: Connection | None, words: str) -> None:
    [found] = [each for each in judge(Record(20.0, "GET", None, True, first, second)) if each.check == "cut"]
    assert found.level == "problem"
    assert words in f"{found.seen} {found.change}"


def test_an_end_in_order() -> None:
    assert levels(seen(*WELL, end=End.COMPLETED))["cut"] == "note"


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (EVENT, None),
        (b"event: a\r\ndata: b\r\n\r\n", None),
        (b"data\n\n", None),
        (b"data: \xc3\xa4\n\ndata: \xc3", None),  # cut within a character by the end of the measurement
        (b"\xef\xbb\xbfdata: a\n\n", "note"),
        (b"data: \xe4\n\n", "warning"),
        (b"data: a\rb\n\n", "warning"),
        (b'{"line": 4}\n', "warning"),
        (b"Data: a\n\n", "warning"),
        (b"retry: 1.5\n\n", "warning"),
        (b"id: \0\ndata: a\n\n", "warning"),
    ],
)
def test_the_format(text: bytes, level: str | None) -> None:
    assert levels(seen((0.0, text), age=0.0)).get("format") == level


@pytest.mark.parametrize(("text", "level"), [(b"data: a\n", "problem"), (b"data: a\n\n", None), (b":\n\n", None)])
def test_the_format_of_a_stream_that_is_over(text: bytes, level: str | None) -> None:
    assert levels(seen((0.0, text), end=End.COMPLETED)).get("format") == level


@pytest.mark.parametrize(("retry", "level"), [(None, "note"), (3000, None), (3_000_000, "warning")])
def test_the_reconnection_time(retry: int | None, level: str | None) -> None:
    assert levels(seen(*WELL, retry=retry)).get("retry") == level


GREETING = b'id: 2\nevent: opened\ndata: {"resumed": true}\n\n'
RESET = b'id: 9\nevent: reset\ndata: {"reason":"trimmed"}\n\n'


@pytest.mark.parametrize(
    ("ids", "again", "level"),
    [
        pytest.param([], None, "unknown", id="no event"),
        pytest.param([1, 2, 3], seen((0.0, numbered(3, 4))), None, id="goes on"),
        pytest.param([1, 2, 3], seen((0.0, b"data: hello\n\n" + numbered(3))), None, id="goes on after a greeting"),
        pytest.param([1, 2, 3], seen((0.0, GREETING + numbered(3))), None, id="goes on after its position"),
        pytest.param([1, 2, 3], seen((0.0, GREETING)), "problem", id="waits after its position"),
        pytest.param([1, 2, 3], seen((0.0, numbered(1))), "problem", id="begins again"),
        pytest.param([1, 2, 3], seen((0.0, numbered(2))), "problem", id="repeats the last"),
        pytest.param([1, 2, 3], seen((0.0, numbered(4))), "problem", id="leaves one out"),
        pytest.param([1, 2, 3], seen(), "problem", id="waits for new ones"),
        pytest.param([1, 2, 3], seen(end=End.CUT, age=0.1), "unknown", id="is cut"),
        pytest.param([1, 2, 3], seen((0.0, RESET)), "note", id="says that some are lost"),
        pytest.param([1, 2, 3], seen(status=400), "problem", id="is refused"),
        pytest.param([1, 2, 3], Connection(unreachable="refused"), "problem", id="is gone"),
        pytest.param([1], seen((0.0, numbered(1))), "problem", id="repeats the only one"),
        pytest.param([1], seen((0.0, numbered(2))), "unknown", id="goes on after the only one"),
        pytest.param([1], seen(), "unknown", id="is silent after the only one"),
        pytest.param([1], seen(status=204), None, id="is over after the only one"),
        pytest.param([1, 2], seen(status=204), "problem", id="is over before the last"),
    ],
)
def test_resuming(ids: list[int], again: Connection | None, level: str | None) -> None:
    if again is not None:
        again = replace(again, last_event_id=str(ids[-2:][0]))
    assert levels(seen((0.0, numbered(*ids))), again).get("resuming") == level
