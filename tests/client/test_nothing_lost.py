"""Against tidings' own channels: whatever is cut in between, each event is seen once, in order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.client.cutting import CuttingProxy
from tests.client.reading import NO_TLS
from tests.servers.servers import Server
from tidings.client import AsyncEventSource, EventSource

EVENTS = 10_000
CUTS = 200
LONGEST = 2_800
"""Bytes of the longest answer that is cut: some end in the head, some in an event, few get far."""


async def read_async(url: str, seen: list[Any]) -> None:
    async with (
        httpx2.AsyncClient(verify=NO_TLS) as client,
        AsyncEventSource(url, last_event_id="earliest", client=client, retry=0.002) as source,
    ):
        seen.extend([event.json() async for event in source])


def read_sync(url: str, seen: list[Any]) -> None:
    with (
        httpx2.Client(verify=NO_TLS) as client,
        EventSource(url, last_event_id="earliest", client=client, retry=0.002) as source,
    ):
        seen.extend(event.json() for event in source)


@pytest.mark.timeout(180)
def test_10_000_events_through_200_cut_connections_for_each_client(tmp_path: Path) -> None:
    by_async: list[Any] = []
    by_sync: list[Any] = []
    with ExitStack() as stack:
        server = stack.enter_context(Server("uvicorn", "tests.client.apps:app", tmp_path))
        first = stack.enter_context(CuttingProxy(server.port, CUTS, LONGEST, seed=1))
        second = stack.enter_context(CuttingProxy(server.port, CUTS, LONGEST, seed=2))
        threads = stack.enter_context(ThreadPoolExecutor(2))
        readers = [
            threads.submit(lambda: asyncio.run(read_async(f"http://127.0.0.1:{first.port}/numbers", by_async))),
            threads.submit(read_sync, f"http://127.0.0.1:{second.port}/numbers", by_sync),
        ]
        with server.get(f"/numbers?to={EVENTS}", "POST").read_head() as publishing:
            assert publishing.status == 200
        for reader in readers:
            reader.result(150)
        assert (first.cuts, second.cuts) == (CUTS, CUTS)
    assert by_async == list(range(EVENTS))
    assert by_sync == list(range(EVENTS))
