"""Two servers behind a proxy are started anew, one after the other: what was published meanwhile reaches everybody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.conftest import Serve
from tests.servers.proxies import documented, running
from tests.servers.servers import RawClient, Server, free_port, require, wait_until
from tidings.wire import EventDecoder

APP = "tests.servers.channel_apps:app"
READERS = 8
LAST = "the last one"


@pytest.fixture
def servers(serve: Serve, tmp_path: Path) -> list[Server]:
    return [serve(app=APP, BROKER=f"sqlite:///{tmp_path}/events.db") for _ in range(2)]


@pytest.fixture
def port(servers: list[Server], tmp_path: Path) -> Iterator[int]:
    """HAProxy in front of both, as docs/proxies.md configures it."""
    port, (one, two) = free_port(), servers
    path = tmp_path / "haproxy.cfg"
    both = f"127.0.0.1:{one.port}\n    server two 127.0.0.1:{two.port}"
    path.write_text(documented("haproxy", {"127.0.0.1:8000": both, "bind :80": f"bind 127.0.0.1:{port}"}))
    with running([require("haproxy", "haproxy"), "-db", "-f", str(path)], tmp_path, port):
        yield port


class Reader(threading.Thread):
    """Comes back at once whenever its stream ends, as no client is that impatient: with the id of its last event."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[str, str, str]] = []
        self.streams = 0
        self._port = port

    def run(self) -> None:
        last_event_id = ""
        while not self.events or self.events[-1][2] != LAST:
            decoder = EventDecoder()
            headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
            with RawClient(self._port, "/channels/news", headers=headers).read_head() as client:
                if client.status != 200:
                    continue
                self.streams += 1
                seen = 0
                while client.read_some(30):
                    for event in decoder.feed(client.body[seen:]):
                        self.events.append((event.id, event.event, event.json()))
                    seen = len(client.body)
                    last_event_id = decoder.last_event_id or last_event_id
                    if self.events and self.events[-1][2] == LAST:
                        break


class Publisher(threading.Thread):
    """Publishes until it is told to stop; notes what was acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.stop = threading.Event()
        self._port = port

    def run(self) -> None:
        number = 0
        while not self.stop.wait(0.01):
            number += 1
            self.publish(f"number-{number}")
        while not self.publish(LAST.replace(" ", "%20")):
            pass

    def publish(self, text: str) -> bool:
        with RawClient(self._port, f"/channels/news?text={text}", "POST").read_head().read_all() as client:
            if client.status == 200:
                self.acknowledged.append(text.replace("%20", " "))
            return client.status == 200


def test_a_rolling_restart_loses_nothing(servers: list[Server], port: int, serve: Serve, tmp_path: Path) -> None:
    readers = [Reader(port) for _ in range(READERS)]
    publisher = Publisher(port)
    for thread in (*readers, publisher):
        thread.start()
    wait_until(lambda: all(reader.events for reader in readers), what="everybody has had an event")
    for server in servers:
        assert server.terminate() < 5
        server = serve(app=APP, port=server.port, BROKER=f"sqlite:///{tmp_path}/events.db")  # noqa: PLW2901
        published = len(publisher.acknowledged)
        wait_until(lambda published=published: len(publisher.acknowledged) > published + 20, what="it goes on")
    publisher.stop.set()
    for thread in (publisher, *readers):
        thread.join(30)
        assert not thread.is_alive()

    assert len(publisher.acknowledged) > 50
    assert sum(reader.streams for reader in readers) > READERS, "nobody had to come back"
    for reader in readers:
        ids = [(epoch, int(sequence)) for epoch, _, sequence in (id.partition("-") for id, _, _ in reader.events)]
        assert ids == sorted(set(ids))
        assert {name for _, name, _ in reader.events} == {"message"}  # no `reset`
        texts = [text for _, _, text in reader.events]
        # A publish whose answer was cut off may be there, too.
        acknowledged = publisher.acknowledged[publisher.acknowledged.index(texts[0]) :]
        assert [text for text in texts if text in set(acknowledged)] == acknowledged
