"""Clients that read nothing, or send a byte now and then: what they cost, and who ends it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.servers import conftest as servers
from tests.servers.proxies import proxy
from tests.servers.servers import RawClient, Server, wait_until

serve = servers.serve  # the fixture

CLIENTS = 50

ALLOWED = 1 << 20
"""Bytes for each client that doesn't read: a batch, and the buffers of server and socket."""


def test_clients_that_never_read_cost_little_hold_nobody_up_and_are_dropped(serve: servers.Serve) -> None:
    server = serve("uvicorn", "tests.hostile.apps:app", SEND_TIMEOUT="1")
    memory = psutil.Process(server.process.pid).memory_info
    with ExitStack() as stack:
        reader = stack.enter_context(server.get("/news").read_head())
        reader.read_until(b"\n\n")
        before = memory().rss
        for number in range(CLIENTS):
            path = "/flood" if number % 2 else "/news"
            stack.enter_context(server.get(path, rcvbuf=4_096))
        wait_until(lambda: streams(server) == 1 + CLIENTS, 20, "all streams are open")
        most = memory().rss
        begin = time.monotonic()
        while streams(server) > 1:
            most = max(most, memory().rss)
            assert time.monotonic() < begin + 30, "not dropped"
            reader.read_some()
        assert most - before < CLIENTS * ALLOWED, f"{(most - before) // CLIENTS >> 10} KiB for each"
        # One who reads has missed nothing meanwhile.
        reader.read_until(b"\n\n")
        numbers = [int(event.data.split()[0]) for event in reader.events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) > 100


def streams(server: Server) -> int:
    with server.get("/streams") as client:
        return int(client.read_head().read_all().body)


SHORT = {
    "nginx": {
        "client_header_timeout 10s;": "client_header_timeout 1s;",
        "client_body_timeout 10s;": "client_body_timeout 1s;",
    },
    "haproxy": {"timeout http-request 10s": "timeout http-request 1s"},
}


@pytest.fixture(params=SHORT)
def port(request: pytest.FixtureRequest, serve: servers.Serve, tmp_path: Path) -> Iterator[int]:
    """A proxy as docs/proxies.md has it, but that it waits no more than a second for a request."""
    with proxy(request.param, tmp_path, serve().port, SHORT[request.param]) as port:
        yield port


def test_a_proxy_cuts_off_who_sends_a_head_byte_by_byte(port: int) -> None:
    head = b"GET /plain HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 1_000
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(0.05)
        for letter in head:
            try:
                connection.sendall(bytes([letter]))
                if answer := connection.recv(1_000):
                    assert b" 408 " in answer.splitlines()[0]
                break
            except TimeoutError:
                pass
            except OSError:
                break
        else:
            pytest.fail("it may go on")
    assert time.monotonic() - begin < 20


def test_a_stream_outlives_the_time_for_a_head(port: int) -> None:
    with RawClient(port, "/beating").read_head() as client:
        client.read_until(b": ping\n\n" * 6)


def test_a_stream_ends_with_a_client_that_had_sent_its_next_request_already(serve: servers.Serve) -> None:
    """uvicorn notices this with h11 alone, and so does docs/hostile-input.md say."""
    server = serve("uvicorn-asyncio-h11")
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(b"GET /idle HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
    server.wait_for("idle closed")
