"""A finished channel ends its subscribers, and tells who comes back to come no more."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, fill, ids, position, rest, sequence, take, until_past
from tidings import Broker, EventSourceResponse


async def get(broker: Broker, *channels: str, last_event_id: str | None = None) -> Connection:
    """The response to who subscribes to finished channels."""
    async with Connection(EventSourceResponse(broker.subscribe(*channels, last_event_id=last_event_id))) as client:
        await client.end()
    return client


async def is_open(broker: Broker, *channels: str, last_event_id: str | None = None) -> bool:
    """Whether a subscription goes on, as the next event into its first channel shows."""
    async with Connection(EventSourceResponse(broker.subscribe(*channels, last_event_id=last_event_id))) as client:
        await client.until(lambda: client.messages)
        if client.status == 204:
            return False
        published = await broker.publish(channels[0], "is it open?")
        await client.until(f"id: {published}\n".encode())
        return True


async def test_subscribers_end_after_the_last_event(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    live = [asyncio.create_task(rest(broker.subscribe("news", last_event_id=start))) for _ in range(70)]
    published = await fill(broker, "news", range(20))
    assert await broker.finish("news") is None
    for events in await asyncio.gather(*live):
        assert ids(events) == published
    assert ids(await rest(broker.subscribe("news", last_event_id=start))) == published


async def test_who_waits_when_a_channel_is_finished_is_ended(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    waiting = asyncio.create_task(rest(broker.subscribe("news", last_event_id=start)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await broker.finish("news")
    assert await waiting == []


async def test_a_response_is_complete_when_its_channel_is_finished(broker: Broker) -> None:
    async with Connection(EventSourceResponse(broker.subscribe("news"))) as client:
        await client.until(lambda: client.messages)
        published = await fill(broker, "news", range(3))
        await broker.finish("news")
        await client.end()
    assert client.complete
    assert [event.id for event in client.events] == published


async def test_to_finish_twice_is_to_finish_once(broker: Broker) -> None:
    last = await broker.publish("news", "last")
    for _ in range(3):
        await broker.finish("news")
        assert (await get(broker, "news", last_event_id=last)).status == 204
    await asyncio.gather(*(broker.finish("news") for _ in range(10)))
    assert data(await rest(broker.subscribe("news", last_event_id="earliest"))) == ["last"]


async def test_to_finish_again_takes_no_place_in_the_log(broker: Broker) -> None:
    gaps = []
    for times in (1, 5):
        before = await broker.publish("news", "before")
        for _ in range(times):
            await broker.finish("news")
        gaps.append(sequence(await broker.publish("news", "after")) - sequence(before))
    assert gaps[0] == gaps[1]


async def test_a_channel_never_used_can_be_finished(broker: Broker) -> None:
    await broker.finish("news")
    await broker.finish("news")
    for last_event_id in (None, "earliest"):
        assert await rest(broker.subscribe("news", last_event_id=last_event_id)) == []
        assert (await get(broker, "news", last_event_id=last_event_id)).status == 204


async def test_who_has_seen_all_of_a_finished_channel_is_answered_204(broker: Broker) -> None:
    published = await fill(broker, "news", range(3))
    await broker.finish("news")
    later = await broker.publish("other", "later")
    for last_event_id in (None, "", published[-1], later):
        client = await get(broker, "news", last_event_id=last_event_id)
        assert client.status == 204
        assert client.body == b""
        assert client.complete
        assert "content-type" not in client.headers
        assert await rest(broker.subscribe("news", last_event_id=last_event_id)) == []


async def test_earliest_of_a_finished_channel_that_retains_nothing_is_answered_204(log: Log) -> None:
    async with Broker(**log, max_age=0.1) as broker:
        last = await broker.publish("news", "last")
        await broker.finish("news")
        await until_past(time.time() + 0.1)
        for last_event_id in ("earliest", last, None):
            assert (await get(broker, "news", last_event_id=last_event_id)).status == 204


async def test_who_has_not_seen_all_of_a_finished_channel_gets_it_and_the_end(broker: Broker) -> None:
    published = await fill(broker, "news", range(5))
    await broker.finish("news")
    before_all = f"{position(published[0])[0]}-0"
    for last_event_id, first in (("earliest", 0), (before_all, 0), (published[0], 1), (published[3], 4)):
        client = await get(broker, "news", last_event_id=last_event_id)
        assert client.status == 200
        assert client.complete
        assert [event.id for event in client.events] == published[first:]
        assert ids(await rest(broker.subscribe("news", last_event_id=last_event_id))) == published[first:]


async def test_who_is_to_be_reset_on_a_finished_channel_is_reset_before_the_end(log: Log) -> None:
    async with Broker(**log, history=2) as broker:
        published = await fill(broker, "news", range(5))
        await broker.finish("news")
        epoch, newest = position(published[-1])
        requests = {
            "no id": "malformed",
            "other-5": "epoch",
            published[0]: "trimmed",
            f"{epoch}-{newest + 1_000}": "ahead",
        }
        for requested, reason in requests.items():
            client = await get(broker, "news", last_event_id=requested)
            assert client.status == 200
            reset, *events = client.events
            assert (reset.event, reset.json()["reason"]) == ("reset", reason)
            assert [event.id for event in events] == published[-2:]
            assert [event.id for event in (await get(broker, "news", last_event_id=reset.id)).events] == published[-2:]


async def test_a_reset_of_a_finished_channel_that_retains_nothing_is_followed_by_204(broker: Broker) -> None:
    await broker.finish("news")
    client = await get(broker, "news", last_event_id="no id")
    assert client.status == 200
    (reset,) = client.events
    assert reset.json() == {"reason": "malformed", "requested": "no id", "oldest": None}
    assert (await get(broker, "news", last_event_id=reset.id)).status == 204


async def test_several_channels_end_when_all_are_finished(broker: Broker) -> None:
    start = await broker.publish("a", "start")
    live = asyncio.create_task(rest(broker.subscribe("a", "b", "c", last_event_id=start)))
    published = await fill(broker, "a", [1])
    await broker.finish("a")
    published += await fill(broker, "b", [2])
    await broker.finish("b")
    assert await is_open(broker, "c", "a", "b", last_event_id=published[-1])
    assert (await get(broker, "a", "b", last_event_id=published[-1])).status == 204
    published += await fill(broker, "c", [3])
    assert not live.done()
    await broker.finish("c")
    assert data(await live) == [1, 2, "is it open?", 3]
    assert (await get(broker, "a", "b", "c", last_event_id=published[-1])).status == 204
    assert data(await rest(broker.subscribe("c", "b", "a", last_event_id=start))) == [1, 2, "is it open?", 3]


async def test_a_channel_opened_again_keeps_a_subscription_to_several_open(broker: Broker) -> None:
    start = await broker.publish("a", "start")
    subscription = broker.subscribe("a", "b", last_event_id=start)
    await broker.finish("a")
    await broker.publish("b", 1)
    assert data(await take(subscription, 1)) == [1]
    await broker.publish("a", 2)
    await broker.finish("b")
    assert data(await take(subscription, 1)) == [2]
    await broker.publish("a", 3)
    assert data(await take(subscription, 1)) == [3]
    await broker.finish("a")
    assert await rest(subscription) == []


async def test_to_publish_opens_a_finished_channel_again(broker: Broker) -> None:
    published = await fill(broker, "news", [1, 2])
    await broker.finish("news")
    published += await fill(broker, "news", [3])
    async with broker.subscribe("news", last_event_id=published[1]) as subscription:
        assert data(await take(subscription, 1)) == [3]
    async with broker.subscribe("news", last_event_id="earliest") as subscription:
        assert ids(await take(subscription, 3)) == published
        published += await fill(broker, "news", [4])
        assert data(await take(subscription, 1)) == [4]
    assert await is_open(broker, "news", last_event_id=published[-1])
    assert await is_open(broker, "news")
    await broker.finish("news")
    assert data(await rest(broker.subscribe("news", last_event_id=published[0]))) == [2, 3, 4, *["is it open?"] * 2]


async def test_who_came_back_with_an_id_of_a_finished_channel_sees_it_opened_again(broker: Broker) -> None:
    last = await broker.publish("news", "last")
    await broker.finish("news")
    assert await rest(broker.subscribe("news", last_event_id=last)) == []
    again = await broker.publish("news", "again")
    assert ids(await take(broker.subscribe("news", last_event_id=last), 1)) == [again]


async def test_finishing_takes_no_place_in_the_history(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        published = []
        for number in range(5):
            published.append(await broker.publish("news", number))
            await broker.finish("news")
        events = await rest(broker.subscribe("news", last_event_id="earliest"))
        assert ids(events) == published[-3:]
        assert ids(await rest(broker.subscribe("news", last_event_id=published[1]))) == published[-3:]


async def test_a_finished_channel_stays_isolated(broker: Broker) -> None:
    await fill(broker, "news", [1])
    await broker.finish("news")
    for name in ("new", "news ", "*", "news%", "NEWS"):
        assert await is_open(broker, name)


@pytest.mark.parametrize("used", [False, True])
async def test_a_forgotten_channel_is_finished_no_longer(log: Log, *, used: bool) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        if used:
            await broker.publish("news", "last")
        await broker.finish("news")
        assert (await get(broker, "news")).status == 204
        deadline = time.monotonic() + 10
        while not await is_open(broker, "news"):
            assert time.monotonic() < deadline, "the channel is finished for ever"
            await broker.publish("other", "goes on")
            await asyncio.sleep(0.05)
