"""Several servers on one redis-server."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import redis_server
from benchmarks.publishing import Load, publishing_inside
from benchmarks.receive import LAZY_PAUSE
from benchmarks.server import Server, serving
from benchmarks.workloads.channels import BURST_PAUSE, audience_of
from benchmarks.workloads.storages import publish_at_once, replayed_per_s
from benchmarks.workloads.workload import Figures, Stage, Workload, server_folder


@contextmanager
def redis_in(folder: Path) -> Iterator[Server]:
    """On this process's processor, as it would not be on that of the server that is measured."""
    with serving(redis_server.command, None, folder) as redis:
        yield redis


def redis_publish(stage: Stage) -> Figures:
    sizes = stage.sizes
    publishers = sizes.redis_publishers
    count = sizes.publishes - sizes.publishes % publishers
    with server_folder() as folder, redis_in(folder) as redis, stage.serve_in(folder, "redis") as server:
        publish_at_once(server, publishers, publishers)
        server.settle()
        cpu, redis_cpu = server.cpu(), redis.cpu()
        seconds = publish_at_once(server, count, publishers)
        cpu, redis_cpu = server.cpu() - cpu, redis.cpu() - redis_cpu
        apart = publish_at_once(server, count, publishers, channels=publishers)
    return {
        "publishes_per_s": count / seconds,
        "channels_per_s": count / apart,
        "cpu_us_per_publish": cpu / count * 1e6,
        "redis_us_per_publish": redis_cpu / count * 1e6,
    }


def redis_latency(stage: Stage) -> Figures:
    """The receiver pauses after each look: so many single reads would nearly fill its processor, and show what else
    happens there."""
    events = stage.sizes.redis_paced
    with (
        server_folder() as folder,
        serving(redis_server.command, stage.processor, folder),
        stage.serve_in(folder, "redis") as publisher,
        stage.serve_in(folder, "redis") as server,
        audience_of(server, stage.sizes.redis_subscribers, publishing_inside, publisher) as audience,
    ):
        with publishing_inside(publisher.port, Load(events, stage.sizes.redis_pace)):
            hearing = audience.hear(events, LAZY_PAUSE)
        latencies = audience.latencies(events)
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "p50_ms": percentiles[49] / 1e6,
        "p99_ms": percentiles[98] / 1e6,
        "max_ms": max(latencies) / 1e6,
        "receiver_share": hearing.receiver_share,
    }


def deliveries_per_s(server: Server, publisher: Server, stage: Stage) -> float:
    events = round(stage.peer.burst * stage.sizes.burst_share)
    with audience_of(server, stage.sizes.subscribers, publishing_inside, publisher) as audience:
        with publishing_inside(publisher.port, Load(events)):
            hearing = audience.hear(events, BURST_PAUSE)
        published = audience.check(events)
    seconds = (hearing.finished - int(published[0]["at"])) / 1e9
    return events * stage.sizes.subscribers / seconds


def redis_fanout(stage: Stage) -> Figures:
    """From Redis and from memory in turn, so that the machine is the same for both."""
    with (
        server_folder() as folder,
        redis_in(folder),
        serving(stage.peer.servers["redis"], None, folder) as publisher,
        stage.serve_in(folder, "redis") as server,
    ):
        redis = deliveries_per_s(server, publisher, stage)
    with stage.serve("channels") as server:
        memory = deliveries_per_s(server, server, stage)
    return {
        "deliveries_per_s": redis,
        "memory_deliveries_per_s": memory,
        "times_memory": redis / memory,
    }


def redis_replay(stage: Stage) -> Figures:
    with server_folder() as folder, redis_in(folder), stage.serve_in(folder, "redis, retained") as server:
        return {"events_per_s": replayed_per_s(server, stage.sizes)}


REDIS = (
    Workload(
        "redis_publish",
        "{sizes.redis_publishers} publishers at once in one process, {sizes.publishes:,} events acknowledged by Redis",
        redis_publish,
        {
            "publishes_per_s": "{:,.0f}",
            "channels_per_s": "{:,.0f}",
            "cpu_us_per_publish": "{:.1f}",
            "redis_us_per_publish": "{:.1f}",
        },
        servers=("redis",),
        missing=redis_server.missing,
        more_is_better=True,
    ),
    Workload(
        "redis_latency",
        "{sizes.redis_pace:.0f} events a second to {sizes.redis_subscribers} subscribers of another process, on Redis",
        redis_latency,
        {"p50_ms": "{:.2f}", "p99_ms": "{:.2f}", "max_ms": "{:.1f}", "receiver_share": "{:.2f}"},
        servers=("redis",),
        missing=redis_server.missing,
        more_is_better=False,
    ),
    Workload(
        "redis_fanout",
        "{sizes.subscribers:,} subscribers, published as fast as possible by another process, on Redis",
        redis_fanout,
        {
            "deliveries_per_s": "{:,.0f}",
            "memory_deliveries_per_s": "{:,.0f}",
            "times_memory": "{:.2f}",
        },
        servers=("redis", "channels"),
        missing=redis_server.missing,
        more_is_better=True,
    ),
    Workload(
        "redis_replay",
        "One client that resumes, {sizes.replayed:,} events retained by Redis",
        redis_replay,
        {"events_per_s": "{:,.0f}"},
        servers=("redis, retained",),
        missing=redis_server.missing,
        more_is_better=True,
    ),
)
