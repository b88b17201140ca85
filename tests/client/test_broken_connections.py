"""Connections that break off, answers that are none, servers that aren't there: the source comes again, and resumes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.client.conftest import CALLERS_CLIENTS, OWN_CLIENTS, Serve
from tests.client.misbehaving import HOLD, LAST_CHUNK, RESET, Script, chunk, chunked, stream, until_close
from tests.client.reading import Read, Reading
from tidings.errors import ConnectionFailed

ONE = b"id: 1\ndata: one\n\n"
TWO = b"id: 2\ndata: two\n\n"


def lost_with(reading: Reading, error: Any, *names: str) -> None:
    """The error is one of the caller's library."""
    assert type(error).__module__.partition(".")[0] == reading.library.__name__
    assert type(error).__name__ in names


# -- streams that break off -------------------------------------------------------------------------------------------

BREAKS: dict[str, Script] = {
    "in mid-line": [chunk(b"da")],
    "in mid-event": [chunk(b"event: unfinished\nid: 9\ndata: lost\n")],
    "inside of a CRLF": [chunk(b"id: 9\r\ndata: lost\r")],
    "inside of a character": [chunk(b"data: \xf0\x9f")],
    "in mid-chunk": [b"20\r\ndata: lo"],
    "in the length of a chunk": [b"2"],
    "with no chunk that is the last": [],
    "with a chunk that is none": [b"what?\r\ndata: lost\n\n\r\n"],
}


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("place", BREAKS)
def test_what_was_not_finished_is_dropped(serve: Serve, read: Read, place: str, reset: bool) -> None:
    go = threading.Event()
    server = serve([chunked(), chunk(ONE), go, *BREAKS[place], *([RESET] if reset else [])], stream(TWO))
    reading = read(server.url)
    assert reading.next().data == "one"
    go.set()
    assert reading.data() == ["two"]
    assert server.last_event_ids == [None, b"1", b"2"]
    error, delay = reading.reconnects[0]
    lost_with(reading, error, "ReadError", "RemoteProtocolError")
    assert 0.001 <= delay <= 0.0015, "a stream that breaks off is no failed attempt"


def test_a_blank_line_that_breaks_off_in_its_crlf_ends_the_event(serve: Serve, read: Read) -> None:
    server = serve([chunked(), chunk(b"id: 9\r\ndata: nine\r\n\r")], stream(b"\ndata: ten\n\n"))
    assert read(server.url).data() == ["nine", "ten"]
    assert server.last_event_ids == [None, b"9", b"9"]


def test_a_body_without_length_that_is_reset(serve: Serve, read: Read) -> None:
    go = threading.Event()
    reading = read(serve([until_close(), ONE, go, b"data: lo", RESET], stream(TWO)).url)
    assert reading.next().data == "one"
    go.set()
    assert reading.data() == ["two"]
    lost_with(reading, reading.reconnects[0][0], "ReadError")


def test_the_next_response_begins_anew(serve: Serve, read: Read) -> None:
    """A name, an id or data of the unfinished event must not get into the first one of the next response."""
    broken = [chunked(), chunk(b": comment"), chunk(b"\nevent: old\nid: 9\ndata: old\ndata: li")]
    reading = read(serve(broken, stream(b"data: new\n\n")).url)
    [event] = reading.rest()
    assert event == ("message", "new", "")


def test_events_that_were_decoded_before_the_break_are_handed_out(serve: Serve, read: Read) -> None:
    server = serve([chunked(), chunk(ONE + TWO + b"id: 3\ndata: th")])
    assert read(server.url).data() == ["one", "two"]
    assert server.last_event_ids == [None, b"2"]


def test_a_body_shorter_than_its_length(serve: Serve, read: Read) -> None:
    reading = read(serve([until_close(content_length="100"), ONE]).url)
    assert reading.data() == ["one"]
    lost_with(reading, reading.reconnects[0][0], "RemoteProtocolError")


# -- attempts that fail -----------------------------------------------------------------------------------------------

FAILURES: dict[str, Script] = {
    "closed without an answer": [],
    "reset without an answer": [RESET],
    "closed in the status line": [b"HTTP/1.1 20"],
    "closed in the headers": [b"HTTP/1.1 200 OK\r\ncontent-type: text/eve"],
    "another protocol": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "binary": [bytes(range(256))],
    "a stream without a head": [ONE + TWO],
    "a status that is no number": [b"HTTP/1.1 fine OK\r\n\r\n"],
    "a header that is none": [b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"],
    "headers without end": [b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40_000],
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_answer_that_is_none_is_a_failed_attempt(serve: Serve, read: Read, failure: str) -> None:
    server = serve(stream(ONE), FAILURES[failure], FAILURES[failure], stream(TWO))
    reading = read(server.url)
    assert reading.data() == ["one", "two"]
    assert server.last_event_ids == [None, b"1", b"1", b"1", b"2"]
    (ended, _), (first, delay), (second, longer), _ = reading.reconnects
    assert ended is None
    for error in (first, second):
        lost_with(reading, error, "ReadError", "RemoteProtocolError", "WriteError")
    assert 0.002 <= delay <= 0.003
    assert 0.004 <= longer <= 0.006


def test_a_server_that_is_not_there_for_a_while(serve: Serve, read: Read) -> None:
    server = serve(stream(ONE), stream(TWO))
    errors: list[Any] = []

    def note(error: Exception | None, _delay: float) -> None:
        errors.append(error)
        if len(errors) == 1:
            server.refuse()
        elif len(errors) == 4:
            server.listen()

    reading = read(server.url, on_reconnect=note)
    assert reading.take(2)[1].data == "two"
    assert errors[0] is None
    assert len(errors) == 4
    for error in errors[1:]:
        lost_with(reading, error, "ConnectError")
    assert server.last_event_ids == [None, b"1"]


def test_it_gives_up_after_so_many_failures_in_a_row(serve: Serve, read: Read) -> None:
    server = serve([], [], stream(ONE), [], [], [], stream(TWO))
    reading = read(server.url, max_attempts=3)
    assert reading.next().data == "one"
    with pytest.raises(ConnectionFailed, match=r"3 attempts in a row failed") as caught:
        reading.next()
    lost_with(reading, caught.value.__cause__, "RemoteProtocolError", "ReadError")
    assert reading.source.state == "closed"
    assert reading.rest() == []
    assert len(server.requests) == 6
    assert len(reading.reconnects) == 5, "the last failure isn't followed by another attempt"


def test_ten_failures_in_a_row_are_too_many_by_default(serve: Serve, read: Read) -> None:
    server = serve()
    server.refuse()
    reading = read(server.url, retry=0)
    with pytest.raises(ConnectionFailed) as caught:
        reading.next()
    lost_with(reading, caught.value.__cause__, "ConnectError")
    assert [delay for _, delay in reading.reconnects] == [0] * 9


def test_one_attempt_may_be_all(serve: Serve, read: Read) -> None:
    server = serve([])
    reading = read(server.url, max_attempts=1, retry=3600)
    with pytest.raises(ConnectionFailed, match="the only attempt failed"):
        reading.next()
    assert reading.reconnects == []


def test_it_may_try_for_ever(serve: Serve, read: Read) -> None:
    server = serve(*[[]] * 30, stream(ONE))
    assert read(server.url, max_attempts=None, retry=0).data() == ["one"]
    assert len(server.requests) == 32


def test_the_error_names_the_url_without_secrets(serve: Serve, read: Read) -> None:
    server = serve([])
    url = server.url.replace("http://", "http://ada:secret@") + "?token=secret"
    with pytest.raises(ConnectionFailed) as caught:
        read(url, max_attempts=1).next()
    assert server.url in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(read(url).source)


def test_a_name_that_does_not_exist_is_a_failed_attempt(read: Read) -> None:
    reading = read("http://nowhere.invalid/", max_attempts=2)
    with pytest.raises(ConnectionFailed):
        reading.next()
    lost_with(reading, reading.reconnects[0][0], "ConnectError")


class Pause(threading.Event):
    """A silence of the server: it waits in vain for something."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(self._seconds)
        return True


# -- silence ----------------------------------------------------------------------------------------------------------


@OWN_CLIENTS
def test_silence_is_a_lost_connection_if_the_caller_wants_it(serve: Serve, read: Read) -> None:
    server = serve([chunked(), chunk(ONE), HOLD], [chunked(), chunk(b"id: 2\ndata: ha"), HOLD])
    reading = read(server.url, read_timeout=0.4)
    assert reading.data() == ["one"]
    assert server.last_event_ids == [None, b"1", b"1"]
    for error, _ in reading.reconnects:
        lost_with(reading, error, "ReadTimeout")


@OWN_CLIENTS
def test_a_server_that_never_answers_fails_after_that_time(serve: Serve, read: Read) -> None:
    server = serve([HOLD], [b"HTTP/1.1 200 OK\r\n", HOLD])
    reading = read(server.url, read_timeout=0.15, max_attempts=2)
    with pytest.raises(ConnectionFailed) as caught:
        reading.next()
    lost_with(reading, caught.value.__cause__, "ReadTimeout")
    server.wait_until_left()


@OWN_CLIENTS
def test_a_comment_breaks_the_silence(serve: Serve, read: Read) -> None:
    beats = [act for _ in range(6) for act in (Pause(0.1), chunk(b": ping\n"))]
    server = serve([chunked(), *beats, chunk(ONE), LAST_CHUNK])
    assert read(server.url, read_timeout=0.5).data() == ["one"]
    assert len(server.requests) == 2


@CALLERS_CLIENTS
def test_it_waits_as_long_as_it_takes_whatever_the_callers_client_is_set_to(serve: Serve, read: Read) -> None:
    kind: type[Reading] = read.kind  # type: ignore[attr-defined]
    client = kind.make_client(timeout=0.2)
    server = serve([Pause(0.4), chunked(), Pause(0.4), chunk(ONE), LAST_CHUNK])
    with kind(server.url, client=client) as reading:
        assert reading.data() == ["one"]
        assert len(server.requests) == 2
        reading.close_client()


@CALLERS_CLIENTS
def test_the_timeout_is_for_silence_also_if_the_callers_client_is_patient(serve: Serve, read: Read) -> None:
    kind: type[Reading] = read.kind  # type: ignore[attr-defined]
    client = kind.make_client(timeout=None)
    server = serve([chunked(), chunk(ONE), HOLD])
    with kind(server.url, client=client, read_timeout=0.4) as reading:
        assert reading.data() == ["one"]
        lost_with(reading, reading.reconnects[0][0], "ReadTimeout")
        reading.close_client()


def test_slow_heads_and_slow_bytes_arrive(serve: Serve, read: Read) -> None:
    slow = b"".join([until_close(), ONE])
    script = [act for i in range(0, len(slow), 7) for act in (slow[i : i + 7], Pause(0.002))]
    assert read(serve(script).url).data() == ["one"]


def test_garbage_after_a_compressed_stream_has_begun_is_raised_as_it_is(serve: Serve, read: Read) -> None:
    """What came isn't what was sent: nobody knows what would help."""
    reading = read(serve([chunked(content_encoding="gzip"), chunk(b"data: not compressed at all\n\n"), HOLD]).url)
    with pytest.raises(reading.library.DecodingError):
        reading.next()
    assert reading.source.state == "closed"


def test_it_is_open_as_soon_as_the_head_is_there(serve: Serve, read: Read) -> None:
    opened = threading.Event()
    server = serve([chunked(), opened, chunk(ONE), LAST_CHUNK])
    assert read(server.url, on_open=lambda _response: opened.set()).data() == ["one"]
