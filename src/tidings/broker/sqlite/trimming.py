"""Drops what is not shown any more, in steps small enough to stand between two publishes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

__all__ = ["Budget", "drop_expired", "drop_oldest", "forget_channels", "slack"]

# What the oldest rows are, up to a number and a size. One row at least, whatever its size.
_CUT_OF_CHANNEL: Final = """
    SELECT count(*), sum(size), max(sequence) FROM (
        SELECT sequence, size, sum(size) OVER (ORDER BY sequence) - size AS before FROM (
            SELECT sequence, length(frame) AS size FROM events
            WHERE channel = ? AND kind <> 3 ORDER BY sequence LIMIT ?
        )
    ) WHERE before < ?
"""
_CUT_OF_LOG: Final = """
    SELECT max(sequence) FROM (
        SELECT sequence, at, sum(size) OVER (ORDER BY sequence) - size AS before FROM (
            SELECT sequence, at, length(frame) AS size FROM events ORDER BY sequence LIMIT ?
        )
    ) WHERE before < ? AND at < ?
"""


@dataclass(slots=True)
class Budget:
    """What one transaction may still drop: together this takes a few milliseconds."""

    rows: int = 500
    size: int = 4 << 20

    @property
    def spent(self) -> bool:
        return self.rows <= 0 or self.size <= 0


def slack(history: int) -> int:
    """How many events more than `history` a channel may have, so that they are dropped many at a time."""
    return max(history // 10, 200)


def drop_oldest(connection: sqlite3.Connection, channel: int, count: int, budget: Budget) -> None:
    """Drop the oldest events of a channel, as many as the budget allows; within a transaction."""
    if budget.spent:
        return
    dropped, size, cut = connection.execute(_CUT_OF_CHANNEL, (channel, min(count, budget.rows), budget.size)).fetchone()
    if not dropped:
        return
    connection.execute("DELETE FROM events WHERE channel = ? AND kind <> 3 AND sequence <= ?", (channel, cut))
    connection.execute("DELETE FROM events WHERE channel = ? AND kind = 3 AND sequence <= ?", (channel, cut))
    connection.execute(
        # Never below 0: a process of an older version may have appended without counting the bytes.
        "UPDATE channels SET events = events - ?, size = max(0, size - ?), trimmed = ? WHERE id = ?",
        (dropped, size, cut, channel),
    )
    budget.rows -= dropped
    budget.size -= size


def drop_expired(connection: sqlite3.Connection, limit: float, budget: Budget) -> bool:
    """Drop the oldest entries of the log that were stored before `limit`; whether there were any."""
    (cut,) = connection.execute(_CUT_OF_LOG, (budget.rows, budget.size, limit)).fetchone()
    if cut is None:
        return False
    connection.execute(
        """
        UPDATE channels
        SET events = events - gone.count, size = max(0, channels.size - gone.size), trimmed = gone.newest FROM (
            SELECT channel, count(*) AS count, sum(length(frame)) AS size, max(sequence) AS newest
            FROM events NOT INDEXED WHERE sequence <= ? AND kind <> 3 GROUP BY channel
        ) AS gone WHERE id = gone.channel
        """,
        (cut,),
    )
    connection.execute("DELETE FROM events WHERE sequence <= ?", (cut,))
    return True


def forget_channels(connection: sqlite3.Connection, limit: float, budget: Budget) -> bool:
    """Forget channels without events whose last entry was stored before `limit`; whether there were any."""
    forgotten = connection.execute(
        "SELECT id, trimmed, name FROM channels WHERE events = 0 AND at < ? ORDER BY at LIMIT ?", (limit, budget.rows)
    ).fetchall()
    if not forgotten:
        return False
    ids = [(id,) for id, _, _ in forgotten]
    mark = max(trimmed for _, trimmed, _ in forgotten)
    connection.execute("UPDATE log SET forgotten = max(forgotten, ?)", (mark,))
    connection.executemany("DELETE FROM events WHERE channel = ? AND kind = 3", ids)
    connection.executemany("DELETE FROM channels WHERE id = ?", ids)
    connection.executemany(
        "DELETE FROM runs WHERE channel = ? AND state <> 'running'", [(name,) for _, _, name in forgotten]
    )
    return True
