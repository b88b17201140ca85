"""What must hold on each server, over real sockets."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.servers.conftest import Serve
from tests.servers.servers import Server, wait_until

SERVERS = ["uvicorn", "uvicorn-asyncio-h11", "hypercorn", "granian"]

TRACE_OF_TROUBLE = re.compile(r"ERROR|CRITICAL|WARNING|Traceback|Exception")


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(request.param, "tests.servers.apps:app", tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """One that goes on after the test: no stream may be left open, nor an error that is still to be logged."""
    shared.forget()
    return shared


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest, serve: Serve) -> Server:
    """One to end."""
    return serve(request.param)


def assert_quiet(server: Server) -> None:
    """Nothing above INFO: what servers print at INFO are requests and their own start and end."""
    assert not TRACE_OF_TROUBLE.search(server.log), server.log


def test_a_stream_arrives_whole_and_ends_clean(server: Server) -> None:
    with server.get("/readings?n=3").read_head().read_all() as client:
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["cache-control"] == "no-cache"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.body == b"".join(b'data: {"sensor":"roof","celsius":%d.0}\n\n' % i for i in range(3))
        assert client.clean
    assert_quiet(server)


def test_many_items_arrive_once_and_in_order(server: Server) -> None:
    with server.get("/readings?n=50000").read_head().read_all(30) as client:
        assert client.clean
        assert [event.json()["celsius"] for event in client.events] == list(range(50_000))


def test_an_exception_before_the_first_item_keeps_its_status(server: Server) -> None:
    with server.get("/missing/attic").read_head().read_all() as client:
        assert client.status == 404
        assert client.body == b'{"detail":"no sensor \'attic\'"}'


def test_a_client_that_leaves_ends_the_source_within_half_a_second(server: Server) -> None:
    for path in ("idle", "idle-after-one", "restless"):
        took = []
        for _ in range(3):
            with server.get(f"/{path}").read_head().read_until(b"\n\n"):
                pass
            took.append(server.wait_for(f"{path} closed", len(took) + 1))
        assert min(took) < 0.5, took  # the machine that runs the tests has other things to do as well
    assert_quiet(server)


def test_a_client_that_does_not_read_and_leaves_ends_the_source(server: Server) -> None:
    with server.get("/flood", rcvbuf=4096).read_head():
        server.wait_for("flood began")
        time.sleep(0.3)  # until every buffer between here and the source is full
    assert server.wait_for("flood closed") < 0.5
    assert_quiet(server)


def test_a_source_that_never_awaits_lets_other_requests_through(server: Server) -> None:
    with server.get("/restless").read_head():
        delays = []
        for _ in range(9):
            begin = time.monotonic()
            with server.get("/plain").read_head() as plain:
                assert plain.status == 200
            delays.append(time.monotonic() - begin)
        # The shortest: the machine that runs the tests has other things to do as well.
        assert min(delays) < 0.05, delays
    server.wait_for("restless closed")


@pytest.mark.parametrize("kind", SERVERS)
def test_sigterm_ends_200_idle_streams_cleanly_within_two_seconds(kind: str, serve: Serve) -> None:
    took: list[float] = []
    while not took or (took[-1] >= 2 and len(took) < 3):  # the machine that runs the tests may stand still for a moment
        took.append(end_200_idle_streams(serve(kind)))
    assert took[-1] < 2, took


def end_200_idle_streams(server: Server) -> float:
    retries = set()
    with ExitStack() as stack:
        clients = [stack.enter_context(server.get("/idle")) for _ in range(200)]
        for client in clients:
            client.read_head().read_until(b":\n\n")
        took = server.terminate()
        for client in clients:
            client.read_all()
            assert client.clean
            found = re.fullmatch(rb":\n\nretry: (\d+)\n\n", client.body)
            assert found, client.body
            retries.add(int(found[1]))
    assert len(retries) > 100
    assert min(retries) >= 1_000
    assert max(retries) <= 10_000
    assert server.journal.count("idle closed") == 200
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert not re.search(r"ERROR|CRITICAL|Traceback", server.log), server.log
    return took


def test_sigint_ends_streams_too(own_server: Server) -> None:
    with own_server.get("/idle-after-one").read_head().read_until(b"\n\n") as client:
        assert own_server.terminate(number=signal.SIGINT) < 5  # it would go on for ever
        assert client.read_all().clean
        assert b"\nretry: " in client.body


def test_sigterm_ends_a_sync_stream_that_is_blocked(own_server: Server) -> None:
    with own_server.get("/slow-thread").read_head().read_until(b"\n\n") as client:
        assert own_server.terminate() < 4  # it would go on for six seconds
        assert client.read_all().clean


def test_an_exception_after_the_start_ends_the_connection_unclean_and_is_logged_once(server: Server) -> None:
    with server.get("/breaks").read_head().read_all() as client:
        assert [event.json()["celsius"] for event in client.events] == [1, 2]
        assert client.clean is False
    wait_until(lambda: "the sensor fell off" in server.log, what="the exception in the log")
    assert server.log.count("LookupError: the sensor fell off") == 1


def test_an_item_that_does_not_fit_is_never_sent(server: Server) -> None:
    with server.get("/wrong-first").read_head().read_all() as client:
        assert client.status == 500
        assert b"roof" not in client.body
    with server.get("/wrong-later").read_head().read_all() as client:
        assert client.body == b'data: {"sensor":"roof","celsius":1.0}\n\n'
        assert client.clean is False
    wait_until(lambda: server.log.count("doesn't fit") >= 2, what="both in the log")


def test_silence_is_broken_by_pings(server: Server) -> None:
    with server.get("/beating").read_head().read_until(b": ping\n\n: ping\n\n") as client:
        assert client.body == b":\n\n: ping\n\n: ping\n\n"


def test_behind_three_middlewares_nothing_changes(serve: Serve) -> None:
    for kind in SERVERS:
        server = serve(kind, "tests.servers.apps:wrapped")
        headers = {"Accept-Encoding": "gzip", "Origin": "http://elsewhere.example"}
        with server.get("/readings?n=3", headers=headers).read_head().read_all() as client:
            assert client.body == b"".join(b'data: {"sensor":"roof","celsius":%d.0}\n\n' % i for i in range(3))
            assert client.clean
            assert "content-encoding" not in client.headers
            assert client.headers["access-control-allow-origin"] == "*"
        with server.get("/missing/attic", headers=headers).read_head() as client:
            assert client.status == 404
        with server.get("/idle-after-one", headers=headers).read_head().read_until(b"\n\n"):
            pass
        assert server.wait_for("idle-after-one closed") < 5
        with server.get("/idle", headers=headers).read_head().read_until(b":\n\n") as client:
            assert server.terminate() < 5
            assert client.read_all().clean
        assert not re.search(r"ERROR|CRITICAL|Traceback", server.log), server.log


def test_bare_asgi(serve: Serve) -> None:
    for kind in SERVERS:
        server = serve(kind, "tests.servers.apps:bare")
        with server.get("/here").read_head().read_until(b'data: {"path":"/here"}\n\n') as client:
            assert client.status == 200
        with server.get("/missing").read_head() as client:
            assert client.status == 404
        with server.get("/here", "HEAD").read_head() as client:
            assert client.status == 200
            assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert client.body == b""
