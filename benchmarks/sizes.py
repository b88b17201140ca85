"""How much of everything a run measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True)
class Sizes:
    items: int
    """Events of one stream in `throughput`."""
    streaming_seconds: float
    """Where a stream is short it is repeated until it has run this long: nothing is judged by an instant."""
    ticks: int
    tick_interval: float
    """Seconds between two items in `latency`: long enough that each comes alone."""
    idle_streams: int
    many_streams: int
    """Held open in `memory`, `bare_memory` and `channel_memory`; in the end many, or as many as this process may."""
    counted_streams: int
    """Held open in `tasks`."""
    token_streams: int
    stream_tokens: int
    """Streams in `answers`, and tokens of each, at the pace of `token_pace`."""
    subscribers: int
    """Of one channel, in `fanout` and `fanout_latency`; of all channels in `grow_…`."""
    channels: int
    event_size: int
    """Channels, and bytes of an event, in `grow_…`."""
    burst_share: float
    """Of the events that a peer is given in `fanout`, `Peer.burst`."""
    paced: int
    pace: float
    """Events in `fanout_latency`, and how many of them a second."""
    many_channels: int
    channel_subscribers: int
    channel_events: int
    """Channels in `many_channels`, subscribers of each, and events of each in one burst."""
    clients: int
    missed: int
    """Who reconnects in `storm`, and events that each has missed."""
    growth: Mapping[str, Sequence[int]]
    """The points of `grow_…`: a size of these, and what it is at each."""
    publishes: int
    publishers: int
    """Events that are stored in `publish`, and who publishes them at once."""
    redis_publishers: int
    """The same, in `redis_publish`."""
    replayed: int
    """Retained events in `replay`."""
    wakeups: int
    wakeup_pace: float
    """Events in `wakeup`, and how many of them a second: nothing a storage may poll at is a multiple of it."""
    redis_subscribers: int
    redis_paced: int
    redis_pace: float
    """Who receives how many events in `redis_latency`, and how many of them a second."""
    answers: int
    tokens: int
    """Background streams that run at once, and tokens of each."""
    paced_tokens: int
    token_pace: float
    """Tokens of each where they come at a pace, and how many of them a second; the pace of `answers`, too."""
    idle_answers: int
    """Background streams in which nothing happens."""
    decoded: int
    """Events of the stream in `decode`."""
    large_event: int
    """Bytes of the event in `decode_large`."""
    followed: int
    """Events of the stream in `follow`."""
    meaningful: bool
    """Whether runs last long enough that processor time, counted in hundredths of a second, says who had how much."""

    def with_one(self, name: str, value: Any) -> Self:
        return replace(self, **{name: value})


FULL = Sizes(
    items=100_000,
    streaming_seconds=1.0,
    ticks=1_000,
    tick_interval=0.002,
    idle_streams=3_000,
    many_streams=10_000,
    counted_streams=100,
    token_streams=64,
    stream_tokens=250,
    subscribers=1_000,
    channels=1,
    event_size=100,
    burst_share=1.0,
    paced=100,
    pace=20.0,
    many_channels=2_000,
    channel_subscribers=3,
    channel_events=5,
    clients=1_000,
    missed=500,
    growth={
        "subscribers": [10, 100, 1_000, 5_000],
        "channels": [1, 10, 1_000],
        "event_size": [100, 1_024, 16_384],
    },
    publishes=20_000,
    publishers=16,
    redis_publishers=32,
    replayed=10_000,
    wakeups=100,
    wakeup_pace=17.3,
    redis_subscribers=100,
    redis_paced=2_000,
    redis_pace=500.0,
    answers=100,
    tokens=2_000,
    paced_tokens=200,
    token_pace=50.0,
    idle_answers=10_000,
    decoded=20_000,
    large_event=10 << 20,
    followed=100_000,
    meaningful=True,
)
# Shows that everything runs, in seconds; its figures mean little.
QUICK = Sizes(
    items=5_000,
    streaming_seconds=0.3,
    ticks=100,
    tick_interval=0.002,
    idle_streams=200,
    many_streams=400,
    counted_streams=20,
    token_streams=16,
    stream_tokens=40,
    subscribers=100,
    channels=1,
    event_size=100,
    burst_share=0.1,
    paced=20,
    pace=20.0,
    many_channels=50,
    channel_subscribers=3,
    channel_events=5,
    clients=100,
    missed=100,
    growth={"subscribers": [10, 100], "channels": [1, 10], "event_size": [100, 1_024]},
    publishes=1_000,
    publishers=16,
    redis_publishers=32,
    replayed=1_000,
    wakeups=10,
    wakeup_pace=17.3,
    redis_subscribers=20,
    redis_paced=100,
    redis_pace=500.0,
    answers=20,
    tokens=100,
    paced_tokens=20,
    token_pace=50.0,
    idle_answers=200,
    decoded=4_000,
    large_event=1 << 20,
    followed=10_000,
    meaningful=False,
)
