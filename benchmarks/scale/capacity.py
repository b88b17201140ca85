"""How many processes, how much memory, Redis and network so many subscribers need: arithmetic over measured costs.

A process uses one processor. What it costs grows with the writes (one for each delivery at these rates, and one for
each heartbeat), with its open connections, and hardly with anything else; `benchmarks.scale.measure` finds out how
much, and compares what the model says of a size that it wasn't made from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["MILLION", "TRAFFIC", "Costs", "Need", "Traffic", "need"]

MILLION = 1_000_000
BUSY = 0.5
"""Share of a processor that a process may use on average: the other half is for bursts and for what reconnects."""
SLOWEST_ROUND_S = 0.25
"""Seconds in which an event is to reach the last subscriber of a process."""
PROCESS_MIB = 2_048
"""Memory that a process may have."""
HEARTBEAT_S = 15.0
WIRE_OVERHEAD = 40 + 26 + 38
"""Bytes around the frames of a write: IPv4, TCP with timestamps, chunked framing and TLS records, Ethernet."""
HEARTBEAT_BYTES = 8


@dataclass(frozen=True)
class Costs:
    """Of one process on one processor, measured.

    Attributes:
        base_mib: resident memory without any subscriber.
        subscriber_kib: what each one adds.
        write_us: processor time of one event written to one subscriber.
        event_us: of an event that a process receives and publishes, however many subscribers it has.
        open_us: of a connection, from the request to its headers.
        redis_publish_us: of redis-server's processor, for each event.
        redis_notify_us: the same for each process that is told of it.
    """

    base_mib: float
    subscriber_kib: float
    write_us: float
    event_us: float
    open_us: float
    redis_publish_us: float
    redis_notify_us: float

    def share(self, subscribers: int, events_per_s: float) -> float:
        """Of a processor, that a process uses for one channel."""
        return events_per_s * (self.event_us + subscribers * self.write_us) / MILLION

    def mib(self, subscribers: int) -> float:
        return self.base_mib + subscribers * self.subscriber_kib / 1024

    def redis_us(self, processes: int) -> float:
        """Of redis-server's processor, for an event of which so many processes are told."""
        return self.redis_publish_us + processes * self.redis_notify_us


@dataclass(frozen=True)
class Traffic:
    """What subscribers get.

    Attributes:
        deliveries_per_s: events that each of them receives.
        shared: everybody has the same channel; else each has one of its own.
        event_bytes: of a frame.
    """

    name: str
    deliveries_per_s: float
    shared: bool
    event_bytes: int


TRAFFIC = (
    Traffic("notifications: a channel each, one event a minute", 1 / 60, shared=False, event_bytes=300),
    Traffic("a score: one channel for all, one event in 5 s", 1 / 5, shared=True, event_bytes=200),
    Traffic("prices: one channel for all, 2 events a second", 2.0, shared=True, event_bytes=150),
    Traffic("answers: a twentieth reads 40 tokens a second", 40 / 20, shared=False, event_bytes=100),
)


@dataclass(frozen=True)
class Need:
    """For so many subscribers.

    Attributes:
        processes: of one processor each.
        limit: what decides about their number.
        memory_gib: of all processes.
        redis_share: of one processor of redis-server; above 1 the channels have to be spread over several.
        network_gbit_s: to the subscribers.
        reconnect_s: seconds in which they all can come back, if all were lost and every process takes them in.
    """

    processes: int
    limit: str
    memory_gib: float
    redis_share: float
    network_gbit_s: float
    reconnect_s: float


def need(subscribers: int, traffic: Traffic, costs: Costs) -> Need:
    """Processes, and what they need."""
    writes_per_s = traffic.deliveries_per_s + 1 / HEARTBEAT_S
    room = {
        "processor": BUSY * MILLION / (writes_per_s * costs.write_us),
        "memory": (PROCESS_MIB - costs.base_mib) * 1024 / costs.subscriber_kib,
    }
    if traffic.shared:
        room["time of a round"] = SLOWEST_ROUND_S * MILLION / costs.write_us
    limit = min(room, key=lambda name: room[name])
    processes = math.ceil(subscribers / room[limit])
    published = traffic.deliveries_per_s * (1 if traffic.shared else subscribers)
    each = subscribers / processes
    sent = traffic.deliveries_per_s * (traffic.event_bytes + WIRE_OVERHEAD)
    sent += (HEARTBEAT_BYTES + WIRE_OVERHEAD) / HEARTBEAT_S
    return Need(
        processes=processes,
        limit=limit,
        memory_gib=processes * costs.mib(math.ceil(each)) / 1024,
        redis_share=published * costs.redis_us(processes if traffic.shared else 1) / MILLION,
        network_gbit_s=subscribers * sent * 8 / 1e9,
        reconnect_s=each * costs.open_us / MILLION,
    )
