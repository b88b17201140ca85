"""Opening and closing: of a broker, and of a subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import burst, data, fill, ids, position, rest, sequence, take
from tidings import Broker, EventSourceResponse, Subscription
from tidings.errors import BrokerClosed, PublishError

# -- a broker ---------------------------------------------------------------------------------------------------------


async def check_closed(broker: Broker) -> None:
    """Whether nothing can be done with this broker, but to subscribe, which does nothing yet."""
    with pytest.raises(BrokerClosed, match="async with broker"):
        await broker.publish("news", 1)
    with pytest.raises(BrokerClosed):
        await broker.finish("news")
    with pytest.raises(BrokerClosed):
        await asyncio.to_thread(broker.publish_sync, "news", 1)
    for last_event_id in (None, "earliest", "no id"):
        with pytest.raises(BrokerClosed):
            await anext(broker.subscribe("news", last_event_id=last_event_id))
    response = EventSourceResponse(broker.subscribe("news"))
    async with Connection(response) as client:
        with pytest.raises(BrokerClosed):
            await client.end()
    assert client.messages == []


async def test_a_broker_is_used_between_its_opening_and_its_closing(log: Log) -> None:
    broker = Broker(**log)
    await check_closed(broker)
    async with broker as entered:
        assert entered is broker
        await broker.publish("news", 1)
    await check_closed(broker)


@pytest.mark.parametrize("value", [None, 1_000])
@pytest.mark.parametrize("name", ["history", "max_age", "forget_after", "publish_timeout", "max_event_size"])
async def test_each_bound_may_be_lifted_and_may_be_an_int(log: Log, name: str, value: int | None) -> None:
    options: dict[str, Any] = {name: value}
    async with Broker(**log, **options) as broker:
        await fill(broker, "news", [1, 2])
        await broker.finish("news")
        assert data(await rest(broker.subscribe("news", last_event_id="earliest"))) == [1, 2]


async def test_a_subscription_may_be_made_before_the_broker_is_open(log: Log) -> None:
    broker = Broker(**log)
    subscription = broker.subscribe("news", last_event_id="earliest")
    async with broker:
        await broker.publish("news", 1)
        assert data(await take(subscription, 1)) == [1]


async def test_a_broker_that_is_opened_again_goes_on_with_its_log(log: Log) -> None:
    broker = Broker(**log)
    async with broker:
        published = await fill(broker, "news", [1, 2])
        await fill(broker, "done", [1])
        await broker.finish("done")
    for number in (3, 4):
        async with broker:
            published += await fill(broker, "news", [number])
            async with broker.subscribe("news", last_event_id=published[0]) as subscription:
                assert ids(await take(subscription, number - 1)) == published[1:]
            assert data(await rest(broker.subscribe("done", last_event_id="earliest"))) == [1]
    assert len({position(id)[0] for id in published}) == 1
    assert published == sorted(published, key=sequence)


async def test_a_broker_that_is_open_can_not_be_opened(log: Log) -> None:
    async with Broker(**log) as broker:
        with pytest.raises(RuntimeError, match="open"):
            await broker.__aenter__()
        await broker.publish("news", 1)


def test_a_broker_can_be_opened_on_one_event_loop_after_the_other(log: Log) -> None:
    broker = Broker(**log)

    async def use(number: int) -> list[int]:
        async with broker:
            await broker.publish("news", number)
            return data(await take(broker.subscribe("news", last_event_id="earliest"), number))

    assert asyncio.run(use(1)) == [1]
    assert asyncio.run(use(2)) == [1, 2]


async def test_closing_ends_subscriptions_and_their_responses(log: Log) -> None:
    async with Broker(**log) as broker:
        start = await broker.publish("news", "start")
        published = await fill(broker, "news", [0])
        subscriptions = [broker.subscribe("news", last_event_id=start) for _ in range(51)]
        for subscription in subscriptions:
            await take(subscription, 1)
        quiet = broker.subscribe("never used", last_event_id="no id")
        await take(quiet, 1)
        reading = [asyncio.create_task(rest(subscription)) for subscription in [quiet, *subscriptions[1:]]]
        async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id=start))) as client:
            published += await fill(broker, "news", range(1, 6))
            await client.until(published[-1].encode())
            await broker.__aexit__(None, None, None)
            await client.end()
        assert client.complete
        assert [event.id for event in client.events] == published
        nothing, *outcomes = await asyncio.gather(*reading, rest(subscriptions[0]))
        assert nothing == []
        for events in outcomes:  # what it had not read when the broker was closed may be missing, and nothing else
            assert ids(events) == published[1 : 1 + len(events)]
    await check_closed(broker)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
async def test_closing_a_broker_ends_who_is_about_to_begin(log: Log, turns: int) -> None:
    async with Broker(**log) as broker:
        await broker.publish("news", 1)
        reading = [
            asyncio.create_task(rest(broker.subscribe("news", last_event_id=last_event_id)))
            for last_event_id in (None, "earliest", "no id")
            for _ in range(10)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
    for outcome in await asyncio.gather(*reading, return_exceptions=True):
        assert isinstance(outcome, BrokerClosed) or (isinstance(outcome, list) and len(outcome) <= 2), repr(outcome)


async def test_closing_a_broker_ends_who_reads_a_long_history(log: Log) -> None:
    async with Broker(**log, history=None) as broker:
        await burst(broker, "news", range(3_000))
        subscriptions = [broker.subscribe("news", last_event_id="earliest") for _ in range(20)]
        for count, subscription in enumerate(subscriptions):
            await take(subscription, 1 + 30 * count)  # so that some are at the end of a page
        reading = [asyncio.create_task(rest(subscription)) for subscription in subscriptions]
        response = EventSourceResponse(broker.subscribe("news", last_event_id="earliest"))
        async with Connection(response) as client:
            client.stop_reading()
            await client.until_blocked()
            await broker.__aexit__(None, None, None)
            client.read_on()
            await client.end()
        assert client.complete
    for count, events in enumerate(await asyncio.gather(*reading)):
        numbers = [event.id for event in events]
        assert numbers == sorted(set(numbers), key=sequence), count


async def test_a_closed_broker_leaves_no_task_behind(log: Log) -> None:
    before = asyncio.all_tasks()
    async with Broker(**log) as broker:
        reading = [asyncio.create_task(rest(broker.subscribe(f"channel {number}"))) for number in range(20)]
        await fill(broker, "news", range(20))
    for outcome in await asyncio.gather(*reading, return_exceptions=True):
        assert outcome == [] or isinstance(outcome, BrokerClosed), repr(outcome)
    assert asyncio.all_tasks() == before


async def test_a_subscription_of_a_closed_broker_does_not_go_on_when_it_is_opened_again(log: Log) -> None:
    broker = Broker(**log)
    async with broker:
        published = await fill(broker, "news", [1])
        subscription = broker.subscribe("news", last_event_id="earliest")
        assert ids(await take(subscription, 1)) == published
    async with broker:
        await fill(broker, "news", [2])
        assert await rest(subscription) == []
        assert data(await take(broker.subscribe("news", last_event_id=published[0]), 1)) == [2]


async def test_what_was_acknowledged_before_a_close_is_there_after_it(log: Log) -> None:
    broker = Broker(**log)
    async with broker:
        publishing = [asyncio.create_task(broker.publish("news", number)) for number in range(200)]
        await asyncio.wait(publishing, return_when=asyncio.FIRST_COMPLETED)
    outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {str, BrokerClosed, PublishError}
    acknowledged = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert acknowledged
    async with broker:
        last = await broker.publish("news", "last")
        subscription = broker.subscribe("news", last_event_id="earliest")
        seen: list[str] = []
        while last not in seen:
            seen += ids(await take(subscription, 1))
        assert set(acknowledged) <= set(seen)
        assert len(seen) == len(set(seen))


async def test_an_error_inside_of_a_broker_passes_and_closes_it(log: Log) -> None:
    broker = Broker(**log)
    with pytest.raises(ZeroDivisionError):
        async with broker:
            raise ZeroDivisionError
    await check_closed(broker)


async def test_a_lifespan_is_the_time_in_which_a_broker_is_open(log: Log) -> None:
    broker = Broker(**log)
    app = FastAPI(lifespan=broker.lifespan)
    async with app.router.lifespan_context(app):
        await broker.publish("news", 1)
    await check_closed(broker)

    @asynccontextmanager
    async def combined(app: FastAPI):
        async with broker.lifespan(app):
            yield

    app = FastAPI(lifespan=combined)
    async with app.router.lifespan_context(app):
        assert data(await take(broker.subscribe("news", last_event_id="earliest"), 1)) == [1]
    await check_closed(broker)


async def test_many_brokers_in_one_process_have_logs_of_their_own(new_log: Callable[[], Log]) -> None:
    brokers = [Broker(**new_log()) for _ in range(5)]
    for broker in brokers:
        await broker.__aenter__()
    try:
        starts = [await broker.publish("news", "start") for broker in brokers]
        subscriptions = [
            broker.subscribe("news", last_event_id=start) for broker, start in zip(brokers, starts, strict=True)
        ]
        for number, broker in enumerate(brokers):
            await broker.publish("news", number)
        await brokers[0].finish("news")
        assert data(await rest(subscriptions[0])) == [0]
        for number, subscription in list(enumerate(subscriptions))[1:]:
            assert data(await take(subscription, 1)) == [number]
        await brokers[1].__aexit__(None, None, None)
        assert await rest(subscriptions[1]) == []
        for number in (2, 3, 4):
            await brokers[number].publish("news", "goes on")
            assert data(await take(subscriptions[number], 1)) == ["goes on"]
    finally:
        for broker in brokers:
            await broker.__aexit__(None, None, None)


# -- a subscription ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 50])
async def test_closing_a_subscription_ends_who_waits_for_it(broker: Broker, turns: int) -> None:
    """However far it has come with its beginning."""
    subscription = broker.subscribe("news")
    reading = asyncio.create_task(rest(subscription))
    for _ in range(turns):
        await asyncio.sleep(0)
    await subscription.aclose()
    assert await reading == []
    await subscription.aclose()
    assert await rest(subscription) == []


async def test_closing_a_subscription_ends_who_has_waited_for_long(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    subscription = broker.subscribe("news", last_event_id=start)
    await broker.publish("news", 1)
    assert data(await take(subscription, 1)) == [1]
    reading = asyncio.create_task(rest(subscription))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await subscription.aclose()
    assert await reading == []


async def test_a_closed_subscription_gives_nothing_of_what_it_had_read(broker: Broker) -> None:
    await fill(broker, "news", range(10))
    subscription = broker.subscribe("news", last_event_id="earliest")
    assert data(await take(subscription, 3)) == [0, 1, 2]
    await subscription.aclose()
    assert await rest(subscription) == []


async def test_a_subscription_closed_before_it_begins_gives_nothing(broker: Broker) -> None:
    await broker.publish("news", 1)
    subscription = broker.subscribe("news", last_event_id="earliest")
    await subscription.aclose()
    await subscription.aclose()
    assert await rest(subscription) == []


async def test_a_subscription_is_closed_behind_its_block(broker: Broker) -> None:
    await fill(broker, "news", range(10))
    async with broker.subscribe("news", last_event_id="earliest") as subscription:
        assert isinstance(subscription, Subscription)
        assert aiter(subscription) is subscription
        assert data(await take(subscription, 2)) == [0, 1]
    assert await rest(subscription) == []
    with pytest.raises(ZeroDivisionError):
        async with broker.subscribe("news", last_event_id="earliest") as subscription:
            raise ZeroDivisionError
    assert await rest(subscription) == []


async def test_a_subscription_goes_on_from_one_loop_to_the_next_but_never_begins_again(broker: Broker) -> None:
    await fill(broker, "news", range(4))
    await broker.finish("news")
    subscription = broker.subscribe("news", last_event_id="earliest")
    async for event in subscription:
        if event.data == 1:
            break
    assert data(await rest(subscription)) == [2, 3]
    assert await rest(subscription) == []


async def test_a_subscription_serves_one_response(broker: Broker) -> None:
    await broker.publish("news", 1)
    subscription = broker.subscribe("news", last_event_id="earliest")
    async with Connection(EventSourceResponse(subscription)) as client:
        await client.until(b"data: 1")
    async with Connection(EventSourceResponse(subscription)) as client:
        with pytest.raises(RuntimeError, match="once"):
            await client.end()
    assert client.messages == []


async def test_the_response_closes_its_subscription(broker: Broker) -> None:
    subscription = broker.subscribe("news")
    async with Connection(EventSourceResponse(subscription)) as client:
        await client.until(lambda: client.messages)
    assert await rest(subscription) == []


async def test_a_head_request_leaves_no_subscription(broker: Broker) -> None:
    subscription = broker.subscribe("news")
    async with Connection(EventSourceResponse(subscription), method="HEAD") as client:
        await client.end()
    assert client.status == 200
    assert client.body == b""
    assert await rest(subscription) == []


async def test_a_timeout_around_the_next_event_loses_none(broker: Broker) -> None:
    """A cancelled wait is no end: the subscription can be asked again."""
    start = await broker.publish("news", "start")
    subscription = broker.subscribe("news", last_event_id=start)
    for number in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await anext(subscription)
        await broker.publish("news", number)
        assert data(await take(subscription, 1)) == [number]
