"""How a stream ended."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Ending"]


class Ending(StrEnum):
    """How a stream ended; logs and metrics read it, and `EventSourceResponse.ending` holds it afterwards."""

    EXHAUSTED = "exhausted"
    """The source had no more items."""

    LIMIT = "limit"
    """`max_events` or `max_duration` was reached."""

    SHUTDOWN = "shutdown"
    """The server was told to stop."""

    DISCONNECTED = "disconnected"
    """The client went away."""

    TIMED_OUT = "timed_out"
    """The client took nothing for `send_timeout` seconds."""

    FAILED = "failed"
    """The source raised, yielded what can't be sent, or was cancelled from outside."""
