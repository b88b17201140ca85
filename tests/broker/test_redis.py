"""The contract on `redis://`, and what is the case there alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count

import pytest
from redis.crc import key_slot

from tests.broker.conftest import Log
from tests.broker.contract import *  # noqa: F403 - the tests of the contract run here, on the log below
from tests.broker.contract.background_elsewhere import *  # noqa: F403 - these too
from tests.broker.contract.reading import burst, data, fill, ids, rest, sequence, take, until
from tests.broker.contract.several_brokers import *  # noqa: F403 - these too
from tests.broker.redis_server import RedisServer
from tidings import Broker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def new_log(server: RedisServer) -> Callable[[], Log]:
    numbers = count(1)
    return lambda: {"url": server.url, "namespace": f"log {next(numbers)}"}


@pytest.fixture(autouse=True)
def short_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let channels that nobody reads any more be dropped soon: some tests wait for it."""
    monkeypatch.setattr("tidings.broker.redis.listener._KEPT", 0.2)


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """Closes at the end what a test opens."""
    async with AsyncExitStack() as stack:
        yield stack


async def never() -> AsyncIterator[int]:
    """A source that gives nothing."""
    await asyncio.Event().wait()
    yield 0


def keys(server: RedisServer, namespace: str) -> set[str]:
    """All keys of a namespace."""
    return {key.decode() for key in server.client.scan_iter() if key.startswith(f"{{{namespace}}}:".encode())}


# -- one server, many logs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["tidings", "with spaces", "a:b", "ä🐟", "*"])
async def test_all_keys_of_a_namespace_are_in_one_slot_of_a_cluster(
    server: RedisServer, log: Log, namespace: str
) -> None:
    log["namespace"] += namespace
    before = set(server.client.keys())
    async with Broker(**log, background_grace=0) as broker:
        for channel in ("news", "{other}", "}", "a:b", "events:news"):
            await fill(broker, channel, [1, 2])
            await broker.finish(channel)
        await broker.start("{chat}", never())
        made = set(server.client.keys()) - before
    made |= set(server.client.keys()) - before
    assert len(made) == 3 + 2 * 5 + 2 + 2  # with what is running and the leases, and the channel that has been ended
    assert len({key_slot(key) for key in made}) == 1


@pytest.mark.parametrize("namespace", ["{", "}", "a{b}c"])
def test_a_namespace_with_braces_is_refused(server: RedisServer, namespace: str) -> None:
    with pytest.raises(ValueError, match="'namespace' must not hold braces"):
        Broker(server.url, namespace=namespace)


async def test_a_namespace_separates_logs(server: RedisServer, log: Log, opened: AsyncExitStack) -> None:
    names = [log["namespace"], log["namespace"] + ":", log["namespace"] + ":channel"]
    brokers = [await opened.enter_async_context(Broker(**log | {"namespace": name})) for name in names]
    starts = [await broker.publish("news", "start") for broker in brokers]
    assert len(set(starts)) == 3
    subscriptions = [
        broker.subscribe("news", last_event_id=start) for broker, start in zip(brokers, starts, strict=True)
    ]
    published = [await fill(broker, "news", range(n + 1)) for n, broker in enumerate(brokers)]
    for subscription, expected in zip(subscriptions, published, strict=True):
        assert ids(await take(subscription, len(expected))) == expected
    await brokers[0].finish("news")
    await brokers[0].publish("another", 1)
    assert await rest(subscriptions[0]) == []
    for broker, subscription in zip(brokers[1:], subscriptions[1:], strict=True):
        later = await broker.publish("news", "later")
        assert ids(await take(subscription, 1)) == [later]
        assert [channel.name for channel in await broker.channels()] == ["news"]
    for broker, other in ((brokers[0], starts[1]), (brokers[1], starts[0])):
        (reset,) = await take(broker.subscribe("news", last_event_id=other), 1)
        assert reset.data["reason"] == "epoch"


async def test_a_database_separates_logs(
    server: RedisServer, log: Log, opened: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    # What a server is told to publish is heard in all of its databases.
    urls = [server.url_as(database=number) for number in (0, 1)]
    one, other = [await opened.enter_async_context(Broker(**log | {"url": url})) for url in urls]
    start, elsewhere = await one.publish("news", "start"), await other.publish("news", "start")
    here, there = one.subscribe("news", last_event_id=start), other.subscribe("news", last_event_id=elsewhere)
    reading = [asyncio.create_task(rest(subscription)) for subscription in (here, there)]
    await until(lambda: subscribed(server, log) == 2, "both listen")
    for number in range(10):
        await fill(other, "news", ["there", number])
        await one.publish("news", number)
    await one.finish("news")
    assert data(await reading[0]) == list(range(10))
    await other.finish("news")
    assert data(await reading[1]) == [event for number in range(10) for event in ("there", number)]
    assert caplog.messages == []


def subscribed(server: RedisServer, log: Log) -> int:
    """How many connections listen to the channels of a log, counted for each channel."""
    names = [name for name in server.client.pubsub_channels() if f"{{{log['namespace']}}}".encode() in name]
    return sum(count for _, count in server.client.pubsub_numsub(*names))


# -- what is kept -----------------------------------------------------------------------------------------------------


async def test_a_stream_holds_no_more_than_the_history(server: RedisServer, log: Log) -> None:
    async with Broker(**log, history=5) as broker:
        await burst(broker, "news", range(40))
        assert server.client.xlen(f"{{{log['namespace']}}}:events:news") == 5


async def test_a_quiet_channels_stream_expires_and_its_marks_stay_right(server: RedisServer, log: Log) -> None:
    async with Broker(**log, max_age=0.2) as broker:
        before = f"{(await broker.last_event_id()).partition('-')[0]}-0"
        first, last = await fill(broker, "news", ["seen", "missed"])
        await until(lambda: not server.client.exists(f"{{{log['namespace']}}}:events:news"), "the stream has expired")
        (listed,) = await broker.channels()
        assert (listed.name, listed.events, listed.size, listed.published) == ("news", 0, 0, 2)
        for seen in (before, first):
            (reset,) = await take(broker.subscribe("news", last_event_id=seen), 1)
            assert reset.data == {"reason": "trimmed", "requested": seen, "oldest": None}
            assert reset.id == last
        subscription = broker.subscribe("news", last_event_id=last)
        later = await broker.publish("news", "later")
        assert ids(await take(subscription, 1)) == [later]  # and no reset: who comes with it has seen all
        (listed,) = await broker.channels()
        assert (listed.events, listed.published, listed.oldest_id) == (1, 3, later)
        (reset, event) = await take(broker.subscribe("news", last_event_id=first), 2)
        assert reset.data == {"reason": "trimmed", "requested": first, "oldest": later}
        assert event.id == later
        assert listed.size == len(event.frame)


async def test_a_stream_without_a_bound_of_age_does_not_expire(server: RedisServer, log: Log) -> None:
    stream = f"{{{log['namespace']}}}:events:news"
    async with Broker(**log, max_age=100) as bounded, Broker(**log, max_age=None) as unbounded:
        await bounded.publish("news", 1)
        assert 90_000 < server.client.pttl(stream) <= 101_000
        await unbounded.publish("news", 2)
        assert server.client.pttl(stream) == -1
        await bounded.publish("news", 3)
        assert server.client.pttl(stream) > 0


async def test_forgetting_folds_the_marks_of_a_channel_and_leaves_nothing_else(server: RedisServer, log: Log) -> None:
    namespace = log["namespace"]
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        seen, last = await fill(broker, "news", ["seen", "missed"])
        await broker.finish("done")
        await until(lambda: keys(server, namespace) == {f"{{{namespace}}}:log"}, "the channels are forgotten")
        assert int(server.client.hget(f"{{{namespace}}}:log", "forgotten")) == sequence(last)
        assert await broker.channels() == []
        newest = await broker.last_event_id()
        for channel, id in (("news", seen), ("never used", seen)):
            (reset,) = await take(broker.subscribe(channel, last_event_id=id), 1)
            assert (reset.data["reason"], reset.id) == ("trimmed", newest)
        subscription = broker.subscribe("news", last_event_id=newest)
        later = await broker.publish("news", "later")
        assert ids(await take(subscription, 1)) == [later]
        (reset, event) = await take(broker.subscribe("news", last_event_id=seen), 2)
        assert (reset.data["reason"], event.id) == ("trimmed", later)


async def test_a_channel_in_use_is_not_forgotten(server: RedisServer, log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.4) as broker:
        await broker.publish("idle", 0)
        idle, published = f"{{{log['namespace']}}}:channel:idle", 0
        while server.client.exists(idle):
            last = await broker.publish("busy", 1)
            published += 1
            await asyncio.sleep(0.02)
        (listed,) = await broker.channels()
        assert (listed.name, listed.published) == ("busy", published)
        subscription = broker.subscribe("busy", last_event_id=last)
        later = await broker.publish("busy", 2)
        assert ids(await take(subscription, 1)) == [later]


async def test_a_process_with_a_shorter_history_shows_less_and_drops_what_is_too_much_for_it(
    server: RedisServer, log: Log
) -> None:
    stream = f"{{{log['namespace']}}}:events:news"
    async with Broker(**log, history=1_000) as long, Broker(**log, history=3) as short:
        published = [await long.publish("news", n) for n in range(10)]
        first = published[0]
        assert ids(await take(long.subscribe("news", last_event_id=first), 9)) == published[1:]
        assert ids(await take(short.subscribe("news", last_event_id="earliest"), 3)) == published[-3:]
        reset, *events = await take(short.subscribe("news", last_event_id=first), 4)
        assert reset.data == {"reason": "trimmed", "requested": first, "oldest": published[-3]}
        assert ids(events) == published[-3:]
        (listed,) = await short.channels()
        assert (listed.events, listed.oldest_id, listed.published) == (3, published[-3], 10)
        assert (await long.channels())[0].events == 10

        published.append(await short.publish("news", 10))
        assert server.client.xlen(stream) == 3
        for broker in (long, short):
            reset, *events = await take(broker.subscribe("news", last_event_id=first), 4)
            assert reset.data == {"reason": "trimmed", "requested": first, "oldest": published[-3]}
            assert ids(events) == published[-3:]
        assert server.client.hget(f"{{{log['namespace']}}}:channel:news", "size") == (
            b"%d" % (await long.channels())[0].size
        )


async def test_a_shorter_history_drops_very_many_in_several_steps(server: RedisServer, log: Log) -> None:
    stream = f"{{{log['namespace']}}}:events:news"
    async with Broker(**log, history=1_000) as long, Broker(**log, history=3) as short:
        stored = await burst(long, "news", range(700))
        lengths = []
        for number in range(700, 705):
            stored.append(number)
            await short.publish("news", number)
            lengths.append(server.client.xlen(stream))
            assert data(await take(short.subscribe("news", last_event_id="earliest"), 3)) == stored[-3:]
        assert lengths == [500, 300, 100, 3, 3]  # 200 more than it adds
        assert data(await take(long.subscribe("news", last_event_id="earliest"), 3)) == stored[-3:]


async def test_a_shorter_age_in_one_process_hides_from_it_alone_what_is_older(log: Log) -> None:
    async with Broker(**log, max_age=60) as long, Broker(**log, max_age=0.3) as short:
        first, second = await fill(long, "news", ["old", "older than the other shows"])
        await asyncio.sleep(0.3)
        younger = await long.publish("news", "young")
        assert ids(await take(long.subscribe("news", last_event_id=first), 2)) == [second, younger]
        reset, event = await take(short.subscribe("news", last_event_id=first), 2)
        assert (reset.data["reason"], event.id) == ("trimmed", younger)


# -- listing ----------------------------------------------------------------------------------------------------------


async def test_very_many_channels_are_listed_in_order_though_the_server_gives_few_at_a_time(log: Log) -> None:
    names = [f"channel {number:03}" for number in range(250)] + ["ä", "🐟", "\uffff", "{x}", "*"]
    async with Broker(**log) as broker:
        await asyncio.gather(*(broker.publish(name, 1) for name in names))
        listed = await broker.channels(limit=1_000)
        assert [channel.name for channel in listed] == sorted(names)
        assert {channel.events for channel in listed} == {1}
        assert [channel.name for channel in await broker.channels(after="channel 099", limit=120)] == [
            f"channel {number:03}" for number in range(100, 220)
        ]


async def test_a_listed_size_is_that_of_the_frames(server: RedisServer, log: Log) -> None:
    stream = f"{{{log['namespace']}}}:events:news"
    async with Broker(**log, history=4) as broker:
        for size in (10, 1_000, 20, 30_000, 5, 400):
            await broker.publish("news", "x" * size)
            shown = await take(broker.subscribe("news", last_event_id="earliest"), server.client.xlen(stream))
            assert (await broker.channels())[0].size == sum(len(event.frame) for event in shown)


async def test_the_time_of_an_event_is_the_servers(log: Log) -> None:
    async with Broker(**log) as broker:
        before = time.time()
        await broker.publish("news", 1)
        (listed,) = await broker.channels()
        assert listed.newest_at is not None
        assert before - 0.01 < listed.newest_at.timestamp() < time.time() + 0.01
