"""`where=` leaves events out, and the position advances all the same."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.asgi import Connection
from tests.broker.contract.reading import data, fill, ids, rest, sequence, take
from tidings import Broker, EventSourceResponse
from tidings.broker import DeliveredEvent
from tidings.stream.loop import LoopState


def even(event: DeliveredEvent) -> bool:
    return event.data % 2 == 0


async def test_a_filter_chooses_among_retained_and_new_events(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    published = await fill(broker, "news", range(10))
    subscription = broker.subscribe("news", last_event_id=start, where=even)
    events = await take(subscription, 5)
    published += await fill(broker, "news", range(10, 20))
    events += await take(subscription, 5)
    assert data(events) == list(range(0, 20, 2))
    assert ids(events) == published[::2]


async def test_a_filter_sees_the_whole_event(broker: Broker) -> None:
    seen: list[tuple[Any, ...]] = []

    def where(event: DeliveredEvent) -> bool:
        seen.append((event.channel, event.id, event.event, event.data, event.control))
        return True

    start = await broker.publish("news", "start")
    named = await broker.publish("news", {"a": 1}, event="named")
    raw = await broker.publish("more", raw_data="[1]")
    await take(broker.subscribe("more", "news", last_event_id=start, where=where), 2)
    assert seen == [("news", named, "named", {"a": 1}, False), ("more", raw, None, "[1]", False)]


@pytest.mark.parametrize("answer", [1, "yes", [0]])
async def test_a_filter_may_answer_with_anything_that_is_true(broker: Broker, answer: Any) -> None:
    await broker.publish("news", 1)
    subscription = broker.subscribe("news", last_event_id="earliest", where=lambda event: answer)
    assert data(await take(subscription, 1)) == [1]


@pytest.mark.parametrize("answer", [0, "", None, []])
async def test_a_filter_may_answer_with_anything_that_is_false(broker: Broker, answer: Any) -> None:
    await broker.publish("news", 1)
    await broker.finish("news")
    assert await rest(broker.subscribe("news", last_event_id="earliest", where=lambda event: answer)) == []


async def test_a_filter_that_would_have_to_be_awaited_lets_nothing_pass(broker: Broker) -> None:
    """An awaitable is true, whatever it would say."""
    answer = asyncio.get_running_loop().create_future()
    await broker.publish("news", 1)
    with pytest.raises(TypeError, match="'where'"):
        await anext(broker.subscribe("news", last_event_id="earliest", where=lambda event: answer))


class TideError(Exception):
    pass


def raise_at_three(event: DeliveredEvent) -> bool:
    if event.data == 3:
        raise TideError(event.id)
    return True


@pytest.mark.parametrize("live", [False, True])
async def test_what_a_filter_raises_ends_the_subscription(broker: Broker, *, live: bool) -> None:
    start = await broker.publish("news", "start")
    subscription = broker.subscribe("news", last_event_id=start, where=raise_at_three)
    reading = asyncio.create_task(take(subscription, 2)) if live else None
    published = await fill(broker, "news", range(1, 6))
    assert data(await (reading or take(subscription, 2))) == [1, 2]
    with pytest.raises(TideError, match=published[2]):
        await anext(subscription)
    assert await rest(subscription) == []


async def test_what_a_filter_raises_ends_its_response_behind_the_events_before(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    published = await fill(broker, "news", range(1, 6))
    response = EventSourceResponse(broker.subscribe("news", last_event_id=start, where=raise_at_three))
    async with Connection(response) as client:
        with pytest.raises(TideError, match=published[2]):
            await client.end()
    assert [event.json() for event in client.events] == [1, 2]
    assert not client.complete


async def test_the_position_of_a_filtered_response_goes_out_with_the_heartbeat(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    subscription = broker.subscribe("news", last_event_id=start, where=lambda event: event.data == "wanted")
    async with Connection(EventSourceResponse(subscription, ping_interval=0.05)) as client:
        await client.until(lambda: client.messages)
        unwanted = await fill(broker, "news", range(5))
        await client.until(f"id: {unwanted[-1]}\n\n".encode())
        assert client.events == []  # the block of an id alone dispatches nothing
        wanted = await broker.publish("news", "wanted")
        await client.until(f'data: "wanted"\nid: {wanted}\n\n'.encode())
        before = client.body.count(b"id: ")
        await client.until(lambda: client.body.count(b": ping") >= 3)
        assert client.body.count(b"id: ") == before  # the client knows its position


async def test_a_response_that_sends_all_says_no_position_beside_its_events(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    async with Connection(
        EventSourceResponse(broker.subscribe("news", last_event_id=start), ping_interval=0.03)
    ) as client:
        await fill(broker, "news", range(5))
        await client.until(lambda: client.body.count(b": ping") >= 3)
        await broker.finish("news")
        await client.end()
    assert client.body.count(b"id: ") == 5


@pytest.mark.parametrize("ending", ["finish", "close", "max_duration", "shutdown"])
async def test_the_position_of_a_filtered_response_goes_out_before_an_orderly_end(broker: Broker, ending: str) -> None:
    start = await broker.publish("news", "start")
    wanted = await broker.publish("news", "wanted")
    unwanted = await fill(broker, "news", range(5))
    subscription = broker.subscribe("news", last_event_id=start, where=lambda event: event.data == "wanted")
    response = EventSourceResponse(subscription, max_duration=0.3 if ending == "max_duration" else None)
    async with Connection(response) as client:
        await client.until(f"id: {wanted}\n\n".encode())
        match ending:
            case "finish":
                await broker.finish("news")
            case "close":
                await broker.__aexit__(None, None, None)
            case "shutdown":
                LoopState.current().shutdown.begin()
        await client.end()
    assert client.complete
    assert [event.id for event in client.events] == [wanted]
    (told,) = [block for block in client.body.split(b"\n\n") if block.startswith(b"id: ")]
    assert sequence(told.removeprefix(b"id: ").decode()) >= sequence(unwanted[-1])


async def test_a_filtered_response_that_ends_at_an_event_says_no_other_position(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    wanted = await broker.publish("news", "wanted")
    await fill(broker, "news", range(5))
    subscription = broker.subscribe("news", last_event_id=start, where=lambda event: event.data == "wanted")
    async with Connection(EventSourceResponse(subscription, max_events=1)) as client:
        await client.end()
    assert client.complete
    assert client.body.endswith(f'data: "wanted"\nid: {wanted}\n\n'.encode())


@pytest.mark.parametrize(("wanted", "blocks"), [(4, 1), (3, 2)])
async def test_the_last_id_of_a_finished_channel_is_that_of_its_last_event(
    broker: Broker, wanted: int, blocks: int
) -> None:
    published = await fill(broker, "news", range(5))
    await broker.finish("news")
    subscription = broker.subscribe("news", last_event_id="earliest", where=lambda event: event.data == wanted)
    async with Connection(EventSourceResponse(subscription)) as client:
        await client.end()
    assert client.body.endswith(f"id: {published[-1]}\n\n".encode())
    assert client.body.count(b"id: ") == blocks  # the last event tells its position itself


async def test_a_filtered_subscriber_who_comes_back_to_a_finished_channel_has_seen_all(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    await fill(broker, "news", range(5))
    response = EventSourceResponse(broker.subscribe("news", last_event_id=start, where=lambda event: False))
    async with Connection(response) as client:
        await client.until(lambda: client.messages)
        await broker.finish("news")
        await client.end()
    last = client.body.rstrip().rpartition(b"id: ")[2].decode()
    async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id=last))) as client:
        await client.end()
    assert client.status == 204


@pytest.mark.parametrize("way", ["iterated", "returned"])
async def test_however_much_a_filter_leaves_out_others_may_run(broker: Broker, way: str) -> None:
    await fill(broker, "news", range(950))
    turns = 0
    most_in_a_row = 0

    def nothing(event: DeliveredEvent) -> bool:
        nonlocal turns, most_in_a_row
        turns += 1
        most_in_a_row = max(most_in_a_row, turns)
        until = time.perf_counter() + 0.00002
        while time.perf_counter() < until:
            pass
        return False

    async def others() -> None:
        nonlocal turns
        while True:
            turns = 0
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await broker.finish("news")
    subscription = broker.subscribe("news", last_event_id="earliest", where=nothing)
    if way == "iterated":
        assert await rest(subscription) == []
    else:
        async with Connection(EventSourceResponse(subscription), "/") as client:
            await client.end()
    beside.cancel()
    assert 0 < most_in_a_row < 950
