"""A replay is read and sent page by page: who reads slowly costs the server a page, however long the history is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.servers import conftest as servers
from tests.servers.servers import Server, wait_until
from tidings import Broker

serve = servers.serve  # the fixture

EVENTS = 400
SIZE = 32_768
READERS = 12

ALLOWED = 2 << 20
"""Bytes for each reader: a page, and the buffers of server and socket."""


async def fill(url: str) -> list[str]:
    async with Broker(url, publish_timeout=60) as broker:
        return await asyncio.gather(
            *(broker.publish("news", raw_data=f"{number:05}".ljust(SIZE, ".")) for number in range(EVENTS))
        )


def settled(figure: Callable[[], int]) -> int:
    """A figure once it has stopped to grow."""
    seen = [figure()]

    def stands_still() -> bool:
        seen.append(figure())
        return len(seen) > 100 and max(seen[-50:]) <= max(seen[-100:-50])

    wait_until(stands_still, 30, "the readers wait for nothing but their sockets")
    return max(seen)


def test_readers_that_stop_in_a_long_replay_cost_a_page_each(serve: servers.Serve, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    published = asyncio.run(fill(url))
    server: Server = serve(app="tests.servers.channel_apps:app", BROKER=url)
    memory = psutil.Process(server.process.pid).memory_info
    with server.get("/channels/news?last_event_id=earliest").read_head() as first:
        first.read_until(f"id: {published[-1]}\n\n".encode(), 30)  # what it loads and caches once
    with ExitStack() as stack:
        before = memory().rss
        slow = [
            stack.enter_context(server.get("/channels/news?last_event_id=earliest", rcvbuf=4096).read_head())
            for _ in range(READERS)
        ]
        for client in slow:
            client.read_until(b"id: ")
        grown = settled(lambda: memory().rss) - before
        assert grown < READERS * ALLOWED, f"{grown / READERS / 1024:.0f} KiB for each reader"
        client = slow[-1]
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.read_until(f"id: {published[-1]}\n\n".encode(), 30)
        assert [event.id for event in client.events] == published
        assert all(event.data.startswith(f"{number:05}") for number, event in enumerate(client.events))
