"""`tidings publish` and `tidings channels` on a server."""

from __future__ import annotations

import asyncio
import json
import time

from tests.broker.redis_server import RedisServer
from tests.cli.command import run
from tests.servers.servers import free_port
from tidings import Broker


async def received(url: str, namespace: str, channel: str) -> list[tuple[str, object]]:
    async with Broker(url, namespace=namespace) as broker:
        return [(event.id, event.data) async for event in broker.subscribe(channel, last_event_id="earliest")]


def test_what_is_published_is_in_the_namespace_that_is_named(server: RedisServer, namespace: str) -> None:
    options = ("--namespace", namespace)
    published = run("publish", server.url, "news", "--json", "--finish", *options, input='1\n{"a": 2}\n')
    assert (published.returncode, published.stderr) == (0, "")
    ids = published.stdout.split()
    assert asyncio.run(received(server.url, namespace, "news")) == [(ids[0], 1), (ids[1], {"a": 2})]
    listed = run("channels", server.url, "--json", *options)
    (channel,) = map(json.loads, listed.stdout.splitlines())
    assert (channel["channel"], channel["events"], channel["finished"]) == ("news", 2, True)
    assert channel["newest"]["id"] == ids[1]
    assert run("channels", server.url, "--json", "--namespace", f"{namespace}-other").stdout == ""


def test_the_namespace_is_that_of_brokers_if_none_is_named(server: RedisServer) -> None:
    published = run("publish", server.url, "news", "x", "--finish")
    assert asyncio.run(received(server.url, "tidings", "news")) == [(published.stdout.strip(), "x")]


def test_a_command_drops_nothing_that_is_kept(server: RedisServer, namespace: str) -> None:
    async def fill() -> None:
        async with Broker(server.url, namespace=namespace, history=20) as broker:
            for number in range(20):
                await broker.publish("news", number)

    asyncio.run(fill())
    for _ in range(2):
        assert run("publish", server.url, "news", "more", "--namespace", namespace).returncode == 0
    assert server.client.xlen(f"{{{namespace}}}:events:news") == 22


def test_a_server_that_is_away_ends_a_command_in_time() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    for command in (("publish", url, "news", "x"), ("channels", url)):
        begin = time.monotonic()
        result = run(*command)
        assert time.monotonic() - begin < 30
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"tidings: {url} can't be read: ConnectionError")


def test_a_namespace_that_is_none_is_refused(server: RedisServer) -> None:
    for namespace in ("", "a{b}"):
        result = run("channels", server.url, "--namespace", namespace)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("tidings: --namespace must not ")
