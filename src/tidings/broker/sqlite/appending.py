"""Appends many entries to a log in one transaction."""

from __future__ import annotations

import sqlite3
import time

from tidings.broker.entry import Draft, Kind
from tidings.broker.sqlite.trimming import Budget, drop_oldest, slack

__all__ = ["Changes"]


class _Channel:
    """The row of a channel, changed in memory and written once."""

    __slots__ = ("at", "changed", "events", "finished", "id", "published", "size")

    def __init__(self, connection: sqlite3.Connection, name: str, forgotten: int) -> None:
        self.changed = False
        row = connection.execute(
            "SELECT id, at, finished, events, size, published FROM channels WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            row = connection.execute(
                "INSERT INTO channels (name, at, trimmed, finished, events) VALUES (?, 0, ?, 0, 0) "
                "RETURNING id, at, finished, events, size, published",
                (name, forgotten),
            ).fetchone()
        self.id: int
        self.at: float
        self.finished: int
        self.events: int
        self.size: int
        self.published: int
        self.id, self.at, self.finished, self.events, self.size, self.published = row


class Changes:
    """What a transaction changes in a log. Whoever has begun the transaction calls `write`, then commits it.

    Args:
        connection: this has begun it. What else changes in it needs no `write`.
        epoch: the log's.
    """

    def __init__(self, connection: sqlite3.Connection, epoch: str) -> None:
        self.connection = connection
        self._epoch = epoch
        self._newest: int
        self._newest, last, self._forgotten = connection.execute("SELECT newest, at, forgotten FROM log").fetchone()
        self.at: float = max(time.time(), last)  # clocks may be set back, the log's time isn't
        """The time of all that is appended."""
        self.size = 0
        """Bytes of the new frames."""
        self._channels: dict[str, _Channel] = {}
        self._rows: list[tuple[int, int, int, float, bytes]] = []

    def append(self, name: str, draft: Draft) -> int:
        """Append a draft to a channel.

        Returns:
            Its sequence; for a finish that changes nothing, that of the entry before.
        """
        channel = self._channels.get(name)
        if channel is None:
            channel = self._find(name)
        is_finish = draft.kind == Kind.FINISH
        if is_finish and channel.finished:
            return self._newest
        sequence = self._newest = self._newest + 1
        frame = draft.frame(self._epoch, sequence)
        size = len(frame)
        self._rows.append((sequence, channel.id, draft.kind, self.at, frame))
        self.size += size
        channel.changed = True
        channel.at = self.at
        channel.finished = is_finish
        if not is_finish:
            channel.events += 1
            channel.published += 1
            channel.size += size
        return sequence

    def reopen(self, name: str) -> None:
        """Have a channel be unfinished, without an entry that says so."""
        channel = self._channels.get(name)
        if channel is None:
            self.connection.execute("UPDATE channels SET finished = 0 WHERE name = ? AND finished", (name,))
        else:
            channel.changed = True
            channel.finished = 0

    def touch(self, name: str) -> None:
        """Have a channel be remembered for as long as if something was appended to it."""
        channel = self._channels.get(name) or self._find(name)
        channel.changed = True
        channel.at = self.at

    def write(self, history: int | None) -> None:
        """Write what was appended; drop what of it is too much."""
        self.connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", self._rows)
        self.connection.executemany(
            "UPDATE channels SET at = ?, finished = ?, events = ?, size = ?, published = ? WHERE id = ?",
            [
                (channel.at, channel.finished, channel.events, channel.size, channel.published, channel.id)
                for channel in self._channels.values()
                if channel.changed
            ],
        )
        if self._rows:
            self.connection.execute("UPDATE log SET newest = ?, at = ?", (self._newest, self.at))
        if history is not None:
            budget = Budget()
            for channel in self._channels.values():
                excess = channel.events - history
                if excess > slack(history):
                    drop_oldest(self.connection, channel.id, excess, budget)

    def _find(self, name: str) -> _Channel:
        channel = self._channels[name] = _Channel(self.connection, name, self._forgotten)
        return channel
