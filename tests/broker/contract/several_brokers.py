"""The contract where several brokers are open on one log: other processes, as far as the log can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, fill, ids, position, rest, sequence, take
from tests.broker.contract.resets import flood
from tests.broker.contract.seam import check_seam
from tidings import Broker, EventSourceResponse


@pytest.fixture
async def brokers(log: Log) -> AsyncIterator[list[Broker]]:
    """Three that are open on one log."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Broker(**log)) for _ in range(3)]


async def test_one_broker_sees_what_another_publishes(brokers: list[Broker]) -> None:
    one, other, third = brokers
    start = await one.publish("news", "start")
    subscriptions = [broker.subscribe("news", last_event_id=start) for broker in brokers]
    published = []
    for number in range(30):
        publisher = brokers[number % 3]
        published.append(await publisher.publish("news", number))
        for subscription in subscriptions:
            assert data(await take(subscription, 1)) == [number]
    for broker in (third, other, one):
        assert ids(await take(broker.subscribe("news", last_event_id=start), 30)) == published


async def test_all_brokers_of_a_log_give_out_ids_of_one_sequence(brokers: list[Broker]) -> None:
    published = [await brokers[number % 3].publish(f"channel {number % 2}", number) for number in range(30)]
    assert len({position(id)[0] for id in published}) == 1
    assert published == sorted(published, key=sequence)
    assert len(set(published)) == 30


async def test_an_id_of_one_broker_resumes_at_another(brokers: list[Broker]) -> None:
    published = await fill(brokers[0], "news", range(5))
    published += await fill(brokers[1], "news", range(5, 10))
    for seen in (0, 4, 7):
        events = await take(brokers[2].subscribe("news", last_event_id=published[seen]), 9 - seen)
        assert ids(events) == published[seen + 1 :]


async def test_a_burst_of_another_broker_reaches_all_subscribers(brokers: list[Broker]) -> None:
    start = await brokers[0].publish("news", "start")
    reading = [
        asyncio.create_task(take(brokers[number % 3].subscribe("news", "more", last_event_id=start), 400))
        for number in range(12)
    ]
    published = await asyncio.gather(
        *(fill(broker, channel, range(100)) for broker in brokers[:2] for channel in ("news", "more"))
    )
    expected = sorted((id for some in published for id in some), key=sequence)
    for events in await asyncio.gather(*reading):
        assert ids(events) == expected


async def test_a_channel_finished_by_one_broker_is_finished_for_all(brokers: list[Broker]) -> None:
    start = await brokers[0].publish("news", "start")
    reading = [asyncio.create_task(rest(broker.subscribe("news", last_event_id=start))) for broker in brokers]
    several = asyncio.create_task(rest(brokers[2].subscribe("news", "more", last_event_id=start)))
    await brokers[1].publish("news", "last")
    await brokers[0].finish("news")
    for events in await asyncio.gather(*reading):
        assert data(events) == ["last"]
    for broker in brokers:
        await broker.finish("news")
        async with Connection(EventSourceResponse(broker.subscribe("news"))) as client:
            await client.end()
        assert client.status == 204
    assert not several.done()
    await brokers[1].finish("more")
    assert data(await several) == ["last"]


async def test_publishing_at_one_broker_opens_a_channel_that_another_finished(brokers: list[Broker]) -> None:
    one, other, third = brokers
    last = await one.publish("news", "last")
    await other.finish("news")
    assert await rest(third.subscribe("news", last_event_id=last)) == []
    await third.publish("news", "again")
    subscription = one.subscribe("news", last_event_id=last)
    assert data(await take(subscription, 1)) == ["again"]
    await other.publish("news", "and on")
    assert data(await take(subscription, 1)) == ["and on"]


async def test_one_broker_that_closes_disturbs_no_other(log: Log) -> None:
    async with Broker(**log) as one:
        start = await one.publish("news", "start")
        subscription = one.subscribe("news", last_event_id=start)
        for number in range(3):
            async with Broker(**log) as other:
                ended = other.subscribe("never used", last_event_id="no id")
                await take(ended, 1)
                await other.publish("news", number)
                assert data(await take(subscription, 1)) == [number]
            assert await rest(ended) == []
        await one.publish("news", 3)
        assert data(await take(subscription, 1)) == [3]


async def test_a_loss_while_connected_is_a_reset_whoever_published(log: Log) -> None:
    async with Broker(**log, history=10) as one, Broker(**log, history=10) as other:
        start = await one.publish("news", "start")
        subscription = one.subscribe("news", last_event_id=start)
        seen = await other.publish("news", "seen")
        assert ids(await take(subscription, 1)) == [seen]
        stored = await flood(other, one)
        reset, *events = await take(subscription, 11)
        assert reset.data == {"reason": "trimmed", "requested": seen, "oldest": events[0].id}
        assert data(events) == stored[-10:]


async def test_a_broker_lists_what_another_publishes(brokers: list[Broker]) -> None:
    one, other, third = brokers
    await fill(one, "news", [1, 2])
    await other.publish("news", 3)
    await other.finish("done")
    listed = [(channel.name, channel.events, channel.finished) for channel in await third.channels()]
    assert listed == [("done", 0, True), ("news", 3, False)]
    assert await one.channels() == await other.channels() == await third.channels()


def test_nothing_is_lost_or_doubled_or_out_of_order_between_two_brokers(new_log: Callable[[], Log]) -> None:
    check_seam(new_log, shared=True, examples=25)


async def test_of_several_brokers_one_gets_a_claim(brokers: list[Broker]) -> None:
    claims = await asyncio.gather(*(brokers[number % 3].claim(f"seat {number // 3}", 60) for number in range(90)))
    assert [sum(claims[3 * seat : 3 * seat + 3]) for seat in range(30)] == [1] * 30
