"""An id resumes a subscription; when nothing was missed, nobody is told that something was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, fill, ids, position, take
from tidings import Broker, EventSourceResponse


async def test_every_id_resumes_behind_its_event(broker: Broker) -> None:
    published = await fill(broker, "news", range(12))
    await broker.publish("news", "end")
    for number, id in enumerate(published):
        async with broker.subscribe("news", last_event_id=id) as subscription:
            assert data(await take(subscription, 12 - number)) == [*range(number + 1, 12), "end"]


async def test_one_id_resumes_a_subscription_to_any_channels(broker: Broker) -> None:
    published = [await broker.publish("abc"[number % 3], number) for number in range(30)]
    for wanted in ("a", "b", "ca", "abc"):
        for seen in (0, 10, 11, 12, 26):
            expected = [number for number in range(seen + 1, 30) if "abc"[number % 3] in wanted]
            async with broker.subscribe(*wanted, last_event_id=published[seen]) as subscription:
                assert data(await take(subscription, len(expected))) == expected


async def test_an_id_of_one_channel_resumes_another_that_was_never_used(broker: Broker) -> None:
    published = await broker.publish("news", 1)
    async with broker.subscribe("never used", last_event_id=published) as subscription:
        later = await broker.publish("never used", 2)
        assert ids(await take(subscription, 1)) == [later]


async def test_the_position_before_everything_resumes_all(broker: Broker) -> None:
    published = await fill(broker, "news", range(5))
    async with broker.subscribe("news", last_event_id=f"{position(published[0])[0]}-0") as subscription:
        assert ids(await take(subscription, 5)) == published


@pytest.mark.parametrize("none", [None, ""])
async def test_no_id_and_an_empty_one_are_the_same(broker: Broker, none: str | None) -> None:
    await fill(broker, "news", range(3))
    async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id=none))) as client:
        await client.until(lambda: client.messages)
        await broker.publish("news", "new")
        await client.until(b"new")
        assert [event.json() for event in client.events] == ["new"]


async def test_earliest_is_everything_retained_and_then_what_is_new(broker: Broker) -> None:
    published = await fill(broker, "news", range(3))
    await broker.publish("other", "not asked for")
    async with broker.subscribe("news", last_event_id="earliest") as subscription:
        events = await take(subscription, 3)
        published += await fill(broker, "news", range(3, 6))
        events += await take(subscription, 3)
    assert data(events) == list(range(6))
    assert ids(events) == published


@pytest.mark.parametrize("used", [False, True])
async def test_earliest_with_nothing_retained_is_what_is_new(broker: Broker, *, used: bool) -> None:
    if used:
        await broker.publish("other", "not asked for")
    async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id="earliest"))) as client:
        await client.until(lambda: client.messages)
        published = await broker.publish("news", "first")
        await client.until(published.encode())
        assert [(event.event, event.data) for event in client.events] == [("message", '"first"')]


async def test_earliest_after_trimming_is_no_reset(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        published = await fill(broker, "news", range(10))
        async with broker.subscribe("news", last_event_id="earliest") as subscription:
            events = await take(subscription, 3)
            assert ids(events) == published[-3:]
            assert not any(event.control for event in events)


async def test_who_has_seen_what_was_trimmed_is_not_reset(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        published = await fill(broker, "news", range(10))
        for seen in (6, 7, 8):
            async with broker.subscribe("news", last_event_id=published[seen]) as subscription:
                assert ids(await take(subscription, 9 - seen)) == published[seen + 1 :]


async def test_a_busy_channel_resets_no_quiet_one(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        seen = await broker.publish("quiet", "seen")
        await broker.publish("quiet", "missed")
        await fill(broker, "busy", range(50))
        for channels in (["quiet"], ["quiet", "never used"]):
            async with broker.subscribe(*channels, last_event_id=seen) as subscription:
                assert data(await take(subscription, 1)) == ["missed"]
        await fill(broker, "quiet", ["new"])
        async with broker.subscribe("quiet", last_event_id=seen) as subscription:
            assert data(await take(subscription, 2)) == ["missed", "new"]


async def test_an_id_of_a_busy_channel_resumes_a_quiet_one(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        await broker.publish("quiet", "seen")
        busy = await fill(broker, "busy", range(50))
        async with broker.subscribe("quiet", last_event_id=busy[10]) as subscription:
            later = await broker.publish("quiet", "new")
            assert ids(await take(subscription, 1)) == [later]


async def test_a_trimmed_channel_resets_nobody_who_comes_without_an_id(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        await fill(broker, "news", range(50))
        async with Connection(EventSourceResponse(broker.subscribe("news"))) as client:
            await client.until(lambda: client.messages)
            later = await broker.publish("news", "new")
            await client.until(later.encode())
            assert [event.data for event in client.events] == ['"new"']


@pytest.mark.parametrize("id", [5, b"abc-5", 1.5, True, ["abc-5"], object()], ids=lambda value: type(value).__name__)
def test_an_id_that_is_no_str_is_a_type_error_at_once(new_log: Callable[[], Log], id: Any) -> None:
    with pytest.raises(TypeError, match="last_event_id"):
        Broker(**new_log()).subscribe("news", last_event_id=id)
