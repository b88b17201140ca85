"""Claims: of all who claim one key, one gets it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.broker.conftest import Log
from tests.broker.contract.reading import data, take
from tidings import Broker
from tidings.errors import BrokerClosed


async def test_a_key_is_claimed_once(broker: Broker) -> None:
    assert await broker.claim("seat 1", 60)
    assert not await broker.claim("seat 1", 60)
    assert await broker.claim("seat 2", 0.5)


async def test_of_many_who_claim_a_key_at_once_one_gets_it(broker: Broker) -> None:
    claims = await asyncio.gather(*(broker.claim(f"seat {number % 10}", 60) for number in range(200)))
    assert [sum(claims[seat::10]) for seat in range(10)] == [1] * 10


async def test_a_claim_runs_out(broker: Broker) -> None:
    assert await broker.claim("seat", 0.2)
    assert not await broker.claim("seat", 60)  # nor is the first claim made longer by this
    granted = False
    async with asyncio.timeout(10):
        while not granted:
            await asyncio.sleep(0.02)
            granted = await broker.claim("seat", 60)
    assert not await broker.claim("seat", 60)


async def test_a_claim_outlives_the_closing_of_the_broker(log: Log) -> None:
    broker = Broker(**log)
    async with broker:
        assert await broker.claim("seat", 60)
    async with broker:
        assert not await broker.claim("seat", 60)


async def test_claims_and_channels_have_nothing_to_do_with_each_other(broker: Broker) -> None:
    await broker.publish("news", 1)
    assert await broker.claim("news", 60)
    await broker.publish("news", 2)
    assert data(await take(broker.subscribe("news", last_event_id="earliest"), 2)) == [1, 2]
    assert [channel.name for channel in await broker.channels()] == ["news"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "\ud800", 1, None])
async def test_a_key_that_is_none_is_refused(broker: Broker, key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="'key'"):
        await broker.claim(key, 60)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), None, "60", True])
async def test_a_time_that_is_none_is_refused(broker: Broker, seconds: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="'seconds'"):
        await broker.claim("seat", seconds)


async def test_nothing_is_claimed_at_a_broker_that_is_not_open(log: Log) -> None:
    broker = Broker(**log)
    with pytest.raises(BrokerClosed):
        await broker.claim("seat", 60)
