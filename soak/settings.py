"""What a run is made of."""

from dataclasses import dataclass
from typing import Final

PING: Final = 2.0
"""Seconds of silence after which a worker sends a ping, so that clients notice soon who is gone."""

HISTORY: Final = {"main": 20_000, "short": 200}
"""Events that each log retains of a channel: more than any reader misses, and less than a slow one does."""

WEIGHTS: Final = {
    ("main", "busy"): 8.0,
    **{("main", f"quiet-{number}"): 1.0 for number in range(6)},
    ("short", "feed"): 4.0,
}
"""The channels of each log, and how the events are divided among them."""

LARGE: Final = 1_000
"""Bytes of filling in the events of channels that have slow readers, so that those fall behind more than buffers."""

SLOWLY_READ: Final = {("main", "busy"), ("short", "feed")}


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        seconds: of chaos, on each storage.
        clients: of all kinds.
        rate: events per second, over all channels.
        workers: server processes; the first is never killed, so that what it leaks shows.
        every: mean seconds between two acts.
        seed: of everything that is left to chance.
    """

    seconds: float = 300.0
    clients: int = 240
    rate: float = 200.0
    workers: int = 4
    every: float = 4.0
    seed: int = 1

    @property
    def slow(self) -> int:
        """Clients that read slowly: some behind the tail in memory, some behind the window."""
        return max(2, self.clients // 10)

    @property
    def leaving(self) -> int:
        return self.clients // 4

    @property
    def sources(self) -> int:
        """Readers that are an `AsyncEventSource`, through the proxy."""
        return max(2, self.clients // 8)

    @property
    def readers(self) -> int:
        """The others: plain sockets."""
        return max(1, self.clients - self.slow - self.leaving - self.sources)

    @property
    def publishers(self) -> int:
        return max(4, int(self.rate / 10))
