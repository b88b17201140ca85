"""Appends many entries to a log in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tidings.broker.entry import Draft, Kind
from tidings.broker.sqlite.trimming import Budget, drop_oldest, slack

__all__ = ["Appended", "append_all"]


class Appended(NamedTuple):
    """What became of the drafts."""

    sequences: Sequence[int]
    """One for each of them; for a finish that changed nothing, that of the entry before."""
    size: int
    """Bytes of the new frames."""


class _Channel:
    """The row of a channel, changed in memory and written once."""

    __slots__ = ("at", "events", "finished", "id", "published", "size")

    def __init__(self, connection: sqlite3.Connection, name: str, forgotten: int) -> None:
        self.at = 0.0  # of what is appended, if anything is
        row = connection.execute(
            "SELECT id, finished, events, size, published FROM channels WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            row = connection.execute(
                "INSERT INTO channels (name, at, trimmed, finished, events) VALUES (?, 0, ?, 0, 0) "
                "RETURNING id, finished, events, size, published",
                (name, forgotten),
            ).fetchone()
        self.id: int
        self.finished: int
        self.events: int
        self.size: int
        self.published: int
        self.id, self.finished, self.events, self.size, self.published = row


def append_all(
    connection: sqlite3.Connection, epoch: str, drafts: Iterable[tuple[str, Draft]], history: int | None
) -> Appended:
    """Append drafts to their channels, within a transaction."""
    newest, last, forgotten = connection.execute("SELECT newest, at, forgotten FROM log").fetchone()
    at = max(time.time(), last)  # clocks may be set back, the log's time isn't
    channels: dict[str, _Channel] = {}
    rows: list[tuple[int, int, int, float, bytes]] = []
    sequences: list[int] = []
    size = 0
    for name, draft in drafts:
        channel = channels.get(name)
        if channel is None:
            channel = channels[name] = _Channel(connection, name, forgotten)
        is_finish = draft.kind == Kind.FINISH
        if not (is_finish and channel.finished):
            newest += 1
            frame = draft.frame(epoch, newest)
            rows.append((newest, channel.id, draft.kind, at, frame))
            size += len(frame)
            channel.at = at
            channel.finished = int(is_finish)
            channel.events += not is_finish
            channel.published += not is_finish
            channel.size += len(frame)
        sequences.append(newest)
    if rows:
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
        connection.executemany(
            "UPDATE channels SET at = ?, finished = ?, events = ?, size = ?, published = ? WHERE id = ?",
            [
                (channel.at, channel.finished, channel.events, channel.size, channel.published, channel.id)
                for channel in channels.values()
                if channel.at
            ],
        )
        connection.execute("UPDATE log SET newest = ?, at = ?", (newest, at))
        if history is not None:
            budget = Budget()
            for channel in channels.values():
                excess = channel.events - history
                if excess > slack(history):
                    drop_oldest(connection, channel.id, excess, budget)
    return Appended(sequences, size)
