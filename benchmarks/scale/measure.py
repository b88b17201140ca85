"""Finds out what a process costs as it grows, and whether the model foretells sizes that it wasn't made from."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import NamedTuple

from benchmarks import redis_server
from benchmarks.peers import PEERS
from benchmarks.publishing import Load, publishing_inside, subscribe_path
from benchmarks.receive import open_streams
from benchmarks.scale.capacity import Costs
from benchmarks.server import Server, processors, serving
from benchmarks.workloads.channels import audience_of
from benchmarks.workloads.workload import server_folder
from tidings import Broker, Subscription

__all__ = ["Check", "Sizes", "measure"]

MILLION = 1_000_000
WARM_UP_STREAMS = 50
LOOK_S = 0.001
"""Seconds between two looks of the receiver: blocked, it would be woken by each write at the server's expense."""
READ_TIMEOUT_S = 60.0
CHANNEL = "prices"


@dataclass(frozen=True)
class Sizes:
    """What the model is made from, and, of each, the larger one that it is to foretell."""

    subscribers: tuple[int, ...] = (250, 500, 1_000, 2_000)
    more_subscribers: int = 4_000
    rate: float = 10.0
    seconds: float = 6.0
    processes: tuple[int, ...] = (1, 4, 16)
    more_processes: int = 32
    published: int = 4_000
    rounds: int = 3


@dataclass(frozen=True)
class Check:
    """What the model says of a size, and what was measured."""

    what: str
    unit: str
    foretold: float
    measured: float


class _Point(NamedTuple):
    """One process with so many subscribers; µs are of its processor."""

    base_mib: float
    mib: float
    open_us: float
    us_per_event: float


def measure(sizes: Sizes) -> tuple[Costs, list[Check]]:
    """The costs, and how well they foretell."""
    points = {n: _median_point(n, sizes) for n in (*sizes.subscribers, sizes.more_subscribers)}
    redis = {n: _redis_us(n, sizes) for n in (*sizes.processes, sizes.more_processes)}
    small = [points[n] for n in sizes.subscribers]
    write_us, event_us = linear_regression(sizes.subscribers, [point.us_per_event for point in small])
    subscriber_mib, base_mib = linear_regression(sizes.subscribers, [point.mib for point in small])
    notify_us, publish_us = linear_regression(sizes.processes, [redis[n] for n in sizes.processes])
    costs = Costs(
        base_mib=base_mib,
        subscriber_kib=subscriber_mib * 1024,
        write_us=write_us,
        event_us=max(0.0, event_us),
        open_us=median(point.open_us for point in small),
        redis_publish_us=publish_us,
        redis_notify_us=notify_us,
    )
    large = points[sizes.more_subscribers]
    share = large.us_per_event * sizes.rate / MILLION
    count = f"{sizes.more_subscribers:,} subscribers"
    checks = [
        Check(f"processor, {count}, {sizes.rate:.0f} events/s", "share", _share(costs, sizes), share),
        Check(f"resident memory, {count}", "MiB", costs.mib(sizes.more_subscribers), large.mib),
        Check(f"opening {count}", "µs each", costs.open_us, large.open_us),
        Check(
            f"redis-server, an event of which {sizes.more_processes} brokers are told",
            "µs",
            costs.redis_us(sizes.more_processes),
            redis[sizes.more_processes],
        ),
    ]
    return costs, checks


def _share(costs: Costs, sizes: Sizes) -> float:
    return costs.share(sizes.more_subscribers, sizes.rate)


def _median_point(subscribers: int, sizes: Sizes) -> _Point:
    points = [_point(subscribers, sizes) for _ in range(sizes.rounds)]
    return _Point(*(median(values) for values in zip(*points, strict=True)))


def _point(subscribers: int, sizes: Sizes) -> _Point:
    processor, _ = processors()
    with server_folder() as folder, serving(PEERS["tidings"].servers["channels"], processor, folder) as server:
        with open_streams(server.port, subscribe_path(), WARM_UP_STREAMS):
            server.settle()
        server.settle()
        base, cpu = server.rss(), server.cpu()
        with open_streams(server.port, subscribe_path(), subscribers):
            server.settle()
            opened, mib = server.cpu() - cpu, server.rss()
        server.settle()
        us_per_event = _us_per_event(server, subscribers, sizes)
        return _Point(base / 2**20, mib / 2**20, opened / subscribers * MILLION, us_per_event)


def _us_per_event(server: Server, subscribers: int, sizes: Sizes) -> float:
    events = round(sizes.rate * sizes.seconds)
    with audience_of(server, subscribers, publishing_inside) as audience:
        cpu = server.cpu()
        with publishing_inside(server.port, Load(events, sizes.rate)):
            audience.hear(events, LOOK_S)
        server.settle()
        cpu = server.cpu() - cpu
        audience.check(events)
    return cpu / events * MILLION


def _redis_us(processes: int, sizes: Sizes) -> float:
    return median(_redis_us_once(processes, sizes) for _ in range(sizes.rounds))


def _redis_us_once(processes: int, sizes: Sizes) -> float:
    """Of redis-server's processor, for an event. The brokers share this process: what is asked is what they cost it."""
    processor, _ = processors()
    with server_folder() as folder, serving(redis_server.command, processor, folder) as redis:
        url = (Path(folder) / redis_server.URL).read_text()
        return asyncio.run(_publish(url, processes, sizes.published, redis)) / sizes.published * MILLION


async def _publish(url: str, processes: int, count: int, redis: Server) -> float:
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(Broker(url)) for _ in range(processes)]
        publisher = await stack.enter_async_context(Broker(url))
        subscriptions = [broker.subscribe(CHANNEL, last_event_id="earliest") for broker in brokers]
        async with asyncio.timeout(READ_TIMEOUT_S), asyncio.TaskGroup() as readers:
            await publisher.publish(CHANNEL, {"sequence": -1})
            for subscription in subscriptions:
                await anext(subscription)  # so it has begun, and its process is told of the next ones
                readers.create_task(_read(subscription, count))
            cpu = redis.cpu()
            for sequence in range(count):
                await publisher.publish(
                    CHANNEL, {"sequence": sequence, "price": 101.25, "volume": 300, "venue": "XSTO"}
                )
        return redis.cpu() - cpu


async def _read(subscription: Subscription, count: int) -> None:
    """Everything, in order."""
    for expected in range(count):
        event = await anext(subscription)
        if event.data["sequence"] != expected:
            raise RuntimeError(f"event {event.data['sequence']} came instead of {expected}")
