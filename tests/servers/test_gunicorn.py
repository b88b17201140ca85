"""gunicorn with two workers of uvicorn's class."""

from __future__ import annotations

import re

import pytest

from tests.servers.conftest import Serve
from tests.servers.servers import Server


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve("gunicorn")


def test_a_stream_arrives_whole(server: Server) -> None:
    with server.get("/readings?n=1000").read_head().read_all() as client:
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert [event.json()["celsius"] for event in client.events] == list(range(1000))
        assert client.clean


def test_a_client_that_leaves_ends_the_source(server: Server) -> None:
    with server.get("/idle-after-one").read_head().read_until(b"\n\n"):
        pass
    assert server.wait_for("idle-after-one closed") < 5


def test_it_ends_while_streams_are_open(server: Server) -> None:
    clients = [server.get("/idle").read_head().read_until(b":\n\n") for _ in range(4)]
    assert server.terminate() < 10
    for client in clients:
        assert client.read_all().clean
        assert re.search(rb"retry: \d+\n\n$", client.body)
        client.leave()
    assert server.journal.count("idle closed") == 4
    assert not re.search(r"ERROR|CRITICAL|Traceback|Exception", server.log), server.log
