"""`publish_sync`: publishing from where nothing can be awaited."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.asgi import PATIENCE
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, ids, rest, sequence, take
from tidings import Broker, ServerSentEvent


async def test_another_thread_publishes(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    subscription = broker.subscribe("news", last_event_id=start)
    plain = await asyncio.to_thread(broker.publish_sync, "news", {"a": 1}, event="named")
    raw = await asyncio.to_thread(broker.publish_sync, "news", raw_data="raw")
    whole = await asyncio.to_thread(broker.publish_sync, "news", ServerSentEvent([1], event="whole"))
    events = await take(subscription, 3)
    assert ids(events) == [plain, raw, whole]
    assert [(event.event, event.data) for event in events] == [("named", {"a": 1}), (None, "raw"), ("whole", [1])]


async def test_another_thread_finishes(broker: Broker) -> None:
    start = await broker.publish("news", "start")
    reading = asyncio.create_task(rest(broker.subscribe("news", last_event_id=start)))
    await asyncio.to_thread(broker.publish_sync, "news", "last")
    await asyncio.to_thread(broker.finish_sync, "news")
    assert data(await reading) == ["last"]


async def test_many_threads_publish_at_once(broker: Broker) -> None:
    start = await broker.publish("news", "start")

    def publish(thread: int) -> list[str]:
        return [broker.publish_sync("news", [thread, number]) for number in range(25)]

    reading = asyncio.create_task(take(broker.subscribe("news", last_event_id=start), 200))
    published = await asyncio.gather(*(asyncio.to_thread(publish, thread) for thread in range(8)))
    events = await reading
    assert {event.id: event.data for event in events} == {
        id: [thread, number] for thread, of_thread in enumerate(published) for number, id in enumerate(of_thread)
    }
    assert ids(events) == sorted(ids(events), key=sequence)


async def test_the_thread_of_the_event_loop_is_refused_at_once(broker: Broker) -> None:
    with pytest.raises(RuntimeError, match=r"await broker\.publish"):
        broker.publish_sync("news", 1)
    with pytest.raises(RuntimeError, match=r"await broker\."):
        broker.finish_sync("news")
    await broker.finish("news")
    assert await rest(broker.subscribe("news", last_event_id="earliest")) == []


async def test_a_thread_with_an_event_loop_of_its_own_publishes(broker: Broker) -> None:
    async def elsewhere() -> str:
        return broker.publish_sync("news", "from another loop")

    published = await asyncio.to_thread(asyncio.run, elsewhere())
    assert ids(await take(broker.subscribe("news", last_event_id="earliest"), 1)) == [published]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("news", object()), ValueError, "JSON"),
        (("", 1), ValueError, "channel"),
        ((5, 1), TypeError, "channel"),
        (("news", ServerSentEvent(1, id="5")), ValueError, "id"),
    ],
)
async def test_a_wrong_argument_is_an_error_in_the_thread(
    broker: Broker, arguments: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await asyncio.to_thread(broker.publish_sync, *arguments)


async def test_a_thread_that_publishes_while_the_broker_closes_is_answered(log: Log) -> None:
    """Nobody waits for ever: what isn't stored is an error."""
    outcomes: list[str | Exception] = []
    begun = threading.Event()

    def publish() -> None:
        while True:
            try:
                outcomes.append(broker.publish_sync("news", len(outcomes)))
            except Exception as error:
                outcomes.append(error)
                return
            finally:
                begun.set()

    broker = Broker(**log)
    async with broker:
        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert await asyncio.to_thread(begun.wait, PATIENCE)
    for thread in threads:
        await asyncio.to_thread(thread.join, PATIENCE)
        assert not thread.is_alive()
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(errors) == 4
    assert {type(error).__name__ for error in errors} <= {"BrokerClosed", "PublishError"}
    async with broker:
        stored = [outcome for outcome in outcomes if isinstance(outcome, str)]
        last = await broker.publish("news", "last")
        async with broker.subscribe("news", last_event_id="earliest") as subscription:
            seen: list[str] = []
            while last not in seen:
                seen += ids(await take(subscription, 1))
        assert set(stored[-900:]) <= set(seen)


async def test_a_broker_in_a_thread_of_its_own_is_published_to_from_here(log: Log) -> None:
    opened = threading.Event()
    seen: list[Any] = []
    broker = Broker(**log)

    async def serve() -> None:
        async with broker:
            subscription = broker.subscribe("news", last_event_id="earliest")
            opened.set()
            seen.extend(data(await take(subscription, 3)))

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert await asyncio.to_thread(opened.wait, PATIENCE)
    for number in range(3):
        broker.publish_sync("news", number)
    await asyncio.to_thread(thread.join, PATIENCE)
    assert seen == [0, 1, 2]
