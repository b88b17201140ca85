"""What a storage is good for: taking events, giving them back, passing them on to other processes."""

import statistics
import time

from benchmarks.audience import Audience
from benchmarks.publishing import CHANNEL, Load, publish_inside, publishing_inside, subscribe_path
from benchmarks.receive import LAZY_PAUSE, Stream, connect, get_json, open_streams, receive_ticks
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.wire import ReceiveError
from benchmarks.workloads.workload import Figures, Stage, Workload, server_folder

WARM_UP_EVENTS = 5


def publish_at_once(server: Server, count: int, publishers: int, channels: int = 1) -> float:
    """Seconds until all are acknowledged."""
    path = f"/publish-at-once?channel={CHANNEL}&n={count}&publishers={publishers}&channels={channels}"
    answer = get_json(server.port, path, "POST")
    sequences = [[int(id.rpartition("-")[2]) for id in ids] for ids in answer["ids"]]
    if len({sequence for own in sequences for sequence in own}) != count:
        raise ReceiveError("not every event has an id of its own")
    if any(own != sorted(own) for own in sequences):
        raise ReceiveError("a publisher's events aren't stored in its order")
    return float(answer["seconds"])


def publish(stage: Stage) -> Figures:
    sizes = stage.sizes
    count = sizes.publishes - sizes.publishes % sizes.publishers
    with stage.serve("sqlite") as server:
        publish_at_once(server, sizes.publishers, sizes.publishers)
        server.settle()
        cpu = server.cpu()
        seconds = publish_at_once(server, count, sizes.publishers)
        cpu = server.cpu() - cpu
    return {"publishes_per_s": count / seconds, "cpu_us_per_publish": cpu / count * 1e6, "cpu_share": cpu / seconds}


def resume(server: Server, last_event_id: str, count: int) -> float:
    """Seconds from the request of a client that missed `count` events to the last of them."""
    asked = time.monotonic_ns()
    with connect(server.port, subscribe_path(), last_event_id) as client:
        audience = Audience([Stream(client)])
        try:
            hearing = audience.hear(count, LAZY_PAUSE)
            audience.check(count)
        finally:
            audience.close()
    return (hearing.finished - asked) / 1e9


def replayed_per_s(server: Server, sizes: Sizes) -> float:
    count = sizes.replayed
    last_event_id = publish_inside(server.port, 1)
    publish_inside(server.port, count)
    server.settle()
    resume(server, last_event_id, count)
    seconds, times = 0.0, 0
    while seconds < sizes.streaming_seconds:
        seconds += resume(server, last_event_id, count)
        times += 1
    return count * times / seconds


def replay(stage: Stage) -> Figures:
    with stage.serve("retained") as server:
        memory = replayed_per_s(server, stage.sizes)
    with stage.serve("sqlite, retained") as server:
        sqlite = replayed_per_s(server, stage.sizes)
    return {"memory_events_per_s": memory, "sqlite_events_per_s": sqlite}


def wakeup(stage: Stage) -> Figures:
    sizes = stage.sizes
    with (
        server_folder() as folder,
        stage.serve_in(folder, "sqlite") as publisher,
        stage.serve_in(folder, "sqlite") as other,
        open_streams(other.port, subscribe_path(), 1) as [stream],
    ):
        with publishing_inside(publisher.port, Load(WARM_UP_EVENTS, sizes.wakeup_pace)):
            receive_ticks(stream, WARM_UP_EVENTS)
        with publishing_inside(publisher.port, Load(sizes.wakeups, sizes.wakeup_pace)):
            latencies = receive_ticks(stream, sizes.wakeups)
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"p50_ms": percentiles[49] / 1e6, "p99_ms": percentiles[98] / 1e6, "max_ms": max(latencies) / 1e6}


STORAGES = (
    Workload(
        "publish",
        "{sizes.publishers} publishers at once in one process, {sizes.publishes:,} events acknowledged by SQLite",
        publish,
        {"publishes_per_s": "{:,.0f}", "cpu_us_per_publish": "{:.1f}", "cpu_share": "{:.2f}"},
        servers=("sqlite",),
        more_is_better=True,
    ),
    Workload(
        "replay",
        "One client that resumes, {sizes.replayed:,} retained events",
        replay,
        {"memory_events_per_s": "{:,.0f}", "sqlite_events_per_s": "{:,.0f}"},
        servers=("retained", "sqlite, retained"),
        more_is_better=True,
    ),
    Workload(
        "wakeup",
        "An event published in one process, received by a client of another; both have the same SQLite file",
        wakeup,
        {"p50_ms": "{:.2f}", "p99_ms": "{:.2f}", "max_ms": "{:.1f}"},
        servers=("sqlite",),
        more_is_better=False,
    ),
)
