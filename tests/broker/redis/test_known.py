"""What a process knows of the log, whatever order the answers come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.broker.redis.helpers import Feed, draft, opened, until
from tests.broker.redis.proxy import Proxy, passed
from tests.broker.redis_server import RedisServer
from tidings.broker.entry import parse_id
from tidings.broker.redis.known import Known, new_epoch


def known(*learnt: tuple[str, int]) -> tuple[Known, list[str]]:
    """What is known after some answers, each to what was asked when all before were known."""
    found = Known()
    changes: list[str] = []
    found.on_change = changes.append
    for epoch, newest in learnt:
        assert found.learn(epoch, newest, found.epoch)
    return found, changes


def test_an_epoch_is_one_that_ids_may_have() -> None:
    epochs = {new_epoch() for _ in range(100)}
    assert len(epochs) == 100
    for epoch in epochs:
        assert parse_id(f"{epoch}-1") == (epoch, 1)


def test_nothing_is_known_at_first() -> None:
    found, _ = known()
    epoch, newest, another = found.arguments
    assert (epoch, newest) == ("", 0)
    assert another != found.arguments[2]


def test_the_first_epoch_is_no_change() -> None:
    found, changes = known(("a", 5))
    assert (found.epoch, found.newest, changes) == ("a", 5, [])


def test_the_newest_never_goes_back_within_an_epoch() -> None:
    found, changes = known(("a", 5), ("a", 3), ("a", 7), ("a", 6))
    assert (found.newest, changes) == (7, [])


def test_another_epoch_is_told_of_once_and_has_its_own_sequence() -> None:
    found, changes = known(("a", 5), ("b", 2), ("b", 3))
    assert (found.epoch, found.newest, changes) == ("b", 3, ["b"])


def test_a_late_answer_of_an_epoch_that_was_left_is_not_learnt() -> None:
    found, changes = known(("a", 5), ("b", 2))
    assert not found.learn("a", 9, "a")  # asked before b was known
    assert not found.learn("c", 9, "a")
    assert found.learn("b", 4, "a")
    assert (found.epoch, found.newest, changes) == ("b", 4, ["b"])


def test_an_epoch_that_was_left_may_come_back() -> None:
    # A copy from before was restored: it is asked for under the epoch that it replaces.
    found, changes = known(("a", 5), ("b", 2), ("a", 5))
    assert (found.epoch, found.newest, changes) == ("a", 5, ["b", "a"])


# -- with a server ----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_answer_that_was_overtaken_by_the_loss_of_the_log(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace, feed=feed) as storage:
        await storage.append("news", draft("1"))
        before = storage.epoch
        late = asyncio.Event()
        held = asyncio.Event()

        async def hold(data: bytes) -> AsyncIterator[bytes]:
            proxy.answer = passed
            held.set()
            await late.wait()
            yield data

        proxy.answer = hold
        overtaken = asyncio.ensure_future(storage.append("news", draft("2")))
        await held.wait()
        for key in server.client.keys(f"{{{namespace}}}:*"):
            server.client.delete(key)
        page = await storage.read(["news"], 1)  # over another connection
        assert page.epoch == storage.epoch != before
        assert feed.losses == 1
        late.set()
        assert await overtaken == f"{before}-2"
        assert storage.epoch == page.epoch
        assert feed.losses == 1
        assert await storage.append("news", draft("3")) == f"{storage.epoch}-1"


@pytest.mark.anyio
async def test_all_of_one_write_is_of_one_epoch(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        ids = [await storage.append("news", draft(str(n))) for n in range(5)]
        # A replica took over that was behind.
        server.client.hset(f"{{{namespace}}}:log", "newest", 2)
        server.client.delete(f"{{{namespace}}}:channel:news", f"{{{namespace}}}:events:news")
        ids += await asyncio.gather(*(storage.append("news", draft(str(n))) for n in range(50)))
        epochs = [id.partition("-")[0] for id in ids]
        assert set(epochs[:5]) != set(epochs[5:])
        assert set(epochs[5:]) == {storage.epoch}
        assert len(set(ids)) == 55


@pytest.mark.anyio
async def test_the_other_processes_learn_of_an_epoch_by_what_they_are_told(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as reader, opened(server.url, namespace) as writer:
        reader.listen("news")
        await until(lambda: feed.skipped("news"))
        await writer.append("news", draft("1"))
        await until(lambda: feed.texts() == ["1"])
        before = reader.epoch
        server.client.hset(f"{{{namespace}}}:log", "newest", 0)
        server.client.delete(f"{{{namespace}}}:channel:news", f"{{{namespace}}}:events:news")
        await writer.append("news", draft("2"))
        await until(lambda: feed.losses == 1)
        assert reader.epoch == writer.epoch != before
        # The listener begins anew, and what comes then is fed.
        await until(lambda: len(feed.skipped("news")) >= 2)
        await writer.append("news", draft("3"))
        await until(lambda: feed.texts()[-1] == "3")
        assert feed.losses == 1
