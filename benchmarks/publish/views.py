"""What tables and charts show of a run: which workloads stand beside each other, and what they are called."""

from dataclasses import dataclass

__all__ = ["ALONE", "FLOORS", "GROWING", "GROWTH", "SHOWN", "SIDE_BY_SIDE", "Growth", "View"]


@dataclass(frozen=True)
class View:
    """A workload by the figure that peers are compared by."""

    workload: str
    title: str
    unit: str

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.unit}"


STREAMS = (
    View("throughput", "a burst of typed items", "events/s"),
    View("latency", "an item that comes alone", "p50, ms"),
    View("answers", "64 answers of an AI", "p99, ms"),
    View("memory", "an idle stream", "KiB"),
    View("bare_memory", "the same without a framework", "KiB"),
)
CHANNELS = (
    View("fanout", "broadcast, as fast as possible", "deliveries/s"),
    View("fanout_latency", "broadcast, 20 events a second", "p99, ms"),
    View("many_channels", "many small channels", "deliveries/s"),
    View("storm", "1,000 clients reconnect at once", "s"),
    View("channel_memory", "an idle subscriber", "KiB"),
)
CLIENTS = (
    View("decode", "a stream is decoded", "events/s"),
    View("decode_large", "one large event is decoded", "ns/byte"),
    View("follow", "a stream is read from a socket", "events/s"),
)
SIDE_BY_SIDE = {"streams": STREAMS, "channels": CHANNELS, "clients": CLIENTS}
"""Those in which peers take part, by the name of their chart and table."""

ALONE = (
    View("publish", "16 publishers into SQLite", "publishes/s"),
    View("replay", "a replay from memory", "events/s"),
    View("wakeup", "from one process to another, SQLite", "p50, ms"),
    View("redis_publish", "32 publishers into Redis", "publishes/s"),
    View("redis_latency", "from one process to another, Redis", "p50, ms"),
    View("redis_fanout", "broadcast from Redis", "deliveries/s"),
    View("redis_replay", "a replay from Redis", "events/s"),
    View("background", "100 background streams, memory", "tokens/s"),
    View("background_sqlite", "the same, SQLite", "tokens/s"),
    View("background_redis", "the same, Redis", "tokens/s"),
    View("background_memory", "10,000 idle background streams", "MiB"),
)
"""Those that have nobody to be compared with."""

FLOORS = ("starlette", "asyncio", "c")
"""Peers that do less: they are there for scale."""


@dataclass(frozen=True)
class Growth:
    """A workload with several points."""

    workload: str
    points: str
    """What grows."""


GROWTH = {
    "subscribers": Growth("grow_subscribers", "subscribers of one channel"),
    "channels": Growth("grow_channels", "channels, of 1,000 subscribers in all"),
    "payload": Growth("grow_payload", "bytes of an event"),
}
"""By the name of their chart and table."""

SHOWN = [
    *(view.workload for views in (*SIDE_BY_SIDE.values(), ALONE) for view in views),
    *(grows.workload for grows in GROWTH.values()),
]
"""All of these workloads."""

GROWING = {"deliveries_per_s": "deliveries/s", "p99_ms": "p99, ms", "kib_per_subscriber": "KiB of a subscriber"}
"""The figures that are shown of them."""
