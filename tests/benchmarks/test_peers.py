"""The peers of the benchmarks do what they are measured at; each is a real server."""

import pytest
from benchmarks.__main__ import arguments
from benchmarks.audience import Audience
from benchmarks.command import needs
from benchmarks.peers import PEERS, USUAL_PEERS
from benchmarks.publishing import Load, publishing_inside, subscribe_path
from benchmarks.receive import open_streams, receive_burst
from benchmarks.server import serving
from benchmarks.workloads.streams import receive_finite_ticks


def check_streams(server):
    receive_burst(server.port, "/quotes?n=100", 100)
    assert len(receive_finite_ticks(server, 5, 0.001)) == 5
    with open_streams(server.port, "/idle", 2):
        pass


def check_channels(server):
    with open_streams(server.port, subscribe_path(), 3) as streams:
        audience = Audience(streams)
        server.settle()  # some subscribe after they have answered
        with publishing_inside(server.port, Load(10)):
            audience.hear(10, 0.0)
        audience.check(10)
        audience.close()


# The floor in C needs a compiler, which the tests don't.
@pytest.mark.parametrize("peer", ["aiohttp-sse", "asyncio", "better-sse"])
def test_a_server_for_everything_serves_streams_and_channels(peer, tmp_path):
    assert PEERS[peer].missing() is None
    with serving(PEERS[peer].servers["streams"], None, tmp_path) as server:
        check_streams(server)
        check_channels(server)


@pytest.mark.parametrize(("peer", "name"), [("litestar", "streams"), ("tidings", "bare"), ("sse-starlette", "bare")])
def test_an_application_serves_streams(peer, name, tmp_path):
    with serving(PEERS[peer].servers[name], None, tmp_path) as server:
        check_streams(server)


def test_an_application_serves_channels(tmp_path):
    with serving(PEERS["litestar"].servers["channels"], None, tmp_path) as server:
        check_channels(server)


def test_what_a_peer_lacks_is_named():
    assert needs("pytest")() is None
    assert needs("pytest", "no-such-distribution")() == "not installed here: pip install no-such-distribution"


def test_the_usual_peers_are_measured_unless_others_are_asked_for():
    assert arguments([]).peers == list(USUAL_PEERS)
    assert arguments(["--peers", "all"]).peers == list(PEERS)
    assert arguments(["--peers", "tidings,c"]).peers == ["tidings", "c"]
    assert set(USUAL_PEERS) < set(PEERS)
