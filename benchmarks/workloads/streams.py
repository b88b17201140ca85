"""One client, one stream; or many streams, and nothing on them."""

import statistics
import time
from contextlib import ExitStack
from functools import partial

from benchmarks.audience import Audience, last_mark
from benchmarks.receive import Stream, connect, get_json, open_streams, receive_burst, receive_ticks
from benchmarks.server import Server
from benchmarks.sizes import Sizes
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


def answers(stage: Stage) -> Figures:
    """The receiver looks without a pause: its own waking up is no part of a delay. The first tokens warm everything
    up, and are counted but not timed."""
    streams, tokens = stage.sizes.token_streams, stage.sizes.stream_tokens
    interval = 1 / stage.sizes.token_pace
    path = f"/ticks?n={tokens}&interval={interval}"
    last = last_mark(tokens)
    audience = Audience()
    with stage.serve("streams") as server, ExitStack() as stack:
        stack.callback(audience.close)
        receive_finite_ticks(server, WARM_UP_TICKS, stage.sizes.tick_interval)
        cpu = server.cpu()
        started = time.monotonic()
        for number in range(streams):
            # One after the other in the time from one token to the next, so that no two have theirs at once.
            while time.monotonic() < started + number * interval / streams:
                audience.look(last)
            audience.add(Stream(stack.enter_context(connect(server.port, path))))
        hearing = audience.hear(tokens, pause=0.0)
        cpu = server.cpu() - cpu
        delays = audience.latencies(tokens, WARM_UP_TICKS)
    percentiles = statistics.quantiles(delays, n=100, method="inclusive")
    return {
        "p99_ms": percentiles[98] / 1e6,
        "p50_ms": percentiles[49] / 1e6,
        "max_ms": max(delays) / 1e6,
        "cpu_us_per_token": cpu / (streams * tokens) * 1e6,
        "receiver_share": hearing.receiver_share,
    }


def kib_per_connection(server: Server, path: str, sizes: Sizes) -> list[float]:
    """Resident memory of the server for each of its idle connections: first of some, then of many."""
    # The first streams bring in what is imported and allocated once, however many follow.
    with open_streams(server.port, path, WARM_UP_STREAMS):
        server.settle()
    server.settle()
    before = server.rss()
    figures = []
    with ExitStack() as stack:
        opened = 0
        for count in (sizes.idle_streams, sizes.many_streams):
            stack.enter_context(open_streams(server.port, path, count - opened))
            opened = count
            server.settle()
            figures.append((server.rss() - before) / count / 1024)
    return figures


def memory(stage: Stage, server: str = "streams") -> Figures:
    with stage.serve(server) as serving:
        some, many = kib_per_connection(serving, "/idle", stage.sizes)
    return {"kib_per_stream": some, "kib_of_many": many}


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
        "answers",
        "{sizes.token_streams} streams of {sizes.token_pace:.0f} tokens a second each, from `yield` to receipt",
        answers,
        {
            "p99_ms": "{:.3f}",
            "p50_ms": "{:.3f}",
            "max_ms": "{:.1f}",
            "cpu_us_per_token": "{:.1f}",
            "receiver_share": "{:.2f}",
        },
        servers=("streams",),
        more_is_better=False,
        busy="receiver_share",
        fair_share=0.97,
    ),
    Workload(
        "memory",
        "Resident memory per idle stream ({sizes.idle_streams:,} of them, and {sizes.many_streams:,})",
        memory,
        {"kib_per_stream": "{:.1f}", "kib_of_many": "{:.1f}"},
        servers=("streams",),
        more_is_better=False,
        rounds=1,
    ),
    Workload(
        "bare_memory",
        "The same of a bare ASGI application, without a framework",
        partial(memory, server="bare"),
        {"kib_per_stream": "{:.1f}", "kib_of_many": "{:.1f}"},
        servers=("bare",),
        more_is_better=False,
        rounds=1,
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
