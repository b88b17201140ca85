"""Many subscribers of one channel."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.audience import Audience
from benchmarks.publishing import Publishing, subscribe_path
from benchmarks.receive import open_streams
from benchmarks.server import Server
from benchmarks.workloads.streams import kib_per_connection
from benchmarks.workloads.workload import Figures, Stage, Workload

WARM_UP_EVENTS = 5
# Seconds between two looks at all subscribers, for fewer and larger reads. As much may be missing to the right moment
# of a burst's end.
BURST_PAUSE = 0.005


@contextmanager
def audience_of(
    server: Server, subscribers: int, publishing: Publishing, publisher: Server | None = None
) -> Iterator[Audience]:
    """Subscribers that have had their first events, from another server maybe."""
    with open_streams(server.port, subscribe_path(), subscribers) as streams:
        audience = Audience(streams)
        try:
            server.settle()
            with publishing((publisher or server).port, WARM_UP_EVENTS, 0.0):
                audience.hear(WARM_UP_EVENTS, BURST_PAUSE)
            audience.check(WARM_UP_EVENTS)
            server.settle()
            yield audience
        finally:
            audience.close()


def fanout(stage: Stage) -> Figures:
    events = max(WARM_UP_EVENTS, round(stage.peer.burst * stage.sizes.burst_share))
    with (
        stage.serve("channels") as server,
        audience_of(server, stage.sizes.subscribers, stage.peer.publishing) as audience,
    ):
        cpu = server.cpu()
        with stage.peer.publishing(server.port, events, 0.0):
            hearing = audience.hear(events, BURST_PAUSE)
        cpu = server.cpu() - cpu
        published = audience.check(events)
    seconds = (hearing.finished - published[0]["at"]) / 1e9
    deliveries = events * stage.sizes.subscribers
    return {
        "deliveries_per_s": deliveries / seconds,
        "cpu_us_per_delivery": cpu / deliveries * 1e6,
        "cpu_share": cpu / seconds,
        "receiver_share": hearing.receiver_share,
    }


def fanout_latency(stage: Stage) -> Figures:
    events = stage.sizes.paced
    with (
        stage.serve("channels") as server,
        audience_of(server, stage.sizes.subscribers, stage.peer.publishing) as audience,
    ):
        with stage.peer.publishing(server.port, events, stage.sizes.pace):
            hearing = audience.hear(events, pause=0.0)
        latencies = audience.latencies(events)
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "p99_ms": percentiles[98] / 1e6,
        "p50_ms": percentiles[49] / 1e6,
        "max_ms": max(latencies) / 1e6,
        "receiver_share": hearing.receiver_share,
    }


def channel_memory(stage: Stage) -> Figures:
    with stage.serve("channels") as server:
        return {"kib_per_subscriber": kib_per_connection(server, subscribe_path(), stage.sizes.idle_streams)}


CHANNELS = (
    Workload(
        "fanout",
        "{sizes.subscribers:,} subscribers of one channel, published as fast as possible",
        fanout,
        {
            "deliveries_per_s": "{:,.0f}",
            "cpu_us_per_delivery": "{:.2f}",
            "cpu_share": "{:.2f}",
            "receiver_share": "{:.2f}",
        },
        servers=("channels",),
        more_is_better=True,
        busy="cpu_share",
    ),
    Workload(
        "fanout_latency",
        "{sizes.pace:.0f} events a second to {sizes.subscribers:,} subscribers, from publish to receipt",
        fanout_latency,
        {"p99_ms": "{:.1f}", "p50_ms": "{:.1f}", "max_ms": "{:.1f}", "receiver_share": "{:.2f}"},
        servers=("channels",),
        more_is_better=False,
        busy="receiver_share",
        fair_share=0.97,
    ),
    Workload(
        "channel_memory",
        "Resident memory per idle subscriber of a channel ({sizes.idle_streams:,} of them)",
        channel_memory,
        {"kib_per_subscriber": "{:.1f}"},
        servers=("channels",),
        more_is_better=False,
    ),
)
