"""What an attempt sends: method, body, headers and query, and what a caller's client adds to them."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import httpx
import httpx2
import pytest
from pydantic import BaseModel

from tests.client.conftest import CALLERS_CLIENTS, Serve
from tests.client.misbehaving import HOLD, LAST_CHUNK, answer, chunk, chunked, redirect, stream
from tests.client.reading import KINDS, Read, Reading
from tidings.client import AsyncEventSource, EventSource
from tidings.errors import ConnectionFailed, StatusError

ONE = b"id: 1\ndata: one\n\n"

SOURCES = pytest.mark.parametrize("source", [AsyncEventSource, EventSource])


class Question(BaseModel):
    prompt: str
    words: int


# -- method and body --------------------------------------------------------------------------------------------------


def test_a_body_is_sent_again_with_each_attempt(serve: Serve, read: Read) -> None:
    server = serve(stream(ONE), answer(503), [], [chunked(), chunk(b"data: half")], stream(b"data: two\n\n"))
    reading = read(server.url, method="POST", json={"prompt": "Why is the sea salt?"})
    assert reading.data() == ["one", "two"]
    assert len(server.requests) == 6
    for request in server.requests:
        assert request.method == "POST"
        assert request.body == b'{"prompt":"Why is the sea salt?"}'
        assert request.headers["content-type"] == b"application/json"
        assert request.headers["accept"] == b"text/event-stream"
    assert server.last_event_ids == [None, *[b"1"] * 5]


@pytest.mark.parametrize(
    ("options", "body", "content_type"),
    [
        ({"json": Question(prompt="é?", words=3)}, '{"prompt":"é?","words":3}'.encode(), b"application/json"),
        ({"json": [1, None]}, b"[1,null]", b"application/json"),
        ({"json": 0}, b"0", b"application/json"),
        ({"content": b"\0\xff"}, b"\0\xff", None),
        ({"content": "é"}, "é".encode(), None),
        ({"content": "a=1", "headers": {"Content-Type": "text/x"}}, b"a=1", b"text/x"),
        ({"json": {}, "headers": {"Content-Type": "application/x+json"}}, b"{}", b"application/x+json"),
        ({}, b"", None),
    ],
)
def test_bodies(serve: Serve, read: Read, options: Any, body: bytes, content_type: bytes | None) -> None:
    server = serve()
    read(server.url, method="PUT", **options).rest()
    [request] = server.requests
    assert (request.method, request.body, request.headers.get("content-type")) == ("PUT", body, content_type)


def test_the_query_is_added_to_that_of_the_url(serve: Serve, read: Read) -> None:
    server = serve(stream())
    read(server.url + "?room=4", params={"tag": ["x", "y"], "full": True}).rest()
    assert [request.target for request in server.requests] == ["/stream?room=4&tag=x&tag=y&full=true"] * 2


def test_the_query_of_the_url_stays_as_it_is(serve: Serve, read: Read) -> None:
    server = serve()
    read(server.url + "?a=1&a=%2F&b#part").rest()
    assert server.requests[0].target == "/stream?a=1&a=%2F&b"


# -- headers ----------------------------------------------------------------------------------------------------------


def test_headers_of_the_caller_win_but_for_the_id_to_go_on_from(serve: Serve, read: Read) -> None:
    server = serve(stream(b"data: none\n\n"), stream(ONE))
    read(server.url, headers={"ACCEPT": "text/event-stream, */*", "X-Desk": "4", "last-event-id": "from-0"}).rest()
    assert [request.headers["accept"] for request in server.requests] == [b"text/event-stream, */*"] * 3
    assert [request.headers["x-desk"] for request in server.requests] == [b"4"] * 3
    assert server.last_event_ids == [b"from-0", b"from-0", b"1"]


def test_a_function_is_asked_for_headers_before_each_attempt(serve: Serve, read: Read) -> None:
    server = serve(stream(ONE), answer(503), [], stream(ONE))
    calls: list[str] = []

    def headers() -> dict[str, str]:
        calls.append("token")
        return {"Authorization": f"Bearer {len(calls)}"}

    reading = read(server.url, headers=headers)
    assert calls == []
    reading.rest()
    assert [request.authorization for request in server.requests] == [b"Bearer %d" % n for n in range(1, 6)]


def test_an_error_of_that_function_is_the_callers(serve: Serve, read: Read) -> None:
    def headers() -> dict[str, str]:
        raise PermissionError("no token today")

    server = serve()
    reading = read(server.url, headers=headers)
    with pytest.raises(PermissionError, match="no token today"):
        reading.next()
    assert reading.source.state == "closed"
    assert server.requests == []


def test_an_async_function_may_give_them_to_the_async_source(serve: Serve) -> None:
    async def headers() -> dict[str, str]:
        return {"Authorization": "Bearer async"}

    server = serve(stream(ONE))
    with KINDS["async"](server.url, headers=headers) as reading:
        reading.rest()
    assert [request.authorization for request in server.requests] == [b"Bearer async"] * 2


# -- a caller's client ------------------------------------------------------------------------------------------------


def kind_of(read: Read) -> type[Reading]:
    return read.kind  # type: ignore[attr-defined,no-any-return]


@CALLERS_CLIENTS
def test_a_callers_client_brings_its_headers_query_cookies_and_base_url(serve: Serve, read: Read) -> None:
    server = serve(stream(ONE))
    kind = kind_of(read)
    client = kind.make_client(
        base_url=f"http://127.0.0.1:{server.port}/api/",
        headers={"X-App": "desk", "Accept": "text/html"},
        params={"app": "desk"},
        cookies={"session": "s1"},
    )
    with kind("news", client=client) as reading:
        reading.rest()
        reading.close_client()
    assert len(server.requests) == 2
    for request in server.requests:
        assert request.target == "/api/news?app=desk"
        assert request.headers["x-app"] == b"desk"
        assert request.headers["cookie"] == b"session=s1"
        assert request.headers["accept"] == b"text/event-stream"


@CALLERS_CLIENTS
@pytest.mark.parametrize("last", [[], answer(404), [chunked(), chunk(ONE), HOLD]], ids=["gives up", "fails", "reads"])
def test_a_callers_client_is_left_open_however_the_source_ends(serve: Serve, read: Read, last: Any) -> None:
    """When a `Reading` is left it looks, too."""
    server = serve(stream(ONE), last)
    reading = read(server.url, max_attempts=1)
    with suppress(StatusError, ConnectionFailed):
        reading.take(2)
    reading.close()
    server.wait_until_left()
    assert not reading.client.is_closed


@CALLERS_CLIENTS
def test_a_callers_client_that_is_closed_is_an_error(serve: Serve, read: Read) -> None:
    kind = kind_of(read)
    client = kind.make_client()
    with kind(serve().url, client=client) as reading:
        reading.close_client()
        with pytest.raises(RuntimeError, match="closed"):
            reading.next()
        assert reading.source.state == "closed"


def test_cookies_that_a_server_sets_come_back_with_the_next_attempt(serve: Serve, read: Read) -> None:
    server = serve([chunked(set_cookie="seat=4"), chunk(ONE), LAST_CHUNK], stream())
    read(server.url).rest()
    assert [request.headers.get("cookie") for request in server.requests] == [None, b"seat=4", b"seat=4"]


@CALLERS_CLIENTS
def test_basic_auth_of_the_client(serve: Serve, read: Read) -> None:
    server = serve(stream(ONE))
    kind = kind_of(read)
    client = kind.make_client(auth=("ada", "secret"))
    with kind(server.url, client=client) as reading:
        reading.rest()
        reading.close_client()
    assert [request.authorization for request in server.requests] == [b"Basic YWRhOnNlY3JldA=="] * 2


def refreshing(library: Any, tokens: str) -> Any:
    class Refreshing(library.Auth):  # type: ignore[misc,name-defined]
        """Asks for a new token when the server refuses the old one."""

        token = "first"

        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            request.headers["Authorization"] = f"Bearer {self.token}"
            response = yield request
            if response.status_code == 401:
                answered = yield library.Request("POST", tokens)
                self.token = answered.headers["x-token"]
                request.headers["Authorization"] = f"Bearer {self.token}"
                yield request

    return Refreshing()


@CALLERS_CLIENTS
def test_the_clients_auth_refreshes_a_token_within_an_attempt(serve: Serve, read: Read) -> None:
    tokens = serve(answer(200, x_token="second"), answer(200, x_token="third"))
    server = serve(answer(401), stream(ONE), stream(b"data: two\n\n"), answer(401), stream(b"data: three\n\n"))
    kind = kind_of(read)
    client = kind.make_client(auth=refreshing(kind.library, tokens.url))
    with kind(server.url, client=client, method="POST", json={"ask": 1}) as reading:
        assert reading.data() == ["one", "two", "three"]
        reading.close_client()
    used = ["first", "second", "second", "second", "third", "third"]
    assert [request.authorization for request in server.requests] == [f"Bearer {token}".encode() for token in used]
    assert server.last_event_ids == [None, None, b"1", b"1", b"1", b"1"]
    assert {request.body for request in server.requests} == {b'{"ask":1}'}
    assert len(tokens.requests) == 2
    assert [error for error, _ in reading.reconnects] == [None, None, None]


@CALLERS_CLIENTS
def test_a_proxy_of_the_client(serve: Serve, read: Read) -> None:
    proxy = serve(stream(ONE))
    kind = kind_of(read)
    client = kind.make_client(proxy=f"http://127.0.0.1:{proxy.port}")
    with kind("http://desk.invalid/news", client=client) as reading:
        assert reading.data() == ["one"]
        reading.close_client()
    assert [request.target for request in proxy.requests] == ["http://desk.invalid/news"] * 2
    assert proxy.last_event_ids == [None, b"1"]


@CALLERS_CLIENTS
def test_hooks_of_the_client_see_every_attempt(serve: Serve, read: Read) -> None:
    seen: list[Any] = []

    def note(message: Any) -> None:
        seen.append(getattr(message, "status_code", None) or message.method)

    async def anote(message: Any) -> None:
        note(message)

    kind = kind_of(read)
    hook = anote if kind.is_async else note
    server = serve(redirect(307, "/moved"), stream(ONE))
    client = kind.make_client(event_hooks={"request": [hook], "response": [hook]})
    with kind(server.url, client=client) as reading:
        reading.rest()
        reading.close_client()
    assert seen == ["GET", 307, "GET", 200, "GET", 204]


def test_on_open_gets_the_response_each_time(serve: Serve, read: Read) -> None:
    server = serve([chunked(x_worker="a"), LAST_CHUNK], answer(503), [chunked(x_worker="b"), LAST_CHUNK])
    workers: list[str] = []
    read(server.url, on_open=lambda response: workers.append(response.headers["x-worker"])).rest()
    assert workers == ["a", "b"]


@pytest.mark.parametrize("hook", ["on_open", "on_reconnect"])
def test_an_error_of_a_hook_is_the_callers(serve: Serve, read: Read, hook: str) -> None:
    def fail(*_args: object) -> None:
        raise LookupError("of mine")

    server = serve(stream(ONE))
    reading = read(server.url, **{hook: fail})
    with pytest.raises(LookupError, match="of mine"):
        reading.rest()
    assert reading.source.state == "closed"
    server.wait_until_left()


def test_several_sources_share_a_client(serve: Serve) -> None:
    go = threading.Event()
    server = serve(*[[chunked(), chunk(ONE), go, chunk(b"data: two\n\n"), LAST_CHUNK]] * 3)
    with httpx2.Client() as client:
        sources = [EventSource(server.url, client=client, retry=0.001) for _ in range(3)]
        assert [next(source).data for source in sources] == ["one"] * 3
        assert server.connections == 3
        go.set()
        assert [[event.data for event in source] for source in sources] == [["two"]] * 3


# -- wrong arguments --------------------------------------------------------------------------------------------------


@SOURCES
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"json": 1, "content": b""}, ValueError, "both 'json' and 'content'"),
        ({"content": iter([b"once"])}, TypeError, "'content' must be bytes or str"),
        ({"json": object()}, TypeError, "'json'"),
        ({"method": "GET /"}, ValueError, "'method'"),
        ({"headers": "x: y"}, TypeError, "'headers'"),
        ({"last_event_id": 7}, TypeError, "'last_event_id'"),
        ({"last_event_id": "7\n8"}, ValueError, "'id'"),
        ({"last_event_id": "7\r8"}, ValueError, "'id'"),
        ({"last_event_id": "7\0"}, ValueError, "'id'"),
        ({"last_event_id": "\udcff"}, ValueError, "'last_event_id'"),
        ({"retry": -1}, ValueError, "'retry'"),
        ({"retry": float("nan")}, ValueError, "'retry'"),
        ({"max_attempts": 0}, ValueError, "'max_attempts'"),
        ({"max_attempts": True}, ValueError, "'max_attempts'"),
        ({"max_attempts": 1.5}, ValueError, "'max_attempts'"),
        ({"read_timeout": 0}, ValueError, "'read_timeout'"),
        ({"max_event_size": 0}, ValueError, "'max_event_size'"),
        ({"max_event_size": None}, ValueError, "'max_event_size'"),
        ({"url": "/news"}, ValueError, "http:// or https://"),
        ({"url": "ftp://127.0.0.1/"}, ValueError, "http:// or https://"),
        ({"url": "http://"}, ValueError, "http:// or https://"),
        ({"url": "http://[::1/"}, ValueError, "'url'"),
        ({"url": "http://127.0.0.1:65536/"}, ValueError, "port 65536"),
    ],
)
def test_wrong_arguments_are_refused_at_once(source: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        source(**{"url": "http://127.0.0.1:9/", **options})


def test_a_function_that_gives_no_headers_is_refused(serve: Serve, read: Read) -> None:
    reading = read(serve().url, headers=lambda: ["x: y"])
    with pytest.raises(TypeError, match="'headers'"):
        reading.next()
    assert reading.source.state == "closed"


def test_a_client_of_the_other_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="AsyncClient"):
        AsyncEventSource("http://127.0.0.1:9/", client=httpx.Client(verify=False))
    with pytest.raises(TypeError, match="Client"):
        EventSource("http://127.0.0.1:9/", client=httpx2.AsyncClient(verify=False))
