"""What a broker has to say of itself without asking its storage."""

from __future__ import annotations

from dataclasses import dataclass

from tidings.broker.log import Log
from tidings.broker.storage import Storage

__all__ = ["BrokerStatistics", "statistics_of"]


@dataclass(frozen=True, slots=True)
class BrokerStatistics:
    """A broker, as this process sees it at one moment. What is counted is counted since it was opened.

    Attributes:
        storage: `"memory"`, `"sqlite"` or `"redis"`.
        connected: whether the storage answered when it was last asked for something, or had something to tell.
        channels: how many channels are read here.
        subscriptions: how many subscriptions are open here, those of responses among them.
        behind: how many of these have not taken yet what there is for them. They are being sent it, or are too slow.
        lag: seconds from the storing of an event until its subscribers here were to be woken for it, of the newest
            event that they were woken for; 0.0 before the first. Two clocks are compared, if another machine stored it.
        published: how many events were published here, those of background streams among them.
        failed: how many calls of `publish` ended with `PublishError`.
        resets: how many times a subscriber here was told by a `reset` that it may have missed something.
        background: how many background streams run here.
    """

    storage: str
    connected: bool
    channels: int
    subscriptions: int
    behind: int
    lag: float
    published: int
    failed: int
    resets: int
    background: int


def statistics_of(storage: Storage, log: Log) -> BrokerStatistics:
    """What there is to say of an open broker."""
    figures = log.figures
    channels, subscriptions, waiting = log.census()
    return BrokerStatistics(
        storage=storage.kind,
        connected=storage.connected,
        channels=channels,
        subscriptions=subscriptions,
        behind=subscriptions - waiting,
        lag=figures.lag,
        published=figures.published,
        failed=figures.failed,
        resets=figures.resets,
        background=figures.running,
    )
