"""The list of channels: all of them once, by name, with what is retained of each."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from tests.asgi import PATIENCE
from tests.broker.conftest import Log
from tests.broker.contract.reading import burst, fill, ids, take, until_past
from tidings import Broker
from tidings.broker import ChannelInfo
from tidings.errors import BrokerClosed


def size(*events: str) -> int:
    """The bytes of events with these ids, each of them the number 1."""
    return sum(len(f"data: 1\nid: {id}\n\n") for id in events)


async def the_only(broker: Broker) -> ChannelInfo:
    (channel,) = await broker.channels()
    return channel


async def test_where_nothing_was_published_there_is_no_channel(broker: Broker) -> None:
    assert await broker.channels() == []
    async with broker.subscribe("news", last_event_id="earliest"):
        assert await broker.channels() == []


async def test_a_channel_is_listed_with_what_is_retained_of_it(broker: Broker) -> None:
    before = time.time()
    published = await fill(broker, "news", [1, 1])
    middle = time.time()
    published += await fill(broker, "news", [1])
    channel = await the_only(broker)
    assert (channel.name, channel.events, channel.published, channel.finished) == ("news", 3, 3, False)
    assert channel.size == size(*published)
    assert (channel.oldest_id, channel.newest_id) == (published[0], published[-1])
    assert channel.oldest_at is not None
    assert channel.newest_at is not None
    assert channel.oldest_at.utcoffset() is not None
    # A microsecond: what a datetime can't tell.
    assert before - 1e-3 <= channel.oldest_at.timestamp() <= middle + 1e-3
    assert middle - 1e-3 <= channel.newest_at.timestamp() <= time.time() + 1e-3


@pytest.mark.parametrize("history", [0, 1, 3, 250])
async def test_no_more_is_counted_than_is_shown(log: Log, history: int) -> None:
    async with Broker(**log, history=history) as broker:
        await burst(broker, "news", [1] * 700)
        published = await fill(broker, "news", [1, 1, 1])
        channel = await the_only(broker)
        assert (channel.events, channel.published) == (history, 703)
        if history == 0:
            assert (channel.size, channel.oldest_id, channel.newest_at) == (0, None, None)
            return
        shown = ids(await take(broker.subscribe("news", last_event_id="earliest"), history))
        assert (channel.oldest_id, channel.newest_id) == (shown[0], published[-1])
        assert channel.size == size(*shown)


async def test_what_has_aged_out_is_not_counted(log: Log) -> None:
    async with Broker(**log, max_age=0.5) as broker:
        await fill(broker, "news", [1, 1])
        await fill(broker, "old", [1])
        await until_past(time.time() + 0.5)
        seen = await broker.publish("news", 1)
        news, old = await broker.channels()
        assert (news.events, news.size, news.published) == (1, size(seen), 3)
        assert (news.oldest_id, news.newest_id) == (seen, seen)
        assert old == ChannelInfo("old", 0, 0, 1, finished=False)


async def test_a_forgotten_channel_is_not_listed_and_counts_anew(log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        await fill(broker, "news", [1, 1])
        async with asyncio.timeout(PATIENCE):
            while await broker.channels():
                await asyncio.sleep(0.02)
        await broker.publish("news", 1)
        assert (await the_only(broker)).published == 1


async def test_a_finished_channel_is_told_until_it_is_opened_again(broker: Broker) -> None:
    await broker.finish("never used")
    (first,) = await fill(broker, "news", [1])
    await broker.finish("news")
    never_used, news = await broker.channels()
    assert never_used == ChannelInfo("never used", 0, 0, 0, finished=True)
    assert (news.finished, news.events, news.newest_id) == (True, 1, first)
    (second,) = await fill(broker, "news", [1])
    _, news = await broker.channels()
    assert (news.finished, news.events, news.published, news.size) == (False, 2, 2, size(first, second))


async def test_channels_come_in_the_order_of_their_names_page_by_page(broker: Broker) -> None:
    names = ["a", "B", "a/b", "a b", "%", "*", "'", '"', "é", "\U0001f642", "\uffee", "ß", "z", "10", "9"]
    names += [f"user/{number}" for number in range(250)]
    random.Random(7).shuffle(names)
    await asyncio.gather(*(broker.publish(name, 1) for name in names))
    expected = sorted(names)
    assert [channel.name for channel in await broker.channels()] == expected[:100]
    assert [channel.name for channel in await broker.channels(limit=1_000)] == expected
    for limit in (1, 7, 100, 264, 265, 266):
        found: list[str] = []
        while page := await broker.channels(after=found[-1] if found else "", limit=limit):
            assert len(page) <= limit
            found += [channel.name for channel in page]
        assert found == expected
    assert [channel.name for channel in await broker.channels(after="user/98 is none", limit=1)] == ["user/99"]
    assert await broker.channels(after=expected[-1]) == []


async def test_a_list_agrees_with_what_was_done(log: Log) -> None:
    """Many channels, used at random; an event's size is that of its frame."""
    choices = random.Random(11)
    published: dict[str, list[str]] = {}
    finished: set[str] = set()
    async with Broker(**log, history=5) as broker:
        for _ in range(600):
            name = f"channel {choices.randrange(20)}"
            if choices.random() < 0.1:
                await broker.finish(name)
                finished.add(name)
                published.setdefault(name, [])
            else:
                published.setdefault(name, []).append(await broker.publish(name, 1))
                finished.discard(name)
        for channel in await broker.channels():
            all_ids = published.pop(channel.name)
            assert (channel.events, channel.published) == (len(all_ids[-5:]), len(all_ids))
            assert channel.size == size(*all_ids[-5:])
            assert channel.finished == (channel.name in finished)
            assert (channel.oldest_id, channel.newest_id) == ((all_ids[-5:] or [None])[0], (all_ids or [None])[-1])
        assert published == {}


async def test_a_broker_that_was_opened_again_still_knows_its_channels(log: Log) -> None:
    broker = Broker(**log)
    async with broker:
        await fill(broker, "news", [1, 1])
        before = await broker.channels()
    async with broker:
        assert await broker.channels() == before


async def test_a_list_of_a_broker_that_is_not_open(log: Log) -> None:
    with pytest.raises(BrokerClosed):
        await Broker(**log).channels()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": None}, TypeError),
        ({"limit": 1.5}, TypeError),
        ({"limit": True}, TypeError),
        ({"after": None}, TypeError),
        ({"after": b"a"}, TypeError),
    ],
    ids=str,
)
async def test_arguments_of_a_list_are_checked(
    broker: Broker, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"'{next(iter(arguments))}'"):
        await broker.channels(**arguments)


async def test_what_is_published_in_one_go_is_stored_in_the_order_of_the_calls(broker: Broker) -> None:
    published = await asyncio.gather(*(broker.publish(f"channel {number % 3}", number) for number in range(2_500)))
    sequences = [int(id.rpartition("-")[2]) for id in published]
    assert sequences == sorted(sequences)
