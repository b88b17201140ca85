"""What a broker says of itself: without asking its storage, and the same on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import astuple, fields, replace

import pytest

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import take, until
from tidings import Broker, EventSourceResponse
from tidings.broker import BrokerStatistics
from tidings.errors import BrokerClosed


def counts_of(broker: Broker) -> BrokerStatistics:
    """All but the lag, which differs from run to run."""
    return replace(broker.statistics(), lag=0.0)


async def test_a_broker_that_does_nothing_says_so(broker: Broker, log: Log) -> None:
    kind = log.get("url", "memory://").partition(":")[0]
    assert broker.statistics() == BrokerStatistics(kind, True, 0, 0, 0, 0.0, 0, 0, 0, 0)
    assert [type(value) for value in astuple(broker.statistics())] == [str, bool, int, int, int, float, *[int] * 4]
    assert len(fields(BrokerStatistics)) == 10


async def test_subscriptions_are_counted_and_those_that_have_not_taken_all(broker: Broker) -> None:
    nothing = broker.statistics()
    async with (
        Connection(EventSourceResponse(broker.subscribe("a", "b"))) as reading,
        Connection(EventSourceResponse(broker.subscribe("b", "c"))) as stalled,
    ):
        await reading.until(b":\n\n")
        await stalled.until(b":\n\n")
        both = replace(nothing, channels=3, subscriptions=2)
        await until(lambda: counts_of(broker) == both, "both wait")
        stalled.stop_reading()
        for number in range(3):
            await broker.publish("b", number)
            await reading.until(b"data: %d" % number)  # one write each: the first is with the server, and blocks there
        await until(lambda: counts_of(broker) == replace(both, behind=1, published=3), "one is behind")
        assert 0 <= broker.statistics().lag < 60
        stalled.read_on()
        await stalled.until(b"data: 2")
        await until(lambda: counts_of(broker) == replace(both, published=3), "it has caught up")
    await until(lambda: counts_of(broker) == replace(nothing, published=3), "both have gone")


async def test_resets_and_background_streams_are_counted(broker: Broker) -> None:
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        await go_on.wait()

    nothing = broker.statistics()
    async with broker.subscribe("job", last_event_id="never given out") as subscription:
        assert (await anext(subscription)).event == "reset"
        await broker.start("job", source())
        await take(subscription, 2)
        reading = counts_of(broker)
        # The broker's own channel, by which others have it stopped, is not among these.
        assert (reading.channels, reading.subscriptions) == (1, 1)
        await until(lambda: broker.statistics().published == 2, "they are known to be stored")
        assert (broker.statistics().resets, broker.statistics().background) == (1, 1)
        go_on.set()
        await until(lambda: broker.statistics().background == 0, "it has ended")
    await until(lambda: counts_of(broker) == replace(nothing, published=2, resets=1), "nobody reads")


async def test_a_broker_that_is_closed_has_nothing_to_say_and_begins_anew(log: Log) -> None:
    broker = Broker(**log)
    async with broker:
        await broker.publish("a", 1)
    with pytest.raises(BrokerClosed):
        broker.statistics()
    async with broker:
        assert broker.statistics().published == 0


async def test_any_thread_may_ask(broker: Broker) -> None:
    async with Connection(EventSourceResponse(broker.subscribe("a"))) as reading:
        await reading.until(b":\n\n")
        await until(lambda: not broker.statistics().behind, "it waits")
        assert await asyncio.to_thread(broker.statistics) == broker.statistics()
