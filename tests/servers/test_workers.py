"""Channels in an SQLite file that several processes share: workers of one server, servers, a script."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.servers.conftest import Serve
from tests.servers.servers import PATIENCE, ROOT, RawClient, Server, wait_until
from tests.servers.test_channels import APP, ask, ids, last_id, publish, sequence, subscribe, texts

WORKERS = 3

_numbers = count(1)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'events.db'}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """`uvicorn --workers 3` on one file."""
    with Server("uvicorn-3-workers", APP, folder, BROKER=url_of(folder)) as server:
        wait_until(lambda: workers_started(server) == WORKERS, 30, "all workers are up")
        yield server
        assert not re.search(r"ERROR|CRITICAL|WARNING:  |Traceback|Exception", server.log), server.log


@pytest.fixture
def channel() -> str:
    """One that no other test uses."""
    return f"channel-{next(_numbers)}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def worker_of(client: RawClient) -> int:
    """The process that answered."""
    return int(client.headers["x-worker"])


def on_each_worker(connect: Callable[[], RawClient], per_worker: int = 1) -> dict[int, list[RawClient]]:
    """Connect until each worker has so many of the connections: which it is, the kernel decides."""
    clients: dict[int, list[RawClient]] = {}

    def spread() -> bool:
        client = connect()
        clients.setdefault(worker_of(client), []).append(client)
        return len(clients) == WORKERS and min(map(len, clients.values())) >= per_worker

    wait_until(spread, 30, f"{WORKERS} workers have answered")
    return clients


def all_of(clients: dict[int, list[RawClient]]) -> list[RawClient]:
    return [client for some in clients.values() for client in some]


# -- the workers of one server ----------------------------------------------------------------------------------------


def test_what_one_worker_publishes_reaches_the_subscribers_of_all(
    server: Server, channel: str, stack: ExitStack
) -> None:
    clients = all_of(on_each_worker(lambda: stack.enter_context(subscribe(server, channel)), 3))
    published = publish(server, channel, *range(30))  # each by the worker that takes it
    for client in clients:
        client.read_until(published[-1].encode() + b"\n\n")
        assert ids(client) == published
        assert texts(client) == [str(number) for number in range(30)]


def test_a_burst_reaches_the_subscribers_of_all_workers_in_order(
    server: Server, channel: str, stack: ExitStack
) -> None:
    clients = all_of(on_each_worker(lambda: stack.enter_context(subscribe(server, channel)), 3))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: ask(server, f"/channels/{channel}/burst?count=300"), range(3)))
    end = publish(server, channel, "end")[0]
    for client in clients:
        client.read_until(end.encode() + b"\n\n")
        assert ids(client) == ids(clients[0])
    seen = ids(clients[0])
    assert len(set(seen)) == 901
    assert seen == sorted(seen, key=sequence)


def test_a_subscriber_resumes_at_another_worker(server: Server, channel: str, stack: ExitStack) -> None:
    first = stack.enter_context(subscribe(server, channel))
    published = publish(server, channel, *range(5))
    first.read_until(published[-1].encode() + b"\n\n").leave()
    published += publish(server, channel, *range(5, 10))
    clients = on_each_worker(lambda: stack.enter_context(subscribe(server, channel, last_id(first))))
    published += publish(server, channel, *range(10, 15))
    for client in all_of(clients):
        client.read_until(published[-1].encode() + b"\n\n")
        assert ids(client) == published[5:]


def test_all_workers_know_that_a_channel_is_finished(server: Server, channel: str, stack: ExitStack) -> None:
    clients = all_of(on_each_worker(lambda: stack.enter_context(subscribe(server, channel)), 2))
    published = publish(server, channel, "one", "two")
    ask(server, f"/channels/{channel}/finish")
    for client in clients:
        assert client.read_all().clean
        assert ids(client) == published
    late = all_of(on_each_worker(lambda: stack.enter_context(subscribe(server, channel, published[-1]))))
    assert {client.status for client in late} == {204}


SCRIPT = """
import asyncio, sys
from tidings import Broker

async def main() -> None:
    url, channel = sys.argv[1:]
    async with Broker(url) as broker:
        print(*[await broker.publish(channel, {"step": step}, event="progress") for step in range(50)])
        await broker.finish(channel)

asyncio.run(main())
"""


def test_a_script_publishes_to_the_subscribers_of_all_workers(
    server: Server, folder: Path, channel: str, stack: ExitStack
) -> None:
    clients = all_of(on_each_worker(lambda: stack.enter_context(subscribe(server, channel)), 2))
    command = [sys.executable, "-W", "error", "-c", SCRIPT, url_of(folder), channel]
    script = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert script.returncode == 0, script.stderr
    assert script.stderr == ""
    for client in clients:
        assert client.read_all().clean
        assert ids(client) == script.stdout.split()
        assert [(event.event, event.json()["step"]) for event in client.events] == [("progress", n) for n in range(50)]


def test_a_worker_that_is_killed_is_replaced_and_its_subscribers_resume(
    serve: Serve, tmp_path: Path, stack: ExitStack
) -> None:
    server = serve("uvicorn-3-workers", APP, BROKER=url_of(tmp_path))
    clients = on_each_worker(lambda: stack.enter_context(subscribe(server, "news")), 2)
    published = publish(server, "news", *range(5))
    for client in all_of(clients):
        client.read_until(published[-1].encode() + b"\n\n")
    killed, orphans = clients.popitem()
    os.kill(killed, signal.SIGKILL)
    for client in orphans:
        assert client.read_all().clean is False
        assert ids(client) == published
    missed = [publish(server, "news", f"missed {number}")[0] for number in range(5)]
    wait_until(lambda: workers_started(server) == WORKERS + 1, 30, "the killed worker is replaced")
    back = on_each_worker(lambda: stack.enter_context(subscribe(server, "news", published[-1])))
    assert killed not in back
    last = publish(server, "news", "last")[0]
    for client in [*all_of(clients), *all_of(back)]:
        client.read_until(last.encode() + b"\n\n")
        assert ids(client)[-6:] == [*missed, last]
    assert {len(client.events) for client in all_of(clients)} == {11}
    assert {len(client.events) for client in all_of(back)} == {6}

    assert server.terminate() < 10
    for client in [*all_of(clients), *all_of(back)]:
        assert client.read_all().clean
        assert re.search(rb"\n\nretry: \d+\n\n$", client.body)


def workers_started(server: Server) -> int:
    return server.log.count("Application startup complete")


# -- servers on one file ----------------------------------------------------------------------------------------------


class Publisher:
    """Publishes one event after the other over one connection, until its server is gone or it has so many."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name
        self.acknowledged: dict[str, str] = {}
        """The texts by their ids."""
        self.enough = False

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        try:
            for number in count():
                if self.enough:
                    break
                text = f"{self._name}-{number}"
                connection.request("POST", f"/channels/news?text={text}")
                response = connection.getresponse()
                id = response.read().decode().strip('"')
                assert response.status == 200, id
                self.acknowledged[id] = text
        except (ConnectionError, http.client.HTTPException):
            assert self._server.process.poll() is not None or self._server.process.wait(PATIENCE)
        finally:
            connection.close()


def test_a_process_killed_while_it_publishes_loses_nothing_that_was_acknowledged(
    serve: Serve, tmp_path: Path, stack: ExitStack
) -> None:
    killed, other, third = (serve("uvicorn", APP, BROKER=url_of(tmp_path)) for _ in range(3))
    readers = [stack.enter_context(subscribe(server, "news")) for server in (other, third) for _ in range(4)]
    orphans = [stack.enter_context(subscribe(killed, "news")) for _ in range(4)]
    publishers = [Publisher(server, f"{number}") for number, server in enumerate([killed, killed, killed, other])]
    survivor = publishers[-1]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(publisher.run) for publisher in publishers]
        wait_until(lambda: min(len(publisher.acknowledged) for publisher in publishers) > 100, 20, "100 each")
        killed.kill()
        for run in runs[:3]:
            run.result(10)
        # Who was connected to it comes back to another process, while a third one publishes on.
        resumed = []
        for client in orphans:
            assert client.read_all().clean is False
            resumed.append(stack.enter_context(subscribe(third, "news", last_id(client))))
        before = len(survivor.acknowledged)
        wait_until(lambda: len(survivor.acknowledged) > before + 50, 10, "50 more")
        survivor.enough = True
        runs[3].result(10)
    (end,) = publish(third, "news", "end")
    for client in [*readers, *resumed]:
        client.read_until(end.encode() + b"\n\n")

    seen = {event.id: event.json() for event in readers[0].events}
    for publisher in publishers:
        assert publisher.acknowledged.items() <= seen.items()
        # In their order, those of one publisher, without a gap: the one behind the last acknowledged may be there.
        own = [text for text in seen.values() if text.startswith(f"{publisher._name}-")]
        assert own == [f"{publisher._name}-{number}" for number in range(len(own))]
        assert len(own) - len(publisher.acknowledged) in ((0,) if publisher is survivor else (0, 1))
    order = list(seen)
    assert order == sorted(order, key=sequence)
    for client in readers:
        assert ids(client) == order
    for client, again in zip(orphans, resumed, strict=True):
        assert len(ids(client)) > 100
        assert ids(client) + ids(again) == order
    assert max(Counter(seen.values()).values()) == 1


def test_who_is_connected_when_all_servers_stop_resumes_when_they_are_back(
    serve: Serve, tmp_path: Path, stack: ExitStack
) -> None:
    first = serve("uvicorn", APP, BROKER=url_of(tmp_path))
    published = publish(first, "news", *range(3))
    told = stack.enter_context(subscribe(first, "news", published[0]))
    told.read_until(published[-1].encode() + b"\n\n")
    silent = stack.enter_context(subscribe(first, "news"))
    assert first.terminate() < 5
    for client in (told, silent):
        assert client.read_all().clean
    assert ids(silent) == []
    assert last_id(silent) == published[-1]  # it was told where it stands

    again = serve("hypercorn", APP, port=first.port, BROKER=url_of(tmp_path))
    published += publish(again, "news", *range(3, 6))
    for client in (told, silent):
        with subscribe(again, "news", last_id(client)) as back:
            back.read_until(published[-1].encode() + b"\n\n")
            assert ids(back) == published[3:]
