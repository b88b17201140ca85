"""The keys of a log. The braces are a hash tag: in a cluster everything of one namespace is in one place."""

from __future__ import annotations

__all__ = ["Keys"]


class Keys:
    """The keys of a namespace."""

    def __init__(self, namespace: str, database: int) -> None:
        self._prefix = f"{{{namespace}}}:"
        self.database = database
        self.log = f"{self._prefix}log"
        """A hash: `epoch`, `newest` sequence, `at`, its time in ms, `forgotten`: the mark of all others.

        And since the server was started: its `run`, the newest sequence that was `left`, and to where that has `leapt`.
        """
        self.ages = f"{self._prefix}ages"
        """A sorted set: channels, by the time of their newest entries."""
        self.names = f"{self._prefix}names"
        """A sorted set: channels, by their names."""
        self.running = f"{self._prefix}running"
        """A sorted set: what is running, by producer, run and channel, with a NUL between them."""
        self.leases = f"{self._prefix}leases"
        """A sorted set: producers, by the microsecond in which their leases run out."""

    def state(self, channel: str) -> str:
        """A hash: `last` entry, newest `event`, `trimmed` mark, `finished`, `published`, `size`.

        And of its last `run`: `producer`, `state`, `since` when in ms, `events`.
        """
        return f"{self._prefix}channel:{channel}"

    def topic(self, channel: str) -> str:
        """Under this name the server tells of the channel's entries; to it a database makes no difference."""
        return f"{self.state(channel)}@{self.database}"

    def stream(self, channel: str) -> str:
        """A stream: the channel's events. An id is the sequence and the time in milliseconds."""
        return f"{self._prefix}events:{channel}"

    def claim(self, key: str) -> str:
        """A string, as long as somebody claims this."""
        return f"{self._prefix}claim:{key}"

    def channel(self, topic: bytes) -> str:
        """The channel of a topic."""
        return topic.decode().removeprefix(f"{self._prefix}channel:").removesuffix(f"@{self.database}")
