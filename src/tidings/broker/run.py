"""What a storage records of a background stream: who runs it, how far it is, how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

__all__ = ["LEASE_SECONDS", "Lease", "Run", "State"]

LEASE_SECONDS: Final = 10.0
"""For how long a producer that says nothing more is taken for alive."""


class State(StrEnum):
    """What has become of a run."""

    RUNNING = "running"

    FINISHED = "finished"
    """Its source ended by itself."""

    STOPPED = "stopped"
    """Somebody stopped it."""

    FAILED = "failed"
    """Its source raised, or took too long."""

    ABORTED = "aborted"
    """Its producer was shut down, or is lost."""


class Run(NamedTuple):
    """The last run of a channel."""

    id: str
    """Drawn by the producer for this run alone: who writes for another one is fenced off."""
    producer: str
    state: State
    at: float
    """When it came to be in this state, in seconds since the epoch."""
    events: int
    """How many events the run has stored."""


class Lease(NamedTuple):
    """A producer is a process with background streams. It is taken for alive until its lease runs out."""

    producer: str
    left: float
    """Seconds until then; negative if they are over."""
    mark: str
    """Changes whenever the lease is renewed."""
