"""How much of everything a run measures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    items: int
    """Events of one stream in `throughput`."""
    streaming_seconds: float
    """`throughput` repeats its stream until it has run this long: no peer is judged by an instant."""
    ticks: int
    tick_interval: float
    """Seconds between two items in `latency`: long enough that each comes alone."""
    idle_streams: int
    """Held open in `memory`."""
    counted_streams: int
    """Held open in `tasks`."""


FULL = Sizes(
    items=100_000,
    streaming_seconds=1.0,
    ticks=1_000,
    tick_interval=0.002,
    idle_streams=3_000,
    counted_streams=100,
)
# Shows that everything runs, in seconds; its figures mean little.
QUICK = Sizes(items=5_000, streaming_seconds=0.3, ticks=100, tick_interval=0.002, idle_streams=200, counted_streams=20)
