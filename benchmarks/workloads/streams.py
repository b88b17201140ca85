"""One client, one stream; or many streams, and nothing on them."""

import statistics

from benchmarks.receive import Stream, connect, get_json, open_streams, receive_burst, receive_ticks
from benchmarks.server import Server
from benchmarks.workloads.workload import Figures, Stage, Workload

WARM_UP_ITEMS = 1_000
WARM_UP_TICKS = 20
WARM_UP_STREAMS = 20


def throughput(stage: Stage) -> Figures:
    items = stage.sizes.items
    with stage.serve("streams") as server:
        receive_burst(server.port, f"/quotes?n={WARM_UP_ITEMS}", WARM_UP_ITEMS)
        cpu = server.cpu()
        seconds = receive_burst(server.port, f"/quotes?n={items}", items)
        streams = 1
        while seconds < stage.sizes.streaming_seconds:
            seconds += receive_burst(server.port, f"/quotes?n={items}", items)
            streams += 1
        # Counted by the kernel in hundredths of a second: good for a second of streaming, rough for a quick run.
        cpu = server.cpu() - cpu
    events = items * streams
    return {
        "events_per_s": events / seconds,
        "cpu_us_per_event": cpu / events * 1e6,
        "cpu_share": cpu / seconds,
    }


def receive_finite_ticks(server: Server, n: int, interval: float) -> list[int]:
    with connect(server.port, f"/ticks?n={n}&interval={interval}") as client:
        stream = Stream(client)
        latencies = receive_ticks(stream, n)
        stream.wait_for_end()
    return latencies


def latency(stage: Stage) -> Figures:
    with stage.serve("streams") as server:
        receive_finite_ticks(server, WARM_UP_TICKS, stage.sizes.tick_interval)
        latencies = receive_finite_ticks(server, stage.sizes.ticks, stage.sizes.tick_interval)
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"p50_ms": percentiles[49] / 1e6, "p99_ms": percentiles[98] / 1e6, "max_ms": max(latencies) / 1e6}


def kib_per_connection(server: Server, path: str, count: int) -> float:
    """Resident memory of the server for each of so many idle connections."""
    # The first streams bring in what is imported and allocated once, however many follow.
    with open_streams(server.port, path, WARM_UP_STREAMS):
        server.settle()
    server.settle()
    before = server.rss()
    with open_streams(server.port, path, count):
        server.settle()
        after = server.rss()
    return (after - before) / count / 1024


def memory(stage: Stage) -> Figures:
    with stage.serve("streams") as server:
        return {"kib_per_stream": kib_per_connection(server, "/idle", stage.sizes.idle_streams)}


def tasks(stage: Stage) -> Figures:
    count = stage.sizes.counted_streams
    # One stream is open throughout: a task that a library runs once a process isn't a task of each stream.
    with stage.serve("streams") as server, open_streams(server.port, "/idle", 1):
        before = get_json(server.port, "/tasks")["tasks"]
        with open_streams(server.port, "/idle", count):
            during = get_json(server.port, "/tasks")["tasks"]
    return {"per_stream": (during - before) / count}


STREAMS = (
    Workload(
        "throughput",
        "One client, {sizes.items:,} typed items as fast as the stream takes them",
        throughput,
        {"events_per_s": "{:,.0f}", "cpu_us_per_event": "{:.2f}", "cpu_share": "{:.2f}"},
        servers=("streams",),
        more_is_better=True,
        busy="cpu_share",
    ),
    Workload(
        "latency",
        "An item that comes alone, from its yield to its receipt ({sizes.ticks:,} items)",
        latency,
        {"p50_ms": "{:.3f}", "p99_ms": "{:.3f}", "max_ms": "{:.1f}"},
        servers=("streams",),
        more_is_better=False,
    ),
    Workload(
        "memory",
        "Resident memory per idle stream ({sizes.idle_streams:,} of them)",
        memory,
        {"kib_per_stream": "{:.1f}"},
        servers=("streams",),
        more_is_better=False,
    ),
    Workload(
        "tasks",
        "asyncio tasks per open stream, the server's own included ({sizes.counted_streams:,} streams)",
        tasks,
        {"per_stream": "{:.2f}"},
        servers=("streams",),
        more_is_better=False,
        rounds=1,
    ),
)
