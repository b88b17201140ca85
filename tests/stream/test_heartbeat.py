"""Pings: only into silence, only while the source is waited for, from one timer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.asgi import Connection
from tidings import EventSourceResponse
from tidings.stream.heartbeat import _TICK, Heartbeat

pytestmark = pytest.mark.anyio


async def idle() -> AsyncIterator[int]:
    await asyncio.Event().wait()
    yield 1


async def one_and_idle() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


async def test_silence_is_broken_by_a_ping_after_each_interval() -> None:
    async with Connection(EventSourceResponse(one_and_idle(), ping_interval=0.06)) as client:
        await client.until(b"data: 1\n\n: ping\n\n: ping\n\n")
        gaps = [later - earlier for earlier, later in zip(client.times[1:], client.times[2:], strict=False)]
        assert all(0.059 <= gap < 5 for gap in gaps), gaps


async def test_a_stream_that_is_not_silent_is_not_pinged() -> None:
    async def source() -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.3
        while loop.time() < end:
            yield 1
            await asyncio.sleep(0.001)

    async with Connection(EventSourceResponse(source(), ping_interval=0.25)) as client:
        await client.end()
    assert b"ping" not in client.body


@pytest.mark.parametrize("interval", [0, None])
async def test_pings_can_be_switched_off(interval: float | None) -> None:
    async with Connection(EventSourceResponse(one_and_idle(), ping_interval=interval)) as client:
        await client.until(b"data: 1")
        await asyncio.sleep(0.15)
        assert client.body == b"data: 1\n\n"


async def test_a_source_that_cannot_be_waited_for_gets_no_ping_while_the_client_does_not_read() -> None:
    async with Connection(EventSourceResponse(one_and_idle(), ping_interval=0.05)) as client:
        client.stop_reading()
        await client.until_blocked()
        await asyncio.sleep(0.2)
        assert b"ping" not in client.body
        client.read_on()
        await client.until(b": ping\n\n")
    assert client.body.startswith(b"data: 1\n\n")


async def test_a_ping_does_not_disturb_what_the_source_awaits() -> None:
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        await gate.wait()
        yield "undisturbed"

    async with Connection(EventSourceResponse(source(), ping_interval=0.05, start_delay=0)) as client:
        await client.until(b": ping\n\n: ping\n\n")
        gate.set()
        await client.end()
    assert client.body.endswith(b': ping\n\ndata: "undisturbed"\n\n')


class Stream:
    def __init__(self) -> None:
        self.looked_at: list[float] = []
        self.again = 1000.0

    def next_ping(self, now: float) -> float:
        self.looked_at.append(now)
        return now + self.again


def timers(loop: asyncio.AbstractEventLoop) -> int:
    return len([handle for handle in loop._scheduled if not handle.cancelled()])  # type: ignore[attr-defined]


async def test_a_thousand_streams_share_one_timer() -> None:
    loop = asyncio.get_running_loop()
    before = timers(loop)
    heartbeat = Heartbeat(loop)
    streams = [Stream() for _ in range(1000)]
    for number, stream in enumerate(streams):
        heartbeat.watch(stream, loop.time() + 15 + number / 1000)
    assert timers(loop) == before + 1
    for stream in streams:
        heartbeat.forget(stream)
    assert timers(loop) == before


async def test_a_thousand_connections_share_one_timer() -> None:
    loop = asyncio.get_running_loop()
    clients = [Connection(EventSourceResponse(one_and_idle(), cleanup_timeout=None)) for _ in range(1000)]
    for client in clients:
        await client.__aenter__()
    await clients[-1].until(b"data: 1")
    assert timers(loop) - 1 <= 1  # the other one is `until`'s, if it is there still
    for client in clients:
        client.disconnect()
    for client in clients:
        await client.__aexit__(None)
    assert timers(loop) == 0


async def test_a_stream_is_looked_at_when_it_asked_for_it_late_by_a_tick_at_the_most() -> None:
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(loop)
    stream = Stream()
    due = loop.time() + 0.03
    heartbeat.watch(stream, due)
    while not stream.looked_at:
        await asyncio.sleep(0.001)
    assert stream.looked_at[0] >= due - 0.001
    assert stream.looked_at[0] < due + _TICK + 5
    heartbeat.stop()


async def test_an_earlier_stream_moves_the_timer_forward() -> None:
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(loop)
    late, early = Stream(), Stream()
    heartbeat.watch(late, loop.time() + 1000)
    heartbeat.watch(early, loop.time() + 0.01)
    while not early.looked_at:
        await asyncio.sleep(0.001)
    assert late.looked_at == []
    heartbeat.stop()


async def test_a_stream_that_is_forgotten_is_not_looked_at() -> None:
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(loop)
    forgotten, kept = Stream(), Stream()
    heartbeat.watch(forgotten, loop.time())
    heartbeat.watch(kept, loop.time())
    heartbeat.forget(forgotten)
    heartbeat.forget(forgotten)
    while not kept.looked_at:
        await asyncio.sleep(0.001)
    assert forgotten.looked_at == []
    heartbeat.stop()
