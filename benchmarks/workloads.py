"""What is measured. Each workload gets a server of its own, just started, and returns figures by name."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.receive import get_json, open_streams, receive_burst, receive_ticks
from benchmarks.server import Server
from benchmarks.sizes import Sizes

Figures = dict[str, float]

WARM_UP_ITEMS = 1_000
WARM_UP_TICKS = 20
WARM_UP_STREAMS = 20


@dataclass(frozen=True)
class Workload:
    key: str
    title: str
    run: Callable[[Server, Sizes], Figures]
    figures: dict[str, str]
    """In the order of the report, each with the format it is printed in; peers are compared by the first."""
    more_is_better: bool
    rounds: int | None = None
    """Set where another round can only give the same answer."""


def throughput(server: Server, sizes: Sizes) -> Figures:
    receive_burst(server.port, f"/quotes?n={WARM_UP_ITEMS}", WARM_UP_ITEMS)
    cpu = server.cpu()
    seconds = receive_burst(server.port, f"/quotes?n={sizes.items}", sizes.items)
    streams = 1
    while seconds < sizes.streaming_seconds:
        seconds += receive_burst(server.port, f"/quotes?n={sizes.items}", sizes.items)
        streams += 1
    events = sizes.items * streams
    # Counted by the kernel in hundredths of a second: good for a second of streaming, rough for a quick run.
    cpu = server.cpu() - cpu
    return {
        "events_per_s": events / seconds,
        "cpu_us_per_event": cpu / events * 1e6,
        "cpu_share": cpu / seconds,
    }


def latency(server: Server, sizes: Sizes) -> Figures:
    receive_ticks(server.port, f"/ticks?n={WARM_UP_TICKS}&interval={sizes.tick_interval}", WARM_UP_TICKS)
    latencies = receive_ticks(server.port, f"/ticks?n={sizes.ticks}&interval={sizes.tick_interval}", sizes.ticks)
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"p50_ms": percentiles[49] / 1e6, "p99_ms": percentiles[98] / 1e6, "max_ms": max(latencies) / 1e6}


def memory(server: Server, sizes: Sizes) -> Figures:
    # The first streams bring in what is imported and allocated once, however many follow.
    with open_streams(server.port, "/idle", WARM_UP_STREAMS):
        server.settle()
    server.settle()
    before = server.rss()
    with open_streams(server.port, "/idle", sizes.idle_streams):
        server.settle()
        after = server.rss()
    return {"kib_per_stream": (after - before) / sizes.idle_streams / 1024}


def tasks(server: Server, sizes: Sizes) -> Figures:
    # One stream is open throughout: a task that a library runs once a process isn't a task of each stream.
    with open_streams(server.port, "/idle", 1):
        before = get_json(server.port, "/tasks")["tasks"]
        with open_streams(server.port, "/idle", sizes.counted_streams):
            during = get_json(server.port, "/tasks")["tasks"]
    return {"per_stream": (during - before) / sizes.counted_streams}


WORKLOADS = {
    workload.key: workload
    for workload in (
        Workload(
            "throughput",
            "One client, {sizes.items:,} typed items as fast as the stream takes them",
            throughput,
            {"events_per_s": "{:,.0f}", "cpu_us_per_event": "{:.2f}", "cpu_share": "{:.2f}"},
            more_is_better=True,
        ),
        Workload(
            "latency",
            "An item that comes alone, from its yield to its receipt ({sizes.ticks:,} items)",
            latency,
            {"p50_ms": "{:.3f}", "p99_ms": "{:.3f}", "max_ms": "{:.1f}"},
            more_is_better=False,
        ),
        Workload(
            "memory",
            "Resident memory per idle stream ({sizes.idle_streams:,} of them)",
            memory,
            {"kib_per_stream": "{:.1f}"},
            more_is_better=False,
        ),
        Workload(
            "tasks",
            "asyncio tasks per open stream, the server's own included ({sizes.counted_streams:,} streams)",
            tasks,
            {"per_stream": "{:.2f}"},
            more_is_better=False,
            rounds=1,
        ),
    )
}
