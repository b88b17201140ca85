"""The configurations of docs/proxies.md, in real proxies."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.conftest import Serve
from tests.servers.proxies import PROXIES, proxy
from tests.servers.servers import RawClient, Server

APP = "tests.servers.apps:app"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("uvicorn", APP, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module", params=PROXIES)
def port(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with proxy(request.param, tmp_path_factory.mktemp("proxy"), server.port) as port:
        yield port


def test_items_pass_one_by_one(port: int) -> None:
    with RawClient(port, "/alone?n=20", headers={"Accept-Encoding": "gzip"}).read_head() as client:
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in client.headers
        delays: list[int] = []
        while client.read_some():
            events = client.events
            delays += [time.monotonic_ns() - event.json() for event in events[len(delays) :]]
        assert len(delays) == 20
        # The quickest ones: the machine that runs the tests has other things to do as well.
        assert sorted(delays)[4] < 15_000_000


def test_the_head_of_a_silent_stream_passes_at_once(port: int) -> None:
    begin = time.monotonic()
    with RawClient(port, "/idle").read_head().read_until(b":\n\n") as client:
        assert client.status == 200
        assert time.monotonic() - begin < 5


def test_an_early_error_keeps_its_status(port: int) -> None:
    with RawClient(port, "/missing/attic").read_head() as client:
        assert client.status == 404


def test_pings_pass(port: int) -> None:
    with RawClient(port, "/beating").read_head() as client:
        client.read_until(b": ping\n\n: ping\n\n")


def test_a_client_that_leaves_the_proxy_ends_the_source_behind_it(server: Server, port: int) -> None:
    closed = server.journal.count("idle closed")
    with RawClient(port, "/idle").read_head().read_until(b":\n\n"):
        pass
    assert server.wait_for("idle closed", closed + 1) < 5


@pytest.mark.parametrize("kind", PROXIES)
def test_the_end_of_the_server_ends_the_stream_cleanly(kind: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with proxy(kind, tmp_path, server.port) as port, RawClient(port, "/idle") as client:
        client.read_head().read_until(b":\n\n")
        assert server.terminate() < 5
        assert client.read_all().clean
        assert b"retry: " in client.body
