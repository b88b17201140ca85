"""`close` from anywhere, and what is left afterwards, of `EventSource`."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest

from tests.client.conftest import Serve
from tests.client.misbehaving import HOLD, LAST_CHUNK, PATIENCE, chunk, chunked, stream
from tests.client.reading import NO_TLS
from tests.servers.servers import wait_until
from tidings.client import EventSource

ONE = b"id: 1\ndata: one\n\n"
TWO = b"id: 2\ndata: two\n\n"


@pytest.fixture(params=[None, httpx2.Client, httpx.Client], ids=["own", "httpx2", "httpx"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param is None:
        yield None
        return
    with request.param(verify=NO_TLS) as client:
        yield client


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def reader(threads: ThreadPoolExecutor, source: EventSource) -> Future[list[str]]:
    return threads.submit(lambda: [event.data for event in source])


def test_leaving_the_block_closes_the_connection(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE + TWO), HOLD])
    with EventSource(server.url, client=client) as source:
        for event in source:
            assert event.data == "one"
            break
        assert server.connections == 1
    assert (source.state, source.last_event_id) == ("closed", "1")
    server.wait_until_left()
    gc.collect()


def test_an_error_in_the_block_passes_and_closes(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE), HOLD])
    source = EventSource(server.url, client=client)

    def read() -> None:
        with source:
            for _event in source:
                raise LookupError

    with pytest.raises(LookupError):
        read()
    assert source.state == "closed"
    server.wait_until_left()


def test_a_source_that_was_never_read_is_closed(client: Any) -> None:
    source = EventSource("http://127.0.0.1:9/", client=client)
    source.close()
    source.close()
    assert source.state == "closed"
    assert list(source) == []


def test_another_thread_ends_the_wait_to_connect_again(serve: Serve, client: Any, threads: ThreadPoolExecutor) -> None:
    server = serve(stream(b"retry: 3600000\n" + ONE))
    waiting = threading.Event()
    source = EventSource(server.url, client=client, on_reconnect=lambda *_args: waiting.set())
    reading = reader(threads, source)
    assert waiting.wait(PATIENCE)
    source.close()
    assert reading.result(PATIENCE) == ["one"]
    server.wait_until_left()


def test_another_thread_ends_the_wait_for_an_event_at_the_next_byte(
    serve: Serve, client: Any, threads: ThreadPoolExecutor
) -> None:
    go = threading.Event()
    server = serve([chunked(), chunk(ONE), go, chunk(b": ping\n"), HOLD])
    source = EventSource(server.url, client=client)
    reading = reader(threads, source)
    wait_until(lambda: source.last_event_id == "1", PATIENCE)
    source.close()
    assert source.state == "closed"
    go.set()
    assert reading.result(PATIENCE) == ["one"]
    assert source.state == "closed"
    server.wait_until_left()
    assert len(server.requests) == 1


def test_another_thread_ends_it_when_it_opens(serve: Serve, client: Any, threads: ThreadPoolExecutor) -> None:
    go = threading.Event()
    server = serve([go, chunked(), chunk(ONE), HOLD])
    source = EventSource(server.url, client=client)
    reading = reader(threads, source)
    server.wait_for_requests(1)
    source.close()
    go.set()
    assert reading.result(PATIENCE) == []
    assert source.state == "closed"
    server.wait_until_left()


def test_another_thread_ends_it_with_the_read_timeout(serve: Serve, client: Any, threads: ThreadPoolExecutor) -> None:
    server = serve([HOLD])
    source = EventSource(server.url, client=client, read_timeout=0.2)
    reading = reader(threads, source)
    server.wait_for_requests(1)
    source.close()
    assert reading.result(PATIENCE) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("hook", ["on_open", "on_reconnect"])
def test_a_hook_may_close_the_source(serve: Serve, client: Any, hook: str) -> None:
    server = serve(stream(ONE), [chunked(), chunk(TWO), HOLD])
    source: EventSource
    options: dict[str, Any] = {hook: lambda *_args: source.close()}
    source = EventSource(server.url, client=client, **options)
    assert [event.data for event in source] == ([] if hook == "on_open" else ["one"])
    assert source.state == "closed"
    assert len(server.requests) == 1
    server.wait_until_left()


def test_it_may_be_closed_while_an_event_is_worked_on(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE + TWO), HOLD])
    source = EventSource(server.url, client=client)
    got = []
    for event in source:
        got.append(event.data)
        source.close()
    assert got == ["one"]
    server.wait_until_left()


def test_two_threads_cannot_wait_for_one_source(serve: Serve, client: Any, threads: ThreadPoolExecutor) -> None:
    go = threading.Event()
    server = serve([chunked(), go, chunk(ONE), LAST_CHUNK])
    source = EventSource(server.url, client=client, retry=0.001)
    reading = reader(threads, source)
    server.wait_for_requests(1)
    with pytest.raises(RuntimeError, match="another thread"):
        next(source)
    go.set()
    assert reading.result(PATIENCE) == ["one"]


def test_another_thread_may_close_it_just_when_a_wait_begins(threads: ThreadPoolExecutor) -> None:
    """Whoever waits sees the end, also while that thread still releases everything."""
    released, go = threading.Event(), threading.Event()
    closing: list[Future[None]] = []

    class Stream(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield ONE

        def close(self) -> None:
            released.set()
            assert go.wait(PATIENCE)

    def trace(frame: Any, event: str, _arg: object) -> Any:
        """Let it be closed where `next` has just seen that it is open."""
        if frame.f_code is not threading.Event.is_set.__code__:
            return None
        if event == "return":
            sys.settrace(None)
            closing.append(threads.submit(source.close))
            assert released.wait(PATIENCE)
        return trace

    answer = httpx2.MockTransport(
        lambda _request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())
    )
    with httpx2.Client(transport=answer) as client:
        source = EventSource("http://127.0.0.1/", client=client)
        assert next(source).data == "one"
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            assert next(source, None) is None
        finally:
            sys.settrace(before)
            go.set()
        assert len(closing) == 1
        closing[0].result(PATIENCE)


def test_one_thread_may_go_on_where_another_stopped(serve: Serve, client: Any, threads: ThreadPoolExecutor) -> None:
    server = serve(stream(ONE + TWO))
    source = EventSource(server.url, client=client, retry=0.001)
    assert threads.submit(next, source).result(PATIENCE).data == "one"
    assert [event.data for event in source] == ["two"]


def test_an_interrupt_from_the_keyboard_leaves_a_source_that_goes_on(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE), LAST_CHUNK], stream(TWO))
    once = [KeyboardInterrupt]

    def interrupt(_response: object) -> None:
        if once:
            raise once.pop()

    with EventSource(server.url, client=client, on_open=interrupt, retry=0.001) as source:
        with pytest.raises(KeyboardInterrupt):
            next(source)
        assert [event.data for event in source] == ["one", "two"]
    server.wait_until_left()
