"""What is kept of a channel, by count and by age, and what is left of it when it is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.asgi import PATIENCE
from tests.broker.conftest import Log
from tests.broker.contract.reading import burst, data, fill, ids, sequence, take, until_past
from tidings import Broker
from tidings.broker import DeliveredEvent


async def retained(broker: Broker, *channels: str) -> list[DeliveredEvent]:
    """What these channels show now. It publishes a last event into the first to see the end of it."""
    subscription = broker.subscribe(*channels, last_event_id="earliest")
    last = await broker.publish(channels[0], "the end")
    events: list[DeliveredEvent] = []
    while not events or events[-1].id != last:
        events += await take(subscription, 1)
    await subscription.aclose()
    return events[:-1]


@pytest.mark.parametrize("history", [1, 2, 7, 150])
async def test_the_newest_events_are_kept_by_count_of_each_channel(log: Log, history: int) -> None:
    async with Broker(**log, history=history) as broker:
        few = await fill(broker, "few", range(history))
        many = await fill(broker, "many", range(3 * history + 1))
        for published, channel in ((few, "few"), (many, "many")):
            subscription = broker.subscribe(channel, last_event_id="earliest")
            assert ids(await take(subscription, history)) == published[-history:]
            later = await broker.publish(channel, "later")
            assert ids(await take(subscription, 1)) == [later]


async def test_with_no_history_there_is_only_what_is_new(log: Log) -> None:
    async with Broker(**log, history=0) as broker:
        start = await broker.publish("news", "start")
        subscription = broker.subscribe("news", last_event_id=start)
        waiting = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0.05)
        new = await broker.publish("news", "new")
        assert ids(await waiting) == [new]
        (reset,) = await take(broker.subscribe("news", last_event_id=start), 1)
        assert reset.data == {"reason": "trimmed", "requested": start, "oldest": None}
        assert reset.id == new


async def test_a_thousand_events_are_kept_unless_said_otherwise(broker: Broker) -> None:
    stored = await burst(broker, "news", range(1_300))
    assert data(await retained(broker, "news")) == stored[-999:]


async def test_no_bound_keeps_all(log: Log) -> None:
    async with Broker(**log, history=None, max_age=None) as broker:
        stored = await burst(broker, "news", range(1_500))
        assert data(await retained(broker, "news")) == stored


async def test_an_event_older_than_max_age_is_never_shown(log: Log) -> None:
    async with Broker(**log, max_age=1.5) as broker:
        old = await broker.publish("news", "old")
        other = await broker.publish("other", "old too")
        stored = time.time()
        await asyncio.sleep(1.0)
        seen = await broker.publish("news", "younger")
        assert data(await take(broker.subscribe("news", "other", last_event_id="earliest"), 3)) == [
            "old",
            "old too",
            "younger",
        ]
        await until_past(stored + 1.5)
        assert data(await take(broker.subscribe("news", "other", last_event_id="earliest"), 1)) == ["younger"]

        before_old = f"{old.partition('-')[0]}-0"
        for requested in (before_old, old):  # of "other" both have missed something
            events = await take(broker.subscribe("news", "other", last_event_id=requested), 2)
            assert events[0].data == {"reason": "trimmed", "requested": requested, "oldest": seen}
            assert ids(events[1:]) == [seen]
        for requested, channels in ((old, ["news"]), (other, ["news", "other"])):
            subscription = broker.subscribe(*channels, last_event_id=requested)
            assert ids(await take(subscription, 1)) == [seen]


async def test_who_had_seen_everything_before_it_aged_out_is_not_reset(log: Log) -> None:
    async with Broker(**log, max_age=0.1) as broker:
        first, last = await fill(broker, "news", [1, 2])
        await until_past(time.time() + 0.1)
        subscription = broker.subscribe("news", last_event_id=last)
        new = await broker.publish("news", 3)
        assert ids(await take(subscription, 1)) == [new]
        await until_past(time.time() + 0.1)
        subscription = broker.subscribe("news", last_event_id=first)
        (reset,) = await take(subscription, 1)
        assert reset.data == {"reason": "trimmed", "requested": first, "oldest": None}
        assert reset.id == new  # nothing follows it: the newest position
        later = await broker.publish("news", 4)
        assert ids(await take(subscription, 1)) == [later]
        subscription = broker.subscribe("news", last_event_id=reset.id)
        later = await broker.publish("news", 5)
        assert sequence((await take(subscription, 1))[0].id) > sequence(reset.id)


async def test_nothing_ages_without_a_bound(log: Log) -> None:
    async with Broker(**log, max_age=None, forget_after=0.1) as broker:
        published = await fill(broker, "news", [1, 2])
        await until_past(time.time() + 0.3)
        await broker.publish("other", 1)
        assert ids(await take(broker.subscribe("news", last_event_id="earliest"), 2)) == published
        assert ids(await take(broker.subscribe("news", last_event_id=published[0]), 1)) == published[1:]


# -- what is forgotten ------------------------------------------------------------------------------------------------


async def test_who_missed_something_of_a_forgotten_channel_is_reset_once(log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        seen, _missed = await fill(broker, "news", ["seen", "missed"])
        await until_past(time.time() + 0.5)
        for _ in range(3):
            await broker.publish("other", "goes on")
            await asyncio.sleep(0.05)
        subscription = broker.subscribe("news", last_event_id=seen)
        (reset,) = await take(subscription, 1)
        assert (reset.event, reset.data["reason"], reset.data["requested"]) == ("reset", "trimmed", seen)
        later = await broker.publish("news", "later")
        assert ids(await take(subscription, 1)) == [later]
        resumed = broker.subscribe("news", last_event_id=reset.id)
        assert ids(await take(resumed, 1)) == [later]


async def test_a_forgotten_channel_resets_also_who_had_seen_all_of_it(log: Log) -> None:
    """Rather once too often than a silent loss: its mark is that of whatever was forgotten since."""
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        seen = await broker.publish("news", "all that there is")
        await broker.publish("other", "forgotten too")
        reset = await first_within_patience(broker, "news", seen)
        assert (reset.event, reset.control, reset.data["reason"]) == ("reset", True, "trimmed")
        resumed = broker.subscribe("news", last_event_id=reset.id)
        later = await broker.publish("news", "later")
        assert ids(await take(resumed, 1)) == [later]


async def test_a_forgotten_channel_that_is_used_again_still_resets_who_missed_something_before(log: Log) -> None:
    async with Broker(**log, max_age=0.5, forget_after=0.5) as broker:
        seen, missed = await fill(broker, "news", ["seen", "missed"])
        await broker.publish("other", "forgotten too")
        await first_within_patience(broker, "news", missed)  # it is forgotten now
        later = await broker.publish("news", "later")
        events = await take(broker.subscribe("news", last_event_id=seen), 2)
        assert events[0].data == {"reason": "trimmed", "requested": seen, "oldest": later}
        assert ids(events[1:]) == [later]


async def test_what_is_forgotten_resets_nobody_who_came_after_it(log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.2) as broker:
        seen = await broker.publish("news", "all that there is")
        await broker.publish("other", "forgotten too")
        await first_within_patience(broker, "news", seen)
        last = await broker.publish("third", "alive")
        subscription = broker.subscribe("news", "other", "third", last_event_id=last)
        later = await broker.publish("news", "later")
        assert ids(await take(subscription, 1)) == [later]


async def first_within_patience(broker: Broker, channel: str, last_event_id: str) -> DeliveredEvent:
    """The first event for who comes with this id, asking again until there is one; other channels go on meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await broker.publish("elsewhere", "goes on")
            async with broker.subscribe(channel, last_event_id=last_event_id) as subscription:
                try:
                    async with asyncio.timeout(0.1):
                        return await anext(subscription)
                except TimeoutError:
                    continue
