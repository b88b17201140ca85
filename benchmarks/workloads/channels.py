"""Many subscribers, of one channel or of many."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.audience import Audience
from benchmarks.publishing import CHANNEL, Load, Publishing, subscribe_path
from benchmarks.receive import open_each
from benchmarks.server import Server
from benchmarks.traffic import channel_names
from benchmarks.workloads.streams import kib_per_connection
from benchmarks.workloads.workload import Figures, Stage, Workload

WARM_UP_EVENTS = 5
# Seconds between two looks at all subscribers, for fewer and larger reads. As much may be missing to the right moment
# of a burst's end.
BURST_PAUSE = 0.005


@contextmanager
def audience_of(
    server: Server, subscribers: int, publishing: Publishing, publisher: Server | None = None, *, channels: int = 1
) -> Iterator[Audience]:
    """Subscribers that have had their first events, from another server maybe; as many of each channel."""
    paths = [subscribe_path(name) for name in channel_names(CHANNEL, channels)] * (subscribers // channels)
    with open_each(server.port, paths) as streams:
        audience = Audience(streams)
        try:
            server.settle()
            with publishing((publisher or server).port, Load(WARM_UP_EVENTS, channels=channels)):
                audience.hear(WARM_UP_EVENTS, BURST_PAUSE)
            audience.check(WARM_UP_EVENTS)
            server.settle()
            yield audience
        finally:
            audience.close()


def saturated(stage: Stage, server: Server, audience: Audience, load: Load, seconds: float = 0.0) -> Figures:
    """Bursts, each published as fast as possible, until they have taken this long."""
    bursts, took, cpu, receiver = 0, 0.0, 0.0, 0.0
    while not bursts or took < seconds:
        cpu_before = server.cpu()
        with stage.peer.publishing(server.port, load):
            hearing = audience.hear(load.count, BURST_PAUSE)
        cpu += server.cpu() - cpu_before
        published = audience.check(load.count)
        took += (hearing.finished - published[0]["at"]) / 1e9
        receiver += hearing.receiver_share
        bursts += 1
    deliveries = bursts * load.count * len(audience)
    return {
        "deliveries_per_s": deliveries / took,
        "cpu_us_per_delivery": cpu / deliveries * 1e6,
        "cpu_share": cpu / took,
        "receiver_share": receiver / bursts,
    }


def paced(stage: Stage, server: Server, audience: Audience, load: Load) -> Figures:
    """From publish to receipt. The receiver looks without a pause: its own waking up is no part of it."""
    with stage.peer.publishing(server.port, load):
        hearing = audience.hear(load.count, pause=0.0)
    latencies = audience.latencies(load.count)
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "p99_ms": percentiles[98] / 1e6,
        "p50_ms": percentiles[49] / 1e6,
        "max_ms": max(latencies) / 1e6,
        "receiver_share": hearing.receiver_share,
    }


def fanout(stage: Stage) -> Figures:
    load = Load(max(WARM_UP_EVENTS, round(stage.peer.burst * stage.sizes.burst_share)))
    with (
        stage.serve("channels") as server,
        audience_of(server, stage.sizes.subscribers, stage.peer.publishing) as audience,
    ):
        return saturated(stage, server, audience, load)


def fanout_latency(stage: Stage) -> Figures:
    with (
        stage.serve("channels") as server,
        audience_of(server, stage.sizes.subscribers, stage.peer.publishing) as audience,
    ):
        return paced(stage, server, audience, Load(stage.sizes.paced, stage.sizes.pace))


def many_channels(stage: Stage) -> Figures:
    sizes = stage.sizes
    subscribers = sizes.many_channels * sizes.channel_subscribers
    load = Load(sizes.channel_events, channels=sizes.many_channels)
    with (
        stage.serve("channels") as server,
        audience_of(server, subscribers, stage.peer.publishing, channels=load.channels) as audience,
    ):
        return saturated(stage, server, audience, load, sizes.streaming_seconds)


def channel_memory(stage: Stage) -> Figures:
    with stage.serve("channels") as server:
        some, many = kib_per_connection(server, subscribe_path(), stage.sizes)
    return {"kib_per_subscriber": some, "kib_of_many": many}


SATURATED = {
    "deliveries_per_s": "{:,.0f}",
    "cpu_us_per_delivery": "{:.2f}",
    "cpu_share": "{:.2f}",
    "receiver_share": "{:.2f}",
}
PACED = {"p99_ms": "{:.1f}", "p50_ms": "{:.1f}", "max_ms": "{:.1f}", "receiver_share": "{:.2f}"}


CHANNELS = (
    Workload(
        "fanout",
        "{sizes.subscribers:,} subscribers of one channel, published as fast as possible",
        fanout,
        SATURATED,
        servers=("channels",),
        more_is_better=True,
        busy="cpu_share",
    ),
    Workload(
        "fanout_latency",
        "{sizes.pace:.0f} events a second to {sizes.subscribers:,} subscribers, from publish to receipt",
        fanout_latency,
        PACED,
        servers=("channels",),
        more_is_better=False,
        busy="receiver_share",
        fair_share=0.97,
    ),
    Workload(
        "many_channels",
        "{sizes.many_channels:,} channels of {sizes.channel_subscribers} subscribers, published as fast as possible",
        many_channels,
        SATURATED,
        servers=("channels",),
        more_is_better=True,
        busy="cpu_share",
    ),
    Workload(
        "channel_memory",
        "Resident memory per idle subscriber of a channel ({sizes.idle_streams:,} of them, and {sizes.many_streams:,})",
        channel_memory,
        {"kib_per_subscriber": "{:.1f}", "kib_of_many": "{:.1f}"},
        servers=("channels",),
        more_is_better=False,
        rounds=1,
    ),
)
