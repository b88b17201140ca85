"""What WHATWG HTML §9.2 says of an event source, by both clients and with every HTTP client."""

from __future__ import annotations

import gzip
import threading

import pytest

from tests.client.conftest import OWN_CLIENTS, Serve
from tests.client.misbehaving import HOLD, LAST_CHUNK, answer, chunk, chunked, head, stream, until_close
from tests.client.reading import Read
from tidings.errors import ContentTypeError, EventTooLarge
from tidings.wire import ReceivedEvent

# -- the request ------------------------------------------------------------------------------------------------------


def test_the_first_request_asks_for_an_event_stream_that_no_cache_keeps(serve: Serve, read: Read) -> None:
    server = serve()
    assert read(server.url).rest() == []
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/stream", b"")
    assert request.headers["accept"] == b"text/event-stream"
    assert request.headers["cache-control"] == b"no-store"
    assert request.last_event_id is None


def test_nothing_is_sent_before_an_event_is_asked_for(serve: Serve, read: Read) -> None:
    server = serve(stream(b"data: one\n\n"))
    reading = read(server.url)
    assert (reading.source.state, server.requests) == ("connecting", [])
    reading.next()
    assert len(server.requests) == 1


# -- the stream -------------------------------------------------------------------------------------------------------


def test_events_come_as_the_standard_reads_them(serve: Serve, read: Read) -> None:
    body = (
        b"\xef\xbb\xbf: a comment\r\n"
        b"data: one\r\n\r\n"
        b"event: stock\rdata: YHOO\rdata: +2\rdata: 10\rid: 7\r\r"
        b"event: nothing\n\n"
        b"data\n\n"
        b"data:  two spaces\n\n"
        b"unknown: field\ndata: \xf0\x9f\x90\x9f\n\n"
        b"data: never finished"
    )
    assert read(serve(stream(body)).url).rest() == [
        ReceivedEvent("message", "one", ""),
        ReceivedEvent("stock", "YHOO\n+2\n10", "7"),
        ReceivedEvent("message", "", "7"),
        ReceivedEvent("message", " two spaces", "7"),
        ReceivedEvent("message", "🐟", "7"),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_the_bytes_may_be_cut_anywhere(serve: Serve, read: Read, end: bytes) -> None:
    body = b"\xef\xbb\xbf" + end.join([b"event: fish", "data: 🐟".encode(), b"id: 1", b"", b"data: two", b"", b""])
    reading = read(serve(stream(*(body[i : i + 1] for i in range(len(body))))).url)
    assert reading.rest() == [ReceivedEvent("fish", "🐟", "1"), ReceivedEvent("message", "two", "1")]


def test_every_response_may_begin_with_a_byte_order_mark(serve: Serve, read: Read) -> None:
    marked = stream(b"\xef\xbb\xbfdata: one\n\n")
    assert read(serve(marked, marked).url).data() == ["one", "one"]


def test_an_event_comes_at_once_while_the_stream_is_silent(serve: Serve, read: Read) -> None:
    reading = read(serve([chunked(), chunk(b"data: one\n\n"), HOLD]).url)
    assert reading.next().data == "one"
    assert reading.source.state == "open"


def test_a_compressed_stream_is_read_although_none_is_asked_for(serve: Serve, read: Read) -> None:
    packed = gzip.compress(b"data: one\n\ndata: two\n\n")
    server = serve([chunked(content_encoding="gzip"), chunk(packed[:7]), chunk(packed[7:]), LAST_CHUNK])
    assert read(server.url).data() == ["one", "two"]
    assert server.requests[0].headers["accept-encoding"] == b"identity"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_may_end_with_the_connection(serve: Serve, read: Read, version: str) -> None:
    server = serve([head(version=version, content_type="text/event-stream"), b"data: one\n\n"])
    reading = read(server.url)
    assert reading.data() == ["one"]
    assert reading.reconnects[0][0] is None


def test_a_body_may_have_a_length(serve: Serve, read: Read) -> None:
    server = serve(answer(200, b"data: one\n\ndata: half", content_type="text/event-stream"))
    assert read(server.url).data() == ["one"]


def test_informational_responses_are_passed_over(serve: Serve, read: Read) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
    server = serve([hints, hints, *stream(b"data: one\n\n")])
    assert read(server.url).data() == ["one"]
    assert len(server.requests) == 2


# -- the end ----------------------------------------------------------------------------------------------------------


def test_204_ends_it(serve: Serve, read: Read) -> None:
    server = serve(stream(b"data: one\n\n"), [head(204)], stream(b"data: never\n\n"))
    reading = read(server.url)
    assert reading.data() == ["one"]
    assert reading.source.state == "closed"
    assert reading.rest() == []
    assert len(server.requests) == 2


def test_a_stream_that_ends_is_connected_to_again(serve: Serve, read: Read) -> None:
    server = serve(stream(b"data: one\n\n"), stream(), stream(b"data: two\n\n"))
    reading = read(server.url)
    assert reading.data() == ["one", "two"]
    assert len(server.requests) == 4
    assert reading.opened == [200, 200, 200]
    assert [error for error, _ in reading.reconnects] == [None, None, None]


# -- the content type -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    ["text/event-stream", "text/event-stream;charset=utf-8", "TEXT/Event-Stream ; x=y", "text/event-stream;"],
)
def test_an_event_stream_may_have_parameters_and_capitals(serve: Serve, read: Read, content_type: str) -> None:
    assert read(serve([until_close(content_type=content_type), b"data: one\n\n"]).url).data() == ["one"]


@pytest.mark.parametrize(
    "content_type",
    ["text/event-stream-x", "text/html", "application/json; x=text/event-stream", "text/x-text/event-stream", ""],
)
def test_anything_else_is_an_error(serve: Serve, read: Read, content_type: str) -> None:
    server = serve([until_close(content_type=content_type), b"data: one\n\n"])
    reading = read(server.url)
    with pytest.raises(ContentTypeError, match=content_type or "no content type"):
        reading.next()
    assert reading.source.state == "closed"
    assert reading.rest() == []
    assert reading.opened == []
    assert len(server.requests) == 1


def test_a_response_without_content_type_is_an_error(serve: Serve, read: Read) -> None:
    with pytest.raises(ContentTypeError, match="no content type"):
        read(serve([head(), b"data: one\n\n"]).url).next()


def test_the_parameter_charset_is_ignored(serve: Serve, read: Read) -> None:
    """ "Streams must be decoded using the UTF-8 decode algorithm", always."""
    server = serve([until_close(content_type="text/event-stream; charset=latin-1"), "data: é\n\n".encode()])
    assert read(server.url).data() == ["é"]


# -- the last event id ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "then"),
    [
        (b"data: x\n\n", None),
        (b"id: 7\ndata: x\n\n", b"7"),
        (b"id: 7\ndata: x\n\ndata: y\n\n", b"7"),
        (b"id: 7\n\n", b"7"),
        (b": nothing\n\nid:8\n\n: more\n\n", b"8"),
        (b"id: 7\ndata: x\n\nid\n\n", None),
        (b"id: 7\ndata: x\n\nid:\ndata: y\n\n", None),
        (b"id: 7\ndata: x\n\nid: 8\0\ndata: y\n\n", b"7"),
        (b"id: 7\ndata: x\n\nid: 8\n", b"7"),
        (b"id: 7\ndata: x\n\nid: 8\ndata: y\n", b"7"),
        (b"id: caf\xc3\xa9 \xf0\x9f\x90\x9f\n\n", "café 🐟".encode()),
        (b"id: 7\nid: 8\ndata: x\n\n", b"8"),
        (b'id: {"a": [1, 2]};,\\"\n\n', b'{"a": [1, 2]};,\\"'),
    ],
)
def test_the_next_request_carries_the_last_event_id(serve: Serve, read: Read, body: bytes, then: bytes | None) -> None:
    server = serve(stream(body))
    read(server.url).rest()
    assert server.last_event_ids == [None, then]


def test_an_id_outlives_responses_without_one(serve: Serve, read: Read) -> None:
    server = serve(stream(b"id: 7\ndata: x\n\n"), stream(b"data: y\n\n"), answer(503), stream(b"id\n\n"))
    reading = read(server.url)
    assert [event.id for event in reading.rest()] == ["7", "7"]
    assert server.last_event_ids == [None, b"7", b"7", b"7", None]


def test_a_source_begins_where_the_caller_says(serve: Serve, read: Read) -> None:
    server = serve(stream(b"data: x\n\n"), stream(b"id: 8\ndata: y\n\n"))
    reading = read(server.url, last_event_id="7")
    assert reading.source.last_event_id == "7"
    assert [event.id for event in reading.rest()] == ["7", "8"]
    assert server.last_event_ids == [b"7", b"7", b"8"]


def test_the_last_event_id_is_that_of_the_event_handed_out_last(serve: Serve, read: Read) -> None:
    server = serve(stream(b"id: 1\ndata: x\n\nid: 2\ndata: y\n\nid: 3\ndata: z\n\nid: 4\n\n"))
    reading = read(server.url)
    assert reading.source.last_event_id == ""
    for number in ("1", "2", "3"):
        assert reading.next().id == number
        assert reading.source.last_event_id == number
    assert reading.rest() == []
    assert server.last_event_ids == [None, b"4"]
    assert reading.source.last_event_id == "4"


def test_it_stays_so_when_the_source_is_closed_before_the_others_were_read(serve: Serve, read: Read) -> None:
    reading = read(serve(stream(b"id: 1\ndata: x\n\nid: 2\ndata: y\n\n")).url)
    reading.next()
    reading.close()
    assert reading.source.last_event_id == "1"
    assert reading.rest() == []


# -- the reconnection time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b"retry: 2\n\n", 0.002),
        (b"retry:3\ndata: x\n\n", 0.003),
        (b"retry: 2\nretry: 4\n\n", 0.004),
        (b"retry: 0\n\n", 0),
        (b"retry: 5", 0.001),
        (b"retry: -5\n\n", 0.001),
        (b"retry: 5.0\n\n", 0.001),
        (b"retry: 5ms\n\n", 0.001),
        (b"retry\n\n", 0.001),
        ("retry: \N{ARABIC-INDIC DIGIT FIVE}\n\n".encode(), 0.001),
    ],
)
def test_the_server_sets_the_time_until_the_next_attempt(serve: Serve, read: Read, body: bytes, seconds: float) -> None:
    reading = read(serve(stream(body), stream()).url)
    reading.rest()
    assert reading.source.retry == pytest.approx(seconds)
    for error, delay in reading.reconnects:
        assert error is None
        assert seconds <= delay <= 1.5 * seconds + 1e-9
    assert len(reading.reconnects) == 2


@OWN_CLIENTS
def test_it_really_waits(serve: Serve, read: Read) -> None:
    server = serve(stream(b"retry: 150\n\n"))
    read(server.url).rest()
    first, second = server.requests
    assert second.at - first.at >= 0.15


# -- the bound of an event --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [b"data: " + b"x" * 60, b"data: x\n" * 10, b"x" * 60])
def test_an_event_over_the_bound_is_an_error_after_those_before_it(serve: Serve, read: Read, large: bytes) -> None:
    server = serve(stream(b"id: 1\ndata: one\n\nid: 2\ndata: two\n\nid: 3\n" + large))
    reading = read(server.url, max_event_size=50)
    assert [event.data for event in reading.take(2)] == ["one", "two"]
    with pytest.raises(EventTooLarge, match="max_event_size=50"):
        reading.next()
    assert (reading.source.state, reading.source.last_event_id) == ("closed", "2")
    assert reading.rest() == []
    assert len(server.requests) == 1
    server.wait_until_left()


def test_comments_of_any_size_pass(serve: Serve, read: Read) -> None:
    server = serve(stream(b": " + b"x" * 100, b"x" * 100 + b"\ndata: one\n\n"))
    assert read(server.url, max_event_size=50).data() == ["one"]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_leaving_a_loop_and_entering_another_loses_nothing(serve: Serve, read: Read) -> None:
    go = threading.Event()
    server = serve([chunked(), chunk(b"data: 1\n\ndata: 2\n\ndata: 3\n\n"), go, chunk(b"data: 4\n\n"), LAST_CHUNK])
    reading = read(server.url)
    assert [event.data for event in reading.take(2)] == ["1", "2"]
    go.set()
    assert reading.data() == ["3", "4"]


def test_states(serve: Serve, read: Read) -> None:
    states = []
    server = serve(answer(503), stream(b"data: one\n\n"))
    reading = read(
        server.url,
        on_open=lambda _response: states.append(("open", reading.source.state)),
        on_reconnect=lambda _error, _delay: states.append(("reconnect", reading.source.state)),
    )
    states.append(("new", reading.source.state))
    reading.next()
    states.append(("event", reading.source.state))
    reading.rest()
    states.append(("end", reading.source.state))
    assert states == [
        ("new", "connecting"),
        ("reconnect", "connecting"),
        ("open", "open"),
        ("event", "open"),
        ("reconnect", "connecting"),
        ("end", "closed"),
    ]
