"""What there is to know of a channel's background stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from tidings.broker.run import Run

__all__ = ["StreamStatus", "status_of"]


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """The background stream that was started last in a channel.

    Attributes:
        state: what has become of it. `"unknown"`: there was none, or the channel is forgotten.
        since: when it came to be in this state, in UTC; None if it is unknown.
        producer: the process that runs it, or did: host, process id, and a few random characters.
        events: how many events of it are stored, dropped ones included.
        readers: how many subscriptions to the channel this process has.
    """

    state: Literal["running", "finished", "stopped", "failed", "aborted", "unknown"]
    since: datetime | None
    producer: str | None
    events: int
    readers: int


def status_of(run: Run | None, readers: int) -> StreamStatus:
    """The status of a run, as it is recorded."""
    if run is None:
        return StreamStatus("unknown", None, None, 0, readers)
    return StreamStatus(run.state.value, datetime.fromtimestamp(run.at, UTC), run.producer, run.events, readers)
