"""What one server is enough to show: uvicorn, as most people run it."""

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.servers.conftest import Serve
from tests.servers.servers import PATIENCE, RawClient, Server, wait_until


@pytest.fixture
def server(serve: Serve) -> Iterator[Server]:
    server = serve()
    yield server
    assert not re.search(r"CRITICAL|never awaited|was destroyed|never retrieved", server.log), server.log


def test_head_answers_headers_only(server: Server) -> None:
    with server.get("/starlette", "HEAD").read_head() as client:
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)


def test_an_item_of_a_sync_generator_arrives_while_the_next_takes_seconds(server: Server) -> None:
    begin = time.monotonic()
    with server.get("/slow-thread").read_head().read_until(b"\n\n"):
        assert time.monotonic() - begin < 1.8


def test_600_idle_sync_streams_leave_the_pool_of_def_endpoints_alone(server: Server) -> None:
    """More than the 512 that a process streams by default: the rest is told to come back."""
    clients = [server.get("/slow-thread") for _ in range(520)]
    try:
        statuses = [client.read_head().status for client in clients]
        assert statuses.count(200) == 512
        assert statuses.count(503) == 8
        refused = clients[statuses.index(503)]
        assert int(refused.headers["retry-after"]) > 0
        begin = time.monotonic()
        with server.get("/plain").read_head() as plain:
            assert plain.status == 200
        assert time.monotonic() - begin < 1
    finally:
        for client in clients:
            client.leave()
    server.wait_for("slow-thread closed", 512)


def test_a_stalled_client_is_dropped_after_send_timeout(server: Server) -> None:
    with server.get("/flood-impatient", rcvbuf=4096).read_head() as client:
        took = server.wait_for("flood-impatient closed", timeout=15)
        assert took > 0.5
        # What the kernel holds can still be read; then it is over, and not as if it were complete.
        assert client.read_all(30).clean is False


def test_a_client_that_reads_again_before_send_timeout_loses_nothing(server: Server) -> None:
    with server.get("/readings?n=60000", rcvbuf=4096).read_head() as client:
        time.sleep(1)
        client.read_all(30)
        assert client.clean
        assert [event.json()["celsius"] for event in client.events] == list(range(60_000))


def test_dependencies_and_context_variables_behave_as_in_any_endpoint(server: Server) -> None:
    with server.get("/with-session").read_head().read_until(b"same task") as client:
        assert client.events[0].json() == "session open"
        assert "session closed" not in server.journal
    server.wait_for("session closed")
    assert server.journal == ["session opened", "with-session closed", "session closed"]


def test_a_stream_that_fails_validation_says_what_and_where_in_the_log(server: Server) -> None:
    with server.get("/wrong-first").read_head() as client:
        assert client.status == 500
    wait_until(lambda: "doesn't fit the stream's annotation Reading" in server.log, what="the reason in the log")
    assert "celsius" in server.log


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.1", 503), ("*", 200)])
def test_what_a_client_writes_in_front_of_its_address_counts_if_everybody_is_trusted(
    serve: Serve, trusted: str, status: int
) -> None:
    """Which is why the documentation says never to trust everybody."""
    server = serve(FORWARDED_ALLOW_IPS=trusted)

    def come(invented: str) -> RawClient:
        return server.get("/one-of-an-address", headers={"x-forwarded-for": f"{invented}, 203.0.113.7"}).read_head()

    with come("198.51.100.1") as one, come("198.51.100.2") as another:
        assert (one.status, another.status) == (200, status)


def test_an_item_that_comes_alone_is_sent_at_once(server: Server) -> None:
    delays = []
    with server.get("/alone?n=30").read_head() as client:
        seen = 0
        while client.read_some():
            events = client.events
            delays += [time.monotonic_ns() - event.json() for event in events[seen:]]
            seen = len(events)
    assert len(delays) == 30
    # Far above what it takes, and far below any timer: nothing waits to be joined with the next item.
    assert sorted(delays)[6] < 15_000_000


def test_a_new_stream_during_the_shutdown_ends_too(server: Server) -> None:
    with server.get("/idle").read_head(), server.get("/plain") as late:
        late.read_head()
        server.process.terminate()
        late.socket.sendall(b"GET /idle HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert server.terminate() < 5


def test_a_server_whose_first_stream_comes_after_the_signal_ends_too(serve: Serve) -> None:
    # It serves what comes until it looks at its signals, ten times a second.
    for _ in range(5):
        server = serve()
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            server.process.send_signal(signal.SIGTERM)
            with suppress(ConnectionError):
                client.sendall(b"GET /idle HTTP/1.1\r\nHost: localhost\r\n\r\n")
                client.settimeout(10)
                begun = client.recv(100).startswith(b"HTTP/1.1 200")
                server.process.wait(PATIENCE)
                if begun:
                    return
    pytest.fail("it never came in time")
