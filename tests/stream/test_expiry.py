"""Streams that end with the login they are for, and some time within a range."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.asgi import Connection, fetch
from tidings import Broker, EventSourceResponse
from tidings.stream import Ending, expiry
from tidings.testing.clock import advance

pytestmark = pytest.mark.anyio


class Wall:
    """In place of the module `time`: a clock on the wall that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr(expiry, "time", wall)
    return wall


async def waiting() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


def on_the_wall(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone(timedelta(hours=-9)))


@pytest.mark.parametrize("kind", [float, int, on_the_wall])
async def test_a_stream_ends_in_good_order_when_its_login_does(wall: Wall, kind: Any) -> None:
    response = EventSourceResponse(waiting(), expires_at=kind(wall.now + 3600), ping_interval=None)
    async with Connection(response) as client:
        await client.until(b"1")
        await advance(3590)
        assert not client.complete
        await advance(20)
        await client.end()
    assert client.complete
    assert response.ending is Ending.LIMIT


async def test_in_real_time() -> None:
    response = EventSourceResponse(waiting(), expires_at=datetime.now(UTC) + timedelta(seconds=0.2))
    began = time.monotonic()
    client = await fetch(response)
    assert (client.status, client.body, response.ending) == (200, b"data: 1\n\n", Ending.LIMIT)
    assert time.monotonic() - began > 0.1


async def test_a_machine_that_slept_through_the_end_ends_it_soon_after(wall: Wall) -> None:
    # While a machine sleeps the loop's clock stands still.
    response = EventSourceResponse(waiting(), expires_at=wall.now + 3600, ping_interval=None)
    async with Connection(response) as client:
        await client.until(b"1")
        await advance(60)
        wall.now += 8 * 3600
        await advance(expiry._LOOK)
        await client.end()
    assert response.ending is Ending.LIMIT


async def test_a_clock_that_is_set_back_gives_nobody_more(wall: Wall) -> None:
    response = EventSourceResponse(waiting(), expires_at=wall.now + 3600, ping_interval=None)
    async with Connection(response) as client:
        await client.until(b"1")
        wall.now -= 3600
        await advance(3601)
        await client.end()
    assert response.ending is Ending.LIMIT


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("past", [0.0, 1.0, 1e9])
async def test_a_login_that_is_over_already_is_401_and_the_source_does_not_begin(
    wall: Wall, past: float, method: str
) -> None:
    begun: list[int] = []

    async def source() -> AsyncIterator[int]:
        begun.append(1)
        yield 1

    client = await fetch(EventSourceResponse(source(), expires_at=wall.now - past), method=method)
    assert client.status == 401
    assert client.headers["www-authenticate"].startswith("Bearer")
    assert begun == []


async def test_what_was_published_before_the_end_is_sent_and_the_client_knows_where_it_stands(wall: Wall) -> None:
    async with Broker() as broker:
        response = EventSourceResponse(broker.subscribe("news"), expires_at=wall.now + 60, ping_interval=None)
        async with Connection(response) as client:
            await client.until(b":\n\n")
            elsewhere = await broker.publish("elsewhere", 0)
            await advance(70)
            await client.end()
        assert client.body == f":\n\nid: {elsewhere.partition('-')[0]}-0\n\n".encode()  # nothing was in its channel

        response = EventSourceResponse(
            broker.subscribe("news", last_event_id="earliest"), expires_at=wall.now + 60, ping_interval=None
        )
        async with Connection(response) as client:
            await client.until(b":\n\n")
            published = [await broker.publish("news", number) for number in range(3)]
            await advance(70)
            await client.end()
        assert [event.id for event in client.events] == published


async def test_a_login_that_ends_while_a_guard_is_asked_is_sent_nothing(wall: Wall) -> None:
    async def slow(channel: str) -> bool:
        wall.now += 61
        return True

    async with Broker() as broker:
        await broker.publish("news", "for readers alone")
        subscription = broker.subscribe("news", last_event_id="earliest", guard=slow)
        client = await fetch(EventSourceResponse(subscription, expires_at=wall.now + 60))
        assert client.status == 401
        assert b"for readers alone" not in client.body
        assert broker.statistics().subscriptions == 0


async def test_a_stream_that_ends_before_leaves_no_timer(wall: Wall) -> None:
    loop: Any = asyncio.get_running_loop()
    before = len([timer for timer in loop._scheduled if not timer.cancelled()])
    await fetch(EventSourceResponse([1], expires_at=wall.now + 3600))
    assert len([timer for timer in loop._scheduled if not timer.cancelled()]) == before


@pytest.mark.parametrize(
    "moment",
    [datetime(2030, 1, 1), "2030-01-01", True, float("nan"), float("inf"), -1, 1_800_000_000_000, timedelta(1)],
)
def test_a_moment_that_may_mean_several_or_none_is_refused(moment: Any) -> None:
    with pytest.raises(ValueError, match="'expires_at' must be an aware datetime"):
        EventSourceResponse([], expires_at=moment)


# -- a lifetime within a range ----------------------------------------------------------------------------------------


async def test_streams_that_begin_together_end_at_different_times_within_the_range() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    lasted: list[float] = []

    async def last() -> None:
        response = EventSourceResponse(waiting(), max_duration=(100, 200), ping_interval=None)
        async with Connection(response) as client:
            await asyncio.wait([client.task])
        assert response.ending is Ending.LIMIT
        lasted.append(loop.time() - began)

    streams = [asyncio.create_task(last()) for _ in range(50)]
    await asyncio.sleep(0)
    await advance(201)
    await asyncio.gather(*streams)
    assert 99 < min(lasted) < 130
    assert 170 < max(lasted) < 201
    assert len({round(seconds) for seconds in lasted}) > 20


@pytest.mark.parametrize("duration", [(2, 1), (0, 1), (1, float("inf")), (1,), (1, 2, 3), (1, "2"), [1, 2], ()])
def test_a_range_that_is_none_is_refused(duration: Any) -> None:
    with pytest.raises(ValueError, match="'max_duration' must be positive seconds"):
        EventSourceResponse([], max_duration=duration)
