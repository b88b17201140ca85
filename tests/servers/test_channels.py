"""Channels over real sockets, on each server."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers.conftest import Serve
from tests.servers.proxies import proxy
from tests.servers.servers import RawClient, Server, wait_until
from tidings.wire import EventDecoder

SERVERS = ["uvicorn", "uvicorn-asyncio-h11", "hypercorn", "granian"]

APP = "tests.servers.channel_apps:app"

LARGE = 20_000
"""Bytes of an event, so that 700 are more than a channel's tail and all buffers before a socket hold."""

_numbers = count(1)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(request.param, APP, tmp_path_factory.mktemp("channels")) as server:
        yield server
        assert not re.search(r"ERROR|CRITICAL|WARNING|Traceback|Exception", server.log), server.log


@pytest.fixture
def nginx_port(server: Server, tmp_path: Path) -> Iterator[int]:
    """An nginx in front of the server."""
    with proxy("nginx", tmp_path, server.port) as port:
        yield port


@pytest.fixture
def channel() -> str:
    """One that no other test uses."""
    return f"channel-{next(_numbers)}"


def ask(server: Server, path: str, method: str = "POST") -> Any:
    with server.get(path, method).read_head().read_all() as client:
        assert client.status == 200, client.body
        return json.loads(client.body)


def publish(server: Server, channel: str, *texts: object) -> list[str]:
    """Publish with a request for each; the ids."""
    return [ask(server, f"/channels/{channel}?text={quote(str(text))}") for text in texts]


def subscribe(server: Server, channel: str, last_event_id: str | None = None, **options: int) -> RawClient:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return server.get(f"/channels/{channel}", headers=headers, **options).read_head()


def texts(client: RawClient) -> list[Any]:
    return [event.json() for event in client.events]


def ids(client: RawClient) -> list[str]:
    return [event.id for event in client.events]


def last_id(client: RawClient) -> str:
    decoder = EventDecoder()
    decoder.feed(client.body)
    return decoder.last_event_id


def read_to(client: RawClient, number: int) -> None:
    """Read until a number of a burst has come."""
    marker = b'"number":%d,' % number
    while marker not in client.body[-2 * LARGE :]:
        assert client.read_some(), f"ended without {marker!r}"


def numbers(client: RawClient) -> list[int]:
    return [event.json()["number"] for event in EventDecoder(1 << 24).feed(client.body) if event.event == "message"]


# -- delivery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["channels", "yielded"])
def test_a_subscriber_gets_what_another_request_publishes(server: Server, channel: str, path: str) -> None:
    publish(server, channel, "before")
    with server.get(f"/{path}/{channel}").read_head() as client:
        # A stream of an endpoint that yields starts before its source: the comment says that it waits.
        client.read_until(b":\n\n")
        published = publish(server, channel, "one", "two", "three")
        client.read_until(b"three").read_until(published[-1].encode() + b"\n\n")
        blocks = zip(["one", "two", "three"], published, strict=True)
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.body.decode() == ":\n\n" + "".join(f'data: "{text}"\nid: {id}\n\n' for text, id in blocks)


def test_what_is_published_in_a_burst_comes_joined(server: Server, channel: str) -> None:
    with subscribe(server, channel) as client:
        ask(server, f"/channels/{channel}/burst?count=800")
        read_to(client, 799)
        assert numbers(client) == list(range(800))
        assert client.chunks < 400


def test_300_subscribers_get_a_burst_whole_and_in_order(server: Server, channel: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(subscribe(server, channel)) for _ in range(300)]
        ask(server, f"/channels/{channel}/burst?count=300")
        for client in clients:
            read_to(client, 299)
            client.read_until(b"\n\n", 1)
        assert numbers(clients[0]) == list(range(300))
        assert {client.body for client in clients} == {clients[0].body}


# -- clients that come and go -----------------------------------------------------------------------------------------


def test_a_client_that_reconnects_with_its_last_id_resumes_exactly(server: Server, channel: str) -> None:
    with subscribe(server, channel) as client:
        published = publish(server, channel, 1, 2, 3)
        client.read_until(published[-1].encode() + b"\n\n")
        seen = last_id(client)
        assert seen == published[-1]
    published += publish(server, channel, 4, 5)
    for path in ("channels", "yielded"):
        for headers, query in (({"Last-Event-ID": seen}, ""), ({}, f"?last_event_id={seen}")):
            with server.get(f"/{path}/{channel}{query}", headers=headers).read_head() as client:
                published += publish(server, channel, 6)
                client.read_until(published[-1].encode() + b"\n\n")
                assert ids(client) == published[3:]
                assert texts(client)[:2] == ["4", "5"]


def test_a_client_resumes_through_nginx(server: Server, channel: str, nginx_port: int) -> None:
    with RawClient(nginx_port, f"/channels/{channel}").read_head() as client:
        published = publish(server, channel, 1, 2)
        client.read_until(published[-1].encode() + b"\n\n")
        headers = {"Last-Event-ID": last_id(client)}
    published += publish(server, channel, 3, 4)
    with RawClient(nginx_port, f"/channels/{channel}", headers=headers).read_head() as client:
        published += publish(server, channel, 5)
        client.read_until(published[-1].encode() + b"\n\n")
        assert ids(client) == published[2:]
        assert texts(client) == ["3", "4", "5"]
        ask(server, f"/channels/{channel}/finish")
        assert client.read_all().clean
        headers = {"Last-Event-ID": last_id(client)}
    with RawClient(nginx_port, f"/channels/{channel}", headers=headers).read_head() as client:
        assert client.status == 204


def test_a_client_that_stops_reading_holds_nobody_up_and_catches_up(server: Server, channel: str) -> None:
    with ThreadPoolExecutor(1) as pool, subscribe(server, channel, rcvbuf=4096) as slow:
        with subscribe(server, channel) as other:
            bursting = pool.submit(ask, server, f"/channels/{channel}/burst?count=700&size={LARGE}")
            read_to(other, 699)
            assert numbers(other) == list(range(700))
            bursting.result(10)
        read_to(slow, 699)
        assert numbers(slow) == list(range(700))
        slow_ids = ids_of_large(slow)
        assert slow_ids == sorted(slow_ids, key=sequence)
        assert len(set(slow_ids)) == 700


def test_a_client_that_stops_reading_for_too_long_is_told_what_it_missed(server: Server, channel: str) -> None:
    with server.get(f"/forgetful/{channel}", rcvbuf=4096).read_head() as slow:
        ask(server, f"/forgetful/{channel}/burst?count=700&size={LARGE}")
        read_to(slow, 699)
    events = EventDecoder(1 << 24).feed(slow.body)
    (at,) = [index for index, event in enumerate(events) if event.event == "reset"]
    before, after = events[:at], events[at + 1 :]
    assert [event.json()["number"] for event in before] == list(range(at))
    # At least those that are retained; more, if it was still in the middle of what came before when it got them.
    assert [event.json()["number"] for event in after] == list(range(700 - len(after), 700))
    assert 20 <= len(after) < 700 - at
    assert events[at].json() == {"reason": "trimmed", "requested": before[-1].id, "oldest": after[0].id}
    assert sequence(events[at].id) == sequence(after[0].id) - 1


def sequence(id: str) -> int:
    return int(id.rpartition("-")[2])


def ids_of_large(client: RawClient) -> list[str]:
    return [event.id for event in EventDecoder(1 << 24).feed(client.body)]


def test_clients_that_leave_at_random_leave_nothing_behind(server: Server) -> None:
    chance = random.Random(3)
    shared = [f"random-{number}" for number in range(4)]
    present: list[RawClient] = []
    with ThreadPoolExecutor(2) as pool:
        bursts = [pool.submit(ask, server, f"/channels/{name}/burst?count=1000&size=500") for name in shared]
        for number in range(200):
            name = chance.choice([*shared, f"random-own-{number}"])
            path = chance.choice(["channels", "channels", "yielded"])
            query = chance.choice(["", "?last_event_id=earliest"])
            client = server.get(f"/{path}/{name}{query}", rcvbuf=chance.choice([0, 4096]))
            present.append(client)
            if chance.random() < 0.7 and path == "channels":  # else it may leave before it is answered
                client.read_head()
            chance.shuffle(present)
            while len(present) > 20:
                leave_somehow(present.pop(), chance)
        for burst in bursts:
            burst.result(10)
    present += [subscribe(server, name) for name in shared]
    assert min(ask(server, "/left", "GET").values()) > 0
    for client in present:
        leave_somehow(client, chance)
    wait_until(lambda: not any(ask(server, "/left", "GET").values()), what="nothing is left")


def leave_somehow(client: RawClient, chance: random.Random) -> None:
    if chance.random() < 0.5:  # as a process that dies does, or one with unread data
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.leave()


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_finished_channel_ends_its_subscribers_and_stops_those_who_come_back(server: Server, channel: str) -> None:
    with subscribe(server, channel) as client, server.get(f"/yielded/{channel}").read_head() as yielded:
        yielded.read_until(b":\n\n")
        published = publish(server, channel, "one", "two")
        ask(server, f"/channels/{channel}/finish")
        for each in (client, yielded):
            assert each.read_all().clean
            assert ids(each) == published
    for last_event_id in (published[-1], None):
        with subscribe(server, channel, last_event_id) as client:
            assert client.status == 204
            assert "content-type" not in client.headers
            assert client.read_all().body == b""
    for last_event_id, expected in ((published[0], ["two"]), ("earliest", ["one", "two"])):
        with subscribe(server, channel, last_event_id) as client:
            assert client.status == 200
            assert client.read_all().clean
            assert texts(client) == expected
    publish(server, channel, "again")
    with subscribe(server, channel, published[-1]) as client:
        assert client.read_until(b"again").clean is None


@pytest.mark.parametrize("kind", SERVERS)
def test_sigterm_ends_subscriptions_cleanly_and_says_where_they_stand(kind: str, serve: Serve) -> None:
    server = serve(kind, APP)
    (start,) = publish(server, "elsewhere", "first")
    with ExitStack() as stack:

        def come(path: str) -> list[RawClient]:
            clients = [stack.enter_context(server.get(path)) for _ in range(40)]
            for client in clients:
                client.read_head().read_until(b":\n\n")
            return clients

        silent, yielded, told = come("/channels/silent"), come("/yielded/busy"), come("/channels/busy")
        (id,) = publish(server, "busy", "hello")
        for client in [*told, *yielded]:
            client.read_until(id.encode() + b"\n\n")
        assert server.terminate() < 5

        retries = set()
        event = f'data: "hello"\nid: {id}\n\n'
        for clients, content in ((silent, f"id: {start}\n\n"), (told, event), (yielded, event)):
            for client in clients:
                assert client.read_all().clean
                found = re.fullmatch(rf":\n\n{content}retry: (\d+)\n\n", client.body.decode())
                assert found, client.body
                retries.add(int(found[1]))
    assert len(retries) > 60
    assert min(retries) >= 1_000
    assert max(retries) <= 10_000
    # Now and then granian's own threads panic while it stops ("Cannot drop pointer into Python heap without the thread
    # being attached", version 2.8.7): then its worker is gone before it has told the application.
    if "panicked" not in server.log:
        assert "brokers closed" in server.journal
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert not re.search(r"ERROR|CRITICAL|Traceback", server.log), server.log
