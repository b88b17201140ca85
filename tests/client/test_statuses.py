"""What a status means: 200 opens, 204 ends, redirects are followed, four pass, everything else is an error.

`test_reconnect.py` goes through all of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.client.conftest import Serve
from tests.client.misbehaving import KEEP, answer, head, redirect, stream
from tests.client.reading import Read
from tidings.errors import ConnectionFailed, StatusError

ONE = b"id: 1\ndata: one\n\n"


class EnoughError(Exception):
    """Ends a source from one of its hooks."""


@pytest.mark.parametrize("status", [401, 404, 500, 206])
def test_a_status_that_does_not_pass_is_an_error(serve: Serve, read: Read, status: int) -> None:
    server = serve(stream(ONE), answer(status, content_type="text/event-stream"), stream(ONE))
    reading = read(server.url)
    reading.next()
    with pytest.raises(StatusError, match=f"answered {status}") as caught:
        reading.next()
    assert caught.value.status == status
    assert reading.source.state == "closed"
    assert reading.rest() == []
    assert len(server.requests) == 2
    assert reading.opened == [200]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_status_that_passes_is_a_failed_attempt(serve: Serve, read: Read, status: int) -> None:
    refusal = answer(status, b"<h1>Come again</h1>", content_type="text/html")
    server = serve(stream(ONE), refusal, refusal, stream(b"data: two\n\n"))
    reading = read(server.url)
    assert reading.data() == ["one", "two"]
    assert server.last_event_ids == [None, b"1", b"1", b"1", b"1"]
    _, (first, delay), (second, longer), _ = reading.reconnects
    assert isinstance(first, StatusError)
    assert isinstance(second, StatusError)
    assert first.status == second.status == status
    assert 0.002 <= delay <= 0.003
    assert 0.004 <= longer <= 0.006


def test_it_gives_up_when_the_status_does_not_pass(serve: Serve, read: Read) -> None:
    server = serve(*[answer(503)] * 5)
    reading = read(server.url, max_attempts=2)
    with pytest.raises(ConnectionFailed, match="503") as caught:
        reading.next()
    assert isinstance(caught.value.__cause__, StatusError)
    assert len(server.requests) == 2


# -- Retry-After ------------------------------------------------------------------------------------------------------


def first_delay(read: Read, url: str, **options: Any) -> float:
    delays = []

    def stop(_error: Exception | None, delay: float) -> None:
        delays.append(delay)
        raise EnoughError

    reading = read(url, on_reconnect=stop, **options)
    with pytest.raises(EnoughError):
        reading.next()
    assert reading.source.state == "closed"
    return delays[0]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_seconds_is_a_minimum(serve: Serve, read: Read, status: int) -> None:
    assert first_delay(read, serve(answer(status, retry_after="120")).url) == 120


def test_retry_after_a_date_is_a_minimum(serve: Serve, read: Read) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    assert 550 < first_delay(read, serve(answer(503, retry_after=date)).url) <= 600


@pytest.mark.parametrize(
    "value", ["0", "-5", "soon", "1.5", "", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 99 Dec 1999", "²"]
)
def test_what_is_no_time_to_come_asks_for_nothing(serve: Serve, read: Read, value: str) -> None:
    assert first_delay(read, serve(answer(503, retry_after=value)).url) <= 0.003


def test_it_does_not_shorten_the_delay(serve: Serve, read: Read) -> None:
    assert 20 <= first_delay(read, serve(answer(503, retry_after="1")).url, retry=10.0) <= 30


# -- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_last_event_id_and_anew_each_time(
    serve: Serve, read: Read, status: int
) -> None:
    server = serve(redirect(status, "/moved"), stream(ONE), redirect(status, "elsewhere"), stream(b"data: two\n\n"))
    reading = read(server.url)
    assert reading.data() == ["one", "two"]
    assert [request.target for request in server.requests] == ["/stream", "/moved", "/stream", "/elsewhere", "/stream"]
    assert server.last_event_ids == [None, None, b"1", b"1", b"1"]
    assert {request.headers["accept"] for request in server.requests} == {b"text/event-stream"}
    assert [error for error, _ in reading.reconnects] == [None, None], "a redirect is no failure"


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirected_post(serve: Serve, read: Read, status: int, method: str) -> None:
    """As the Fetch standard has it."""
    server = serve(redirect(status, "/moved"), stream(ONE))
    read(server.url, method="POST", json={"ask": 1}).next()
    first, second = server.requests
    assert (first.method, first.body) == ("POST", b'{"ask":1}')
    assert (second.method, second.body) == (method, b'{"ask":1}' if method == "POST" else b"")


def test_a_redirect_on_a_connection_that_is_used_again(serve: Serve, read: Read) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: /moved\r\ncontent-length: 0\r\n\r\n"
    assert read(serve([moved, KEEP], stream(ONE)).url).data() == ["one"]


def test_a_chain_of_redirects_to_other_servers(serve: Serve, read: Read) -> None:
    last = serve(stream(ONE))
    second = serve(redirect(307, last.url))
    first = serve(redirect(302, "/next"), redirect(308, second.url))
    reading = read(first.url, headers={"Authorization": "Bearer sesame"}, last_event_id="0")
    assert reading.next().data == "one"
    assert [request.authorization for request in first.requests] == [b"Bearer sesame"] * 2
    for request in (*second.requests, *last.requests):
        assert request.authorization is None, "another server learns no secret"
        assert request.last_event_id == b"0"


def test_redirects_without_end_are_an_error(serve: Serve, read: Read) -> None:
    server = serve(*[redirect(307, "/round")] * 50)
    reading = read(server.url)
    with pytest.raises(reading.library.TooManyRedirects):
        reading.next()
    assert reading.source.state == "closed"
    assert len(server.requests) < 30


def test_a_redirect_to_what_is_no_place_for_streams_is_an_error(serve: Serve, read: Read) -> None:
    reading = read(serve(redirect(302, "ftp://127.0.0.1/stream")).url)
    with pytest.raises(reading.library.UnsupportedProtocol):
        reading.next()
    assert reading.source.state == "closed"


def test_a_redirect_without_a_location_is_a_status_like_any_other(serve: Serve, read: Read) -> None:
    with pytest.raises(StatusError, match="302"):
        read(serve(answer(302)).url).next()


def test_what_a_redirect_leads_to_counts(serve: Serve, read: Read) -> None:
    server = serve(redirect(302, "/a"), answer(503), redirect(302, "/b"), [head(204)])
    reading = read(server.url)
    assert reading.rest() == []
    assert [request.target for request in server.requests] == ["/stream", "/a", "/stream", "/b"]
    [(error, _)] = reading.reconnects
    assert isinstance(error, StatusError)
