"""What a process hears of: what it is subscribed to, from where on, and what happens when something is missing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.broker.redis.helpers import KEEP_ALL, PATIENCE, Feed, draft, everything, nothing_left_behind, opened, until
from tests.broker.redis.proxy import Cut, Proxy, passed
from tests.broker.redis_server import RedisServer
from tidings import Broker
from tidings.broker.entry import Draft, Entry, Kind
from tidings.broker.redis import RedisStorage, listener
from tidings.broker.redis.keys import Keys
from tidings.errors import StorageError

pytestmark = pytest.mark.anyio


def subscribed(server: RedisServer, namespace: str) -> set[str]:
    """The channels that somebody listens to."""
    keys = Keys(namespace, 0)
    prefix = keys.state("").encode()
    return {keys.channel(topic) for topic in server.client.pubsub_channels() if topic.startswith(prefix)}


def listeners(server: RedisServer, namespace: str, channel: str) -> int:
    ((_, count),) = server.client.pubsub_numsub(Keys(namespace, 0).topic(channel))
    return int(count)


async def hears(storage: RedisStorage, feed: Feed, *channels: str) -> None:
    """Listen to channels, and wait until everything in them is fed."""
    for channel in channels:
        before = len(feed.skipped(channel))
        if storage.listen(channel) is None:
            await until(lambda channel=channel, before=before: len(feed.skipped(channel)) > before)  # type: ignore[misc]


# -- what it is subscribed to -----------------------------------------------------------------------------------------


async def test_the_server_is_told_of_the_first_reader_of_a_channel_alone(server: RedisServer, namespace: str) -> None:
    async with Broker(server.url, namespace=namespace) as broker:
        readers = [asyncio.ensure_future(anext(broker.subscribe("a", "b"))) for _ in range(20)]
        await until(lambda: subscribed(server, namespace) == {"a", "b"})
        assert listeners(server, namespace, "a") == 1
        readers += [asyncio.ensure_future(anext(broker.subscribe("b", "c"))) for _ in range(20)]
        await until(lambda: subscribed(server, namespace) == {"a", "b", "c"})
        assert listeners(server, namespace, "b") == 1
        await broker.publish("b", 1)
        assert {event.data for event in await asyncio.gather(*readers)} == {1}
    await until(lambda: subscribed(server, namespace) == set())


async def test_a_channel_is_dropped_a_little_after_its_last_reader(
    server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_KEPT", 0.3)
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "a", "b")
        begin = time.monotonic()
        storage.unlisten("a")
        await until(lambda: subscribed(server, namespace) == {"b"})
        assert time.monotonic() - begin >= 0.3
        await storage.append("a", draft("1"))
        await storage.append("b", draft("2"))
        await until(lambda: feed.texts("b") == ["2"])
        assert feed.texts("a") == []
        storage.unlisten("b")
        await until(lambda: subscribed(server, namespace) == set())
        # And back again.
        assert storage.listen("a") is None
        await until(lambda: feed.skipped("a")[1:])
        await storage.append("a", draft("3"))
        await until(lambda: feed.texts("a") == ["3"])


async def test_who_comes_back_in_that_time_misses_nothing(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "news")
        for number in range(20):
            storage.unlisten("news")
            id = await storage.append("news", draft(str(number)))
            position = storage.listen("news")
            # What it isn't told of, it finds in the log: behind its position it is fed.
            assert position is not None
            fed = [entry.sequence for entry in feed.entries]
            page = await storage.read(["news"], 0)
            stored = [entry.sequence for entry in page.entries]
            assert int(id.partition("-")[2]) in stored
            assert [sequence for sequence in stored if sequence <= position] == fed
        await until(lambda: len(feed.entries) == 20)
        assert feed.texts() == [str(number) for number in range(20)]
        assert len(feed.skips) == 1


async def test_no_timer_is_left_when_it_is_closed(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    with nothing_left_behind(server):
        async with opened(server.url, namespace, feed=feed) as storage:
            await hears(storage, feed, "a", "b")
            storage.unlisten("a")
            assert storage._open is not None
            (timer,) = storage._open.listener._leaving.values()
        assert timer.cancelled()


async def test_thousands_of_channels_are_subscribed_and_dropped(
    server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_KEPT", 0.05)
    feed = Feed()
    channels = [f"channel{n}" for n in range(2_500)]
    async with opened(server.url, namespace, feed=feed) as storage, opened(server.url, namespace) as other:
        for channel in channels:
            storage.listen(channel)
        await until(lambda: len(feed.skips) == 2_500)
        assert len(subscribed(server, namespace)) == 2_500
        for channel in channels[::100]:
            await other.append(channel, draft(channel))
        await until(lambda: feed.texts() == channels[::100])
        for channel in channels[1:]:
            storage.unlisten(channel)
        await until(lambda: subscribed(server, namespace) == {"channel0"})


async def test_readers_that_keep_coming_do_not_keep_the_first_one_waiting(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace, feed=feed) as storage:

        async def slowly(data: bytes) -> AsyncIterator[bytes]:
            await asyncio.sleep(0.01)  # the server is far away
            yield data

        proxy.answer = slowly
        storage.listen("first")

        async def come() -> None:
            for number in range(3_000):
                storage.listen(f"other{number}")
                await asyncio.sleep(0.002)

        coming = asyncio.ensure_future(come())
        await until(lambda: feed.skipped("first"), timeout=10)
        assert not coming.done()
        coming.cancel()


# -- from where on ----------------------------------------------------------------------------------------------------


async def test_what_is_behind_the_skip_is_fed_and_what_is_before_it_is_in_the_log(
    server: RedisServer, namespace: str
) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage, opened(server.url, namespace) as other:
        going = True

        async def publish() -> int:
            count = 0
            while going:
                await other.append(f"channel{count % 5}", draft(str(count)))
                count += 1
            return count

        publishing = asyncio.ensure_future(publish())
        channels = [f"channel{n}" for n in range(5)]
        for channel in channels:
            await hears(storage, feed, channel)
            await asyncio.sleep(0.02)
        going = False
        assert await publishing > 5
        entries = await everything(other, *channels)
        stored = {channel: [e.sequence for e in entries if e.channel == channel] for channel in channels}
        for channel in channels:
            (position,) = feed.skipped(channel)
            expected = [sequence for sequence in stored[channel] if sequence > position]

            def fed(channel: str = channel) -> list[int]:
                return [entry.sequence for entry in feed.entries if entry.channel == channel]

            await until(lambda fed=fed, expected=expected: len(fed()) == len(expected))  # type: ignore[misc]
            assert fed() == expected


async def test_what_is_fed_is_what_is_stored(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    any_byte = bytes(set(range(256)) - {10, 13})
    name = "*[a] {b} 🚋\u2028"
    async with opened(server.url, namespace, feed=feed) as storage, opened(server.url, namespace) as other:
        await hears(storage, feed, name)
        await other.append(name, Draft(Kind.JSON, b": \0\xff\ndata: " + any_byte + b"\n", b"retry: 5\n\n"))
        await other.append(name, draft("x" * 1_000_000))
        await other.append(name, Draft(Kind.CONTROL, b"event: reset\ndata: {}\n", b"\n"))
        await until(lambda: len(feed.entries) == 3)
        assert feed.entries == await everything(storage, name)
        await other.finish(name)
        await until(lambda: len(feed.entries) == 4)
        assert feed.entries[-1] == Entry(4, name, Kind.FINISH, feed.entries[-1].at, b"")


# -- when something is missing ----------------------------------------------------------------------------------------


def without(text: bytes, proxy: Proxy) -> Callable[[bytes], AsyncIterator[bytes]]:
    """Leave out the notification of an event; the rest goes on."""

    async def leave_out(data: bytes) -> AsyncIterator[bytes]:
        if b"$7\r\nmessage\r\n" in data and text in data:
            assert data.count(b"$7\r\nmessage\r\n") == 1
            proxy.answer = passed
        else:
            yield data

    return leave_out


async def test_a_notification_that_is_lost_is_noticed_by_the_next_one(
    server: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed()
    async with (
        Proxy(server.port) as proxy,
        opened(proxy.url, namespace, feed=feed) as storage,
        opened(server.url, namespace) as other,
    ):
        await hears(storage, feed, "news", "other")
        await other.append("news", draft("first"))
        await until(lambda: feed.texts() == ["first"])
        proxy.answer = without(b"the lost one", proxy)
        await other.append("news", draft("the lost one"))
        await until(lambda: proxy.answer is passed)
        await other.append("other", draft("nothing is missing here"))
        await until(lambda: feed.texts("other") == ["nothing is missing here"])
        assert not feed.misses
        await other.append("news", draft("third"))
        await until(lambda: feed.misses)
        assert feed.misses == [("news", 1, 2)]
        await until(lambda: feed.texts("news") == ["first", "third"])  # the other is to be looked up
        await other.append("news", draft("fourth"))
        await until(lambda: feed.texts("news") == ["first", "third", "fourth"])
        assert len(feed.skips) == 2  # the connection is the same
        assert [record.getMessage() for record in caplog.records] == [
            f"{proxy.url}: a notification is lost: 'news' has events behind 1 that nobody told of"
        ]


async def test_subscribers_get_what_nobody_was_told_of(server: RedisServer, namespace: str) -> None:
    async with (
        Proxy(server.port) as proxy,
        Broker(proxy.url, namespace=namespace) as broker,
        Broker(server.url, namespace=namespace) as other,
        broker.subscribe("news") as subscription,
    ):
        first = asyncio.ensure_future(anext(subscription))
        await until(lambda: subscribed(server, namespace) == {"news"})
        await other.publish("news", raw_data="first")
        assert (await first).data == "first"
        proxy.answer = without(b"the lost one", proxy)
        await other.publish("news", raw_data="the lost one")
        await until(lambda: proxy.answer is passed)
        await other.publish("news", raw_data="third")
        assert [(await anext(subscription)).data for _ in range(2)] == ["the lost one", "third"]


async def test_who_passed_by_what_nobody_was_told_of_is_reset_and_gets_it(server: RedisServer, namespace: str) -> None:
    async with (
        Proxy(server.port) as proxy,
        Broker(proxy.url, namespace=namespace) as broker,
        Broker(server.url, namespace=namespace) as other,
        broker.subscribe("news", "other") as subscription,
    ):
        event = asyncio.ensure_future(anext(subscription))
        await until(lambda: subscribed(server, namespace) == {"news", "other"})
        for _ in range(3):
            first = await other.publish("news", raw_data="first")
            assert (await event).id == first
            proxy.answer = without(b"the lost one", proxy)
            lost = await other.publish("news", raw_data="the lost one")
            await until(lambda: proxy.answer is passed)
            passed_by = await other.publish("other", raw_data="second")
            assert (await anext(subscription)).id == passed_by
            third = await other.publish("news", raw_data="third")
            reset = await anext(subscription)
            assert reset.control
            assert reset.data == {"reason": "trimmed", "requested": passed_by, "oldest": lost}
            assert reset.id == first
            assert [(await anext(subscription)).id for _ in range(3)] == [lost, passed_by, third]
            event = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
        event.cancel()


async def test_who_has_read_what_nobody_was_told_of_is_not_reset(server: RedisServer, namespace: str) -> None:
    async with (
        Proxy(server.port) as proxy,
        Broker(proxy.url, namespace=namespace) as broker,
        Broker(server.url, namespace=namespace) as other,
        broker.subscribe("news", "other") as first,
    ):
        event = asyncio.ensure_future(anext(first))
        await until(lambda: subscribed(server, namespace) == {"news", "other"})
        start = await other.publish("news", raw_data="first")
        assert (await event).id == start
        proxy.answer = without(b"the lost one", proxy)
        lost = await other.publish("news", raw_data="the lost one")
        await until(lambda: proxy.answer is passed)
        async with (
            broker.subscribe("news", "other", last_event_id=start) as resumed,
            broker.subscribe("news", "other", last_event_id=lost) as behind,
        ):
            assert (await anext(resumed)).id == lost
            second = await other.publish("other", raw_data="second")
            for subscription in (first, resumed, behind):
                assert (await anext(subscription)).id == second
            third = await other.publish("news", raw_data="third")
            for subscription in (resumed, behind):
                assert (await anext(subscription)).id == third
            assert (await anext(first)).control


async def test_a_connection_that_is_lost_is_made_again(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "a", "b")
        for turn in range(1, 4):
            assert server.client.client_kill_filter(_type="pubsub") == 1
            await until(lambda turn=turn: len(feed.skips) == 2 + 2 * turn)  # type: ignore[misc]
            assert subscribed(server, namespace) == {"a", "b"}
            await storage.append("a", draft(str(turn)))
            await until(lambda turn=turn: feed.texts()[-1:] == [str(turn)])  # type: ignore[misc]


async def test_a_log_that_is_lost_again_after_it_was_while_the_connection_was_made(
    server: RedisServer, namespace: str
) -> None:
    feed = Feed()
    async with (
        Proxy(server.port) as proxy,
        opened(proxy.url, namespace, feed=feed) as storage,
        opened(server.url, namespace) as other,
    ):
        await storage.append("news", draft("first"))
        await hears(storage, feed, "news")
        connecting, going_on = asyncio.Event(), asyncio.Event()

        async def hold_who_comes(data: bytes) -> AsyncIterator[bytes]:
            if b"SETINFO" in data:
                connecting.set()
                await going_on.wait()
            yield data

        def lose() -> None:
            server.client.delete(*server.client.keys(f"{{{namespace}}}*"))

        proxy.request = hold_who_comes
        assert server.client.client_kill_filter(_type="pubsub") == 1
        await connecting.wait()
        lose()
        await storage.read((), None)
        assert feed.losses == 1
        skips = len(feed.skips)
        going_on.set()
        await until(lambda: len(feed.skips) > skips)
        lose()
        await other.append("news", draft("another"))
        await until(lambda: feed.losses == 2)
        assert storage.epoch == other.epoch


async def test_closing_in_the_moment_in_which_the_connection_is_lost(server: RedisServer, namespace: str) -> None:
    with nothing_left_behind(server):
        for turns in range(10):
            feed = Feed()
            storage = RedisStorage(server.url, KEEP_ALL, namespace=namespace, timeout=PATIENCE)
            await storage.open(feed)
            await hears(storage, feed, "news")
            assert server.client.client_kill_filter(_type="pubsub") == 1
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE / 3):
                await storage.close()


async def test_closing_while_the_connection_is_made_again(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    with nothing_left_behind():
        storages = []
        for _ in range(10):
            feed = Feed()
            storages.append(RedisStorage(server.url, KEEP_ALL, namespace=namespace, timeout=PATIENCE))
            await storages[-1].open(feed)
            await hears(storages[-1], feed, "news")
        server.kill()
        for storage in storages:
            await asyncio.sleep(0.013)
            async with asyncio.timeout(PATIENCE / 3):
                await storage.close()


async def test_a_loss_is_logged_once(
    own_server: Callable[..., RedisServer], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server()
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "news")
        with caplog.at_level(logging.DEBUG, "tidings.broker"):
            server.kill()
            await until(lambda: len(caplog.records) >= 4)
            levels = [record.levelno for record in caplog.records]
            assert levels[0] == logging.WARNING
            assert set(levels[1:]) == {logging.DEBUG}
            assert server.url in caplog.records[0].getMessage()
        await asyncio.to_thread(server.start)
        await until(lambda: len(feed.skips) == 2)


async def test_what_a_stranger_says_does_no_harm(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "news")
        for nonsense in (b"", b"hello", b"\n", b"a b c d e f\n", b"\xff\xfe", b"1 2 3 4 5\nx"):
            before = len(feed.skips)
            assert server.client.publish(Keys(namespace, 0).topic("news"), nonsense) == 1
            await until(lambda before=before: len(feed.skips) > before)  # type: ignore[misc]
        await storage.append("news", draft("1"))
        await until(lambda: feed.texts() == ["1"])


async def test_a_subscription_whose_beginning_cannot_be_read_is_tried_again(
    server: RedisServer, namespace: str
) -> None:
    feed = Feed()
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace, feed=feed) as storage:
        failed = 0

        async def fail(data: bytes) -> AsyncIterator[bytes]:
            nonlocal failed
            if data.startswith(b"*4\r\n") and failed < 3:  # a page
                failed += 1
                raise Cut
            yield data

        proxy.answer = fail
        storage.listen("news")
        await until(lambda: feed.skips)
        assert failed == 3
        await storage.append("news", draft("1"))
        await until(lambda: feed.texts() == ["1"])


async def test_when_the_log_can_be_read_again_everybody_is_told_to_look(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace, feed=feed) as storage:
        storage.listen("news")
        await until(lambda: feed.skipped("news"))
        await storage.append("news", draft("1"))
        await until(lambda: feed.texts() == ["1"])

        async def cut_once(_data: bytes) -> AsyncIterator[bytes]:
            proxy.answer = passed
            raise Cut  # the connection of a command; the one for notifications stays
            yield

        for question in (storage.leases, lambda: storage.run_of("news"), lambda: storage.channels("", 10)):
            proxy.answer = cut_once
            with pytest.raises(StorageError):
                await question()
        await storage.append("news", draft("2"))
        await until(lambda: feed.texts() == ["1", "2"])
        assert len(feed.skips) == 1  # nobody's page was affected
        proxy.answer = cut_once
        with pytest.raises(StorageError) as failure:
            await storage.read(["news"], 0)
        assert failure.value.temporary
        await until(lambda: len(feed.skips) == 2)


async def test_a_connection_that_says_nothing_is_given_up(
    own_server: Callable[..., RedisServer], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_SILENCE", 0.2)
    server = own_server()
    feed = Feed()
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "news")
        await asyncio.sleep(1.0)  # it is asked whether it is there, and it is
        assert len(feed.skips) == 1
        connected = proxy.connected
        silent: list[bytes] = []

        async def swallow(data: bytes) -> AsyncIterator[bytes]:
            silent.append(data)
            if proxy.connected > connected:
                yield data

        proxy.answer = swallow
        await until(lambda: len(feed.skips) == 2)
        assert proxy.connected > connected
        assert silent


async def test_while_it_hears_something_nobody_is_asked(
    server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_SILENCE", 1.0)
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        await hears(storage, feed, "news")
        before = server.client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            await storage.append("news", draft("x"))
            await asyncio.sleep(0.02)
        assert server.client.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"] == before
