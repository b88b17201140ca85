"""Who has gone leaves nothing behind: no task, no object, however it went."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import ReferenceType

import pytest

from tests.asgi import PATIENCE, Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, rest, take, until
from tidings import Broker, EventSourceResponse

Visit = Callable[[Broker, int], Coroutine[Any, Any, None]]


async def cancelled_while_it_waits(broker: Broker, number: int) -> None:
    reading = asyncio.create_task(rest(broker.subscribe(f"channel {number}", "news")))
    for _ in range(number % 17):  # so that it is met at each step of its beginning
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])


async def crashed_at_an_event(broker: Broker, number: int) -> None:
    async def crash() -> None:
        async for event in broker.subscribe("news", f"channel {number}", last_event_id="earliest"):
            raise LookupError(event)

    reading = asyncio.create_task(crash())
    await asyncio.wait([reading])
    assert isinstance(reading.exception(), LookupError)


async def left_at_an_event(broker: Broker, number: int) -> None:
    async for _event in broker.subscribe("news", f"channel {number}", last_event_id="earliest"):
        break


async def never_begun(broker: Broker, number: int) -> None:
    broker.subscribe("news", f"channel {number}", last_event_id="earliest")


async def disconnected(broker: Broker, number: int) -> None:
    async with Connection(EventSourceResponse(broker.subscribe(f"channel {number}"))) as client:
        await client.until(lambda: client.messages)


async def disconnected_while_it_begins(broker: Broker, number: int) -> None:
    async with Connection(EventSourceResponse(broker.subscribe(f"channel {number}"))) as client:
        for _ in range(number % 17):
            await asyncio.sleep(0)
        client.task.cancel()
        await asyncio.wait([client.task])
        client._raised = True


async def ended_with_its_channel(broker: Broker, number: int) -> None:
    await broker.finish("done")
    await rest(broker.subscribe("done"))
    await rest(broker.subscribe("done", last_event_id="earliest"))


async def filtered_with_an_error(broker: Broker, number: int) -> None:
    with pytest.raises(ZeroDivisionError):
        await rest(broker.subscribe("news", f"c{number}", last_event_id="earliest", where=lambda event: 1 / 0 > 0))


VISITS = [
    cancelled_while_it_waits,
    crashed_at_an_event,
    left_at_an_event,
    never_begun,
    disconnected,
    disconnected_while_it_begins,
    ended_with_its_channel,
    filtered_with_an_error,
]


def objects() -> Counter[str]:
    """How many there are, by type. Weak references hold nothing, and sqlite3 drops its own by the hundred."""
    gc.collect()
    # Not isinstance(): that asks the objects themselves, and some libraries have proxies which then load half of them.
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if not issubclass(kind, ReferenceType))


async def check_nothing_stays(visits: Callable[[int], Coroutine[Any, Any, None]], count: int, spare: int) -> None:
    """Whether there are as many objects after `count` visits as before, but for a few."""
    await visits(count // 4)  # what is made once is made now
    tasks = asyncio.all_tasks()
    before = objects()
    await visits(count)
    await until(lambda: asyncio.all_tasks() <= tasks, "no task is left")
    deadline = time.monotonic() + PATIENCE
    while (more := objects() - before).total() >= spare or "Subscription" in more:
        assert time.monotonic() < deadline, f"left behind by {count} visits: {more.most_common(10)}"
        await asyncio.sleep(0.2)  # what is forgotten bit by bit needs turns of the loop, which counting takes


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: visit.__name__)
async def test_who_has_gone_leaves_nothing_behind(broker: Broker, visit: Visit) -> None:
    await broker.publish("news", "retained")

    async def visits(count: int) -> None:
        await asyncio.gather(*(visit(broker, number) for number in range(count)))

    async with broker.subscribe("elsewhere", last_event_id="earliest") as subscription:
        for number in range(2):
            await broker.publish("elsewhere", number)
            await take(subscription, 1)  # the second one comes live: whatever hears of it is there from now on
    await check_nothing_stays(visits, 120, spare=100)
    assert data(await take(broker.subscribe("news", last_event_id="earliest"), 1)) == ["retained"]


async def test_subscriptions_to_ten_thousand_channels_leave_nothing_behind(broker: Broker) -> None:
    numbers = iter(range(20_000))

    async def come_and_go(count: int) -> None:
        async def some() -> None:
            for _ in range(count // 50):
                async with broker.subscribe(f"channel {next(numbers)}", last_event_id="no id") as subscription:
                    await take(subscription, 1)

        await asyncio.gather(*(some() for _ in range(50)))

    await check_nothing_stays(come_and_go, 10_000, spare=500)


async def test_ten_thousand_channels_that_were_used_are_forgotten(log: Log) -> None:
    async with Broker(**log, max_age=0.1, forget_after=0.1) as broker:
        numbers = iter(range(20_000))

        async def use(count: int) -> None:
            async def some() -> None:
                for _ in range(count // 100):
                    channel = f"channel {next(numbers)}"
                    await broker.publish(channel, "gone soon")
                    await broker.finish(channel)

            await asyncio.gather(*(some() for _ in range(100)))

        await check_nothing_stays(use, 10_000, spare=1_000)
        async with asyncio.timeout(PATIENCE):
            while await is_finished(broker, "channel 0"):
                await asyncio.sleep(0.01)


async def is_finished(broker: Broker, channel: str) -> bool:
    async with Connection(EventSourceResponse(broker.subscribe(channel))) as client:
        await client.until(lambda: client.messages)
    return bool(client.status == 204)
