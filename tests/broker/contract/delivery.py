"""Every subscriber sees every event of its channels, once and in order, however fast it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

import pytest

from tests.asgi import PATIENCE, Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import burst, data, fill, ids, position, sequence, take, until
from tidings import Broker, EventSourceResponse

TAIL_EVENTS = 1_000
TAIL_BYTES = 8 << 20
"""What a process keeps of a channel in memory, at the most."""


async def test_a_subscriber_sees_what_is_retained_and_then_what_is_new(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    published = await fill(broker, "news", range(50))
    async with broker.subscribe("news", last_event_id=start) as subscription:
        events = await take(subscription, 50)
        for number in range(50, 70):
            published.append(await broker.publish("news", number))
            events += await take(subscription, 1)
        published += await fill(broker, "news", range(70, 100))
        events += await take(subscription, 30)
    assert data(events) == list(range(100))
    assert ids(events) == published


async def test_several_channels_come_in_the_order_of_publication(broker: Broker) -> None:
    start = await broker.publish("a", "start")
    published = [await broker.publish("abc"[number % 3], number) for number in range(90)]
    subscription = broker.subscribe("c", "a", last_event_id=start)
    early = await take(subscription, 60)
    published += [await broker.publish("abc"[number % 3], number) for number in range(90, 120)]
    late = await take(subscription, 20)
    assert data(early + late) == [number for number in range(120) if number % 3 != 1]
    assert [event.channel for event in early + late] == ["a", "c"] * 40
    assert ids(early + late) == [id for number, id in enumerate(published) if number % 3 != 1]


async def test_every_subscriber_sees_all(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    reading = [asyncio.create_task(take(broker.subscribe("news", last_event_id=start), 120)) for _ in range(100)]
    published = await fill(broker, "news", range(120))
    for events in await asyncio.gather(*reading):
        assert data(events) == list(range(120))
        assert ids(events) == published


async def test_without_an_id_a_subscription_begins_with_its_first_iteration(broker: Broker) -> None:
    await broker.publish("news", -3)
    subscription = broker.subscribe("news")
    await broker.publish("news", -2)
    await asyncio.sleep(0.02)
    await broker.publish("news", -1)
    reading = asyncio.create_task(take(subscription, 20))
    for number in count():
        await broker.publish("news", number)
        await asyncio.sleep(0)
        if reading.done():
            break
    numbers = data(await reading)
    assert numbers[0] >= 0
    assert numbers == list(range(numbers[0], numbers[0] + 20))


@pytest.mark.parametrize("none", [None, ""])
async def test_a_response_without_an_id_has_all_that_follows_its_start(broker: Broker, none: str | None) -> None:
    await broker.publish("news", "before")
    async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id=none))) as client:
        await client.until(lambda: client.messages)
        published = await fill(broker, "news", range(10))
        await client.until(lambda: len(client.events) == 10)
        assert [event.json() for event in client.events] == list(range(10))
        assert [event.id for event in client.events] == published


async def test_ids_grow_over_all_channels(broker: Broker) -> None:
    published = [await broker.publish(f"channel {number % 7}", number) for number in range(50)]
    assert len({position(id)[0] for id in published}) == 1
    sequences = [sequence(id) for id in published]
    assert sequences == sorted(set(sequences))
    assert sequences[0] >= 1


async def test_an_epoch_is_of_one_log(new_log: Callable[[], Log]) -> None:
    epochs = set()
    for _ in range(3):
        async with Broker(**new_log()) as broker:
            epochs.add(position(await broker.publish("news", 1))[0])
    assert len(epochs) == 3


async def test_many_tasks_publish_at_once(broker: Broker) -> None:
    start = await broker.publish("news", "start")

    async def publish(task: int) -> list[str]:
        return await fill(broker, "news", [[task, number] for number in range(25)])

    reading = asyncio.create_task(take(broker.subscribe("news", last_event_id=start), 500))
    published = await asyncio.gather(*map(publish, range(20)))
    live = await reading
    assert {event.id: event.data for event in live} == {
        id: [task, number] for task, of_task in enumerate(published) for number, id in enumerate(of_task)
    }
    assert ids(live) == sorted(ids(live), key=sequence)
    later = await take(broker.subscribe("news", last_event_id=start), 500)
    assert [(event.id, event.data) for event in later] == [(event.id, event.data) for event in live]


async def test_a_cancelled_publish_is_stored_once_or_not_at_all(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    publishing = []
    for number in range(120):
        publishing.append(asyncio.create_task(broker.publish("news", number)))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        if number % 3 == 0:
            publishing[-1].cancel()
    outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    last = await broker.publish("news", "last")
    subscription = broker.subscribe("news", last_event_id=start)
    seen: dict[str, object] = {}
    while last not in seen:
        (event,) = await take(subscription, 1)
        assert event.id not in seen
        seen[event.id] = event.data
    stored = list(seen.values())
    assert len(stored) == len(set(stored))
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, str):
            assert seen[outcome] == number
        else:
            assert isinstance(outcome, asyncio.CancelledError)
            assert number % 3 == 0


async def test_a_slow_subscriber_slows_nobody_and_misses_nothing(log: Log) -> None:
    more_than_a_tail = TAIL_EVENTS * 5 // 2
    async with Broker(**log, history=None) as broker:
        start = await broker.publish("news", "start")
        slow = broker.subscribe("news", last_event_id=start)
        fast = asyncio.create_task(take(broker.subscribe("news", last_event_id=start), more_than_a_tail + 1))
        await broker.publish("news", -1)
        assert data(await take(slow, 1)) == [-1]
        stored = await burst(broker, "news", range(more_than_a_tail))
        assert data(await fast) == [-1, *stored]
        assert data(await take(slow, more_than_a_tail)) == stored
        await broker.publish("news", "and on")
        assert data(await take(slow, 1)) == ["and on"]


async def test_a_burst_of_more_bytes_than_are_kept_in_memory_reaches_a_slow_subscriber(log: Log) -> None:
    async with Broker(**log, history=None) as broker:
        start = await broker.publish("news", "start")
        slow = broker.subscribe("news", "more", last_event_id=start)
        await broker.publish("news", "first")
        assert data(await take(slow, 1)) == ["first"]
        for number in range(11):
            await broker.publish("news", raw_data=f"{number:02}" * (TAIL_BYTES // 20))
            await broker.publish("more", number)
        events = await take(slow, 22)
        assert [event.data[:2] for event in events[::2]] == [f"{number:02}" for number in range(11)]
        assert {len(event.data) for event in events[::2]} == {TAIL_BYTES // 20 * 2}
        assert data(events[1::2]) == list(range(11))


async def test_a_response_that_was_stalled_goes_on_from_the_storage(log: Log) -> None:
    more_than_a_tail = TAIL_EVENTS * 3 // 2
    async with Broker(**log, history=None) as broker:
        start = await broker.publish("news", "start")
        response = EventSourceResponse(broker.subscribe("news", last_event_id=start))
        async with Connection(response) as client:
            await client.until(lambda: client.messages)
            client.stop_reading()
            await broker.publish("news", "first")
            await client.until_blocked()
            stored = await burst(broker, "news", range(more_than_a_tail))
            client.read_on()
            await client.until(lambda: client.body.count(b"\n\n") > more_than_a_tail)
            await until(lambda: len(client.events) == more_than_a_tail + 1, "the client has all events")
            assert [event.json() for event in client.events] == ["first", *stored]


async def test_a_long_history_is_read_page_by_page(log: Log) -> None:
    """Short events fill pages by their number, long ones by their size; one can be larger than a page."""
    async with Broker(**log, history=None) as broker:
        channels = ("short", "long", "rare")
        expected = []
        for number in range(1_300):
            if number % 400 == 7:
                text = str(number) * 30_000
                expected.append((await broker.publish("long", raw_data=text), text))
            channel = "rare" if number % 300 == 5 else "short"
            expected.append((await broker.publish(channel, number), number))
        for start in ("earliest", expected[0][0], expected[650][0], expected[-2][0]):
            begin = 0 if start == "earliest" else [id for id, _ in expected].index(start) + 1
            subscription = broker.subscribe(*channels, last_event_id=start)
            events = await take(subscription, len(expected) - begin)
            assert [(event.id, event.data) for event in events] == expected[begin:]
            await subscription.aclose()
        rare = await take(broker.subscribe("rare", last_event_id="earliest"), 5)
        assert data(rare) == [5, 305, 605, 905, 1205]


async def test_events_published_while_a_subscription_begins_are_not_lost(broker: Broker) -> None:
    """Many begin while somebody publishes: each finds the seam between history and what is new somewhere else."""
    last = await broker.publish("news", "start")
    done = False

    async def publish() -> None:
        for number in count():
            await broker.publish("news", number)
            if done:
                return

    publishing = asyncio.create_task(publish())
    for begin in range(30):
        async with broker.subscribe("news", last_event_id=last) as subscription:
            events = await take(subscription, 60)
        assert data(events) == list(range(begin, begin + 60))
        last = events[0].id
    done = True
    async with asyncio.timeout(PATIENCE):
        await publishing


async def test_a_channel_named_twice_counts_once(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    subscription = broker.subscribe("news", "news", "alerts", "news", last_event_id=start)
    await fill(broker, "news", [1, 2])
    await broker.publish("alerts", 3)
    assert data(await take(subscription, 3)) == [1, 2, 3]
    await fill(broker, "news", [4])
    assert data(await take(subscription, 1)) == [4]


NAMES = [
    *(
        "*",
        "n*",
        "new[s]",
        "new?",
        "%",
        "n%",
        "new_",
        "_",
        "news%",
        "NEWS",
        "news ",
        " news",
        " ",
        "  ",
        "",
        "\\",
        "new\\s",
    ),
    *("'", "''", '"', "`", ";--", "'; DROP TABLE events; --", "{news}", "news,alerts", "news:1", "news/1", "../news"),
    *(
        "é",
        "e\u0301",
        "🐟",
        "\u2028",
        "\u200b",
        "\xa0",
        "null",
        "None",
        "0",
        "00",
        "-",
        "a" * 255,
        "é" * 127,
        "a" * 254,
    ),
]


async def test_a_channel_is_its_name_and_nothing_else(broker: Broker) -> None:
    names = [name for name in NAMES if name]
    start = await broker.publish("news", "start")
    for name in names:
        await broker.publish(name, name)
    await broker.publish("news", "end")
    for name in names:
        retained = broker.subscribe(name, last_event_id=start)
        assert [(event.channel, event.data) for event in await take(retained, 1)] == [(name, name)]
        await broker.publish(name, "live")
        assert [(event.channel, event.data) for event in await take(retained, 1)] == [(name, "live")]
        await retained.aclose()
    assert data(await take(broker.subscribe("news", last_event_id=start), 1)) == ["end"]
    everything = await take(broker.subscribe(*names, last_event_id=start), 2 * len(names))
    assert [event.channel for event in everything] == [*names, *names]
