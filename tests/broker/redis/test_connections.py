"""How many connections a process has, what they are for, and that nothing is asked while nothing happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.broker.redis.helpers import Feed, draft, nothing_left_behind, opened, until
from tests.broker.redis_server import RedisServer
from tidings import Broker
from tidings.broker.redis import RedisStorage
from tidings.broker.storage import Retention
from tidings.errors import PublishError, StorageError, TidingsError

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(own_server: Callable[..., RedisServer]) -> RedisServer:
    """With nobody else's connections."""
    return own_server()


def kinds(server: RedisServer) -> Counter[str]:
    """The connections of others: those that listen, and those for commands."""
    own = server.client.client_id()
    found = [client for client in server.client.client_list() if int(client["id"]) != own]
    return Counter("listens" if int(client["sub"]) else "commands" for client in found)


def commands(server: RedisServer) -> Counter[str]:
    """How often each was called, but for those that tests look with."""
    stats = server.client.info("commandstats")
    ours = ("info", "client", "pubsub", "hello", "auth")
    return Counter(
        {
            name.removeprefix("cmdstat_"): int(found["calls"])
            for name, found in stats.items()
            if not name[8:].startswith(ours)
        }
    )


async def test_one_connection_to_listen_and_four_for_commands_whatever_happens(
    server: RedisServer, namespace: str
) -> None:
    seen: list[Counter[str]] = []
    async with Broker(server.url, namespace=namespace) as broker, AsyncExitStack() as stack:
        channels = [f"channel{n}" for n in range(300)]
        subscriptions = [
            await stack.enter_async_context(
                broker.subscribe(*channels[n % 300 : n % 300 + 3], last_event_id="earliest")
            )
            for n in range(600)
        ]
        readers = [asyncio.ensure_future(anext(subscription)) for subscription in subscriptions]
        await until(lambda: kinds(server)["listens"] == 1)

        async def look() -> None:
            while True:
                seen.append(kinds(server))
                await asyncio.sleep(0.01)

        looking = asyncio.ensure_future(look())
        work = [broker.publish(channels[n % 300], n) for n in range(900)]
        work += [broker.channels() for _ in range(50)]  # type: ignore[misc]
        work += [broker.last_event_id() for _ in range(50)]
        await asyncio.gather(*work)
        await asyncio.gather(*readers)
        looking.cancel()
    assert len(seen) >= 2
    assert {count["listens"] for count in seen} == {1}
    assert max(count["commands"] for count in seen) <= 4


async def test_without_a_reader_there_is_no_connection_to_listen(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.append("news", draft("1"))
        assert kinds(server) == {"commands": 1}


async def test_nothing_is_asked_while_nothing_happens(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, Retention(100, 3_600.0, 86_400.0), feed=feed) as storage:
        for number in range(50):
            storage.listen(f"channel{number}")
        await until(lambda: len(feed.skips) == 50)
        await storage.append("channel0", draft("1"))
        await until(lambda: feed.texts() == ["1"])
        before = commands(server)
        assert before["evalsha"] >= 2
        await asyncio.sleep(1.0)  # a while in which nothing is to happen
        assert commands(server) == before


async def test_what_is_fed_costs_nothing_but_the_publish(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage, opened(server.url, namespace) as other:
        storage.listen("news")
        await until(lambda: feed.skips)
        await other.append("news", draft("the script is known"))
        await until(lambda: feed.entries)
        before = commands(server)
        for number in range(20):
            await other.append("news", draft(str(number)))
        await until(lambda: len(feed.entries) == 21)
        asked = commands(server) - before
        assert asked["evalsha"] == 20
        assert set(asked) - {"evalsha"} <= {"hmget", "hset", "hincrby", "xadd", "xlen", "xrange", "xtrim", "exists"} | {
            *("zadd", "publish", "persist", "pexpire", "time")
        }


async def test_opening_and_closing_leaves_nothing_behind(server: RedisServer, namespace: str) -> None:
    with nothing_left_behind(server):
        for _ in range(5):
            feed = Feed()
            async with opened(server.url, namespace, Retention(10, 60.0, 60.0), feed=feed) as storage:
                storage.listen("news")
                storage.listen("other")
                await storage.append("news", draft("1"))
                await until(lambda feed=feed: feed.skipped("news"))  # type: ignore[misc]
                storage.unlisten("other")


async def test_closing_in_the_middle_of_everything_leaves_nothing_behind(server: RedisServer, namespace: str) -> None:
    with nothing_left_behind(server):
        for turns in range(12):
            async with opened(server.url, namespace) as storage:
                storage.listen("news")
                calls = [asyncio.ensure_future(storage.read(["news"], 0)) for _ in range(10)]
                calls += [asyncio.ensure_future(storage.append("news", draft("x"))) for _ in range(10)]  # type: ignore[misc]
                calls += [asyncio.ensure_future(storage.channels("", 10)) for _ in range(10)]  # type: ignore[misc]
                for _ in range(turns):
                    await asyncio.sleep(0)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            for outcome in outcomes:
                assert not isinstance(outcome, BaseException) or isinstance(outcome, TidingsError), outcome


@pytest.mark.parametrize("turns", range(1, 13))
async def test_closing_that_is_cancelled_leaves_nothing_behind(server: RedisServer, namespace: str, turns: int) -> None:
    storage = RedisStorage(server.url, Retention(100, None, 10.0), namespace=namespace, timeout=5.0)
    with nothing_left_behind(server):
        await storage.open(Feed())
        storage.listen("news")
        calls = [asyncio.ensure_future(storage.append("news", draft(str(n)))) for n in range(5)]
        calls += [asyncio.ensure_future(storage.read(["news"], 0)) for _ in range(5)]  # type: ignore[arg-type]
        closing = asyncio.ensure_future(storage.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, *calls])
        assert all(call.exception() is None or isinstance(call.exception(), TidingsError) for call in calls)


async def test_closing_at_a_server_that_does_not_answer_can_be_cancelled(server: RedisServer, namespace: str) -> None:
    storage = RedisStorage(server.url, Retention(100, None, None), namespace=namespace, timeout=None)
    with nothing_left_behind(server):
        await storage.open(Feed())
        await storage.append("news", draft("0"))
        with server.stopped():
            appending = asyncio.ensure_future(storage.append("news", draft("1")))
            closing = asyncio.ensure_future(storage.close())
            await asyncio.wait([closing], timeout=0.1)
            assert not closing.done()  # it waits for the event to be stored
            closing.cancel()
            await asyncio.wait([closing])
            with pytest.raises(PublishError, match="closed; the event may or may not be stored"):
                await appending


async def test_a_call_that_is_cancelled_gives_its_connection_back(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        for turns in range(40):
            calls = [asyncio.ensure_future(storage.read(["news"], 0)) for _ in range(8)]
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        pages = await asyncio.gather(*(storage.read(["news"], 0) for _ in range(20)))
        assert {page.newest for page in pages} == {0}
        assert kinds(server)["commands"] <= 4


async def test_opening_at_a_server_that_is_away_leaves_nothing_behind(server: RedisServer, namespace: str) -> None:
    server.kill()
    with nothing_left_behind():
        storage = RedisStorage(server.url, Retention(10, 60.0, 60.0), namespace=namespace, timeout=1.0)
        with pytest.raises(StorageError, match=server.url):
            await storage.open(Feed())
    await asyncio.to_thread(server.start)
    await storage.open(Feed())
    await storage.append("news", draft("1"))
    await storage.close()
