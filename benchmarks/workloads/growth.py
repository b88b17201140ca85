"""What a delivery costs as everything grows: each of these is measured at several points."""

from functools import partial

from benchmarks.publishing import Load, subscribe_path
from benchmarks.receive import open_streams
from benchmarks.workloads.channels import WARM_UP_EVENTS, audience_of, paced, saturated
from benchmarks.workloads.streams import WARM_UP_STREAMS
from benchmarks.workloads.workload import Figures, Stage, Workload

# Of one burst. nchan keeps 10,000 events of a channel; the receiver holds what a burst delivers until it is checked.
MOST_EVENTS = 5_000
MOST_PUBLISHES = 20_000
MOST_BYTES = 200 << 20


def burst(stage: Stage) -> Load:
    sizes = stage.sizes
    wanted = stage.peer.burst * sizes.burst_share * 1_000 / sizes.subscribers
    most = min(MOST_EVENTS, MOST_PUBLISHES // sizes.channels, MOST_BYTES // (sizes.subscribers * sizes.event_size))
    return Load(max(WARM_UP_EVENTS, min(round(wanted), most)), channels=sizes.channels, size=sizes.event_size)


def grow(stage: Stage, pace_share: float = 1.0) -> Figures:
    sizes = stage.sizes
    pace = sizes.pace * pace_share
    events = max(WARM_UP_EVENTS, round(sizes.paced * pace_share / 2))
    if sizes.event_size * sizes.subscribers * events > MOST_BYTES:
        events = max(WARM_UP_EVENTS, MOST_BYTES // (sizes.event_size * sizes.subscribers))
    with stage.serve("channels") as server:
        with open_streams(server.port, subscribe_path(), WARM_UP_STREAMS):
            server.settle()
        server.settle()
        before = server.rss()
        with audience_of(server, sizes.subscribers, stage.peer.publishing, channels=sizes.channels) as audience:
            kib = (server.rss() - before) / len(audience) / 1024
            fast = saturated(stage, server, audience, burst(stage), sizes.streaming_seconds)
            server.settle()
            late = paced(stage, server, audience, Load(events, pace, sizes.channels, sizes.event_size))
    return {
        "deliveries_per_s": fast["deliveries_per_s"],
        "cpu_us_per_delivery": fast["cpu_us_per_delivery"],
        "cpu_share": fast["cpu_share"],
        "p99_ms": late["p99_ms"],
        "p50_ms": late["p50_ms"],
        "kib_per_subscriber": kib,
        "receiver_share": late["receiver_share"],
    }


def growth(key: str, title: str, by: str, pace_share: float = 1.0) -> Workload:
    return Workload(
        key,
        title,
        partial(grow, pace_share=pace_share),
        {
            "deliveries_per_s": "{:,.0f}",
            "cpu_us_per_delivery": "{:.2f}",
            "cpu_share": "{:.2f}",
            "p99_ms": "{:.2f}",
            "p50_ms": "{:.2f}",
            "kib_per_subscriber": "{:.1f}",
            "receiver_share": "{:.2f}",
        },
        servers=("channels",),
        only=("tidings", "nchan"),
        more_is_better=True,
        by=by,
        busy="receiver_share",
    )


GROWTH = (
    growth(
        "grow_subscribers",
        "More subscribers of one channel: as fast as possible, and {sizes.pace:.0f} events a second",
        "subscribers",
    ),
    # A quarter of the pace: at the last point each subscriber has a channel of its own.
    growth(
        "grow_channels",
        "{sizes.subscribers:,} subscribers of more channels: as fast as possible, and 5 events a second in each",
        "channels",
        pace_share=0.25,
    ),
    growth(
        "grow_payload",
        "Larger events to {sizes.subscribers:,} subscribers: as fast as possible, and {sizes.pace:.0f} a second",
        "event_size",
    ),
)
