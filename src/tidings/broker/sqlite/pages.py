"""Reads pages of a log: exactly what is to be shown, though more may be stored."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from heapq import merge
from typing import Final

from tidings.broker.entry import NEVER, Entry
from tidings.broker.sqlite.database import transaction
from tidings.broker.storage import Page, Retention, first_page

__all__ = ["Channel", "find_expired", "newest_of", "read_page"]

_FROM_OLDEST: Final = """
    SELECT sequence FROM events WHERE channel = ? AND kind <> 3 ORDER BY sequence LIMIT 1 OFFSET ?
"""
_FROM_NEWEST: Final = """
    SELECT sequence FROM events WHERE channel = ? AND kind <> 3 ORDER BY sequence DESC LIMIT 1 OFFSET ?
"""


class Channel:
    """A channel that has a row, as a transaction sees it."""

    def __init__(self, connection: sqlite3.Connection, name: str, row: tuple[int, int, int, int]) -> None:
        self._connection = connection
        self._name = name
        self._id, self.trimmed, self.finished, self._events = row

    def hide(self, history: int | None, expired: int) -> None:
        """Count what is stored and not shown as trimmed."""
        hidden = 0 if history is None else self._events - history
        if hidden > 0:
            assert history is not None
            # Counted from the end that is nearer.
            query, offset = (_FROM_OLDEST, hidden - 1) if hidden <= history else (_FROM_NEWEST, history)
            (cut,) = self._connection.execute(query, (self._id, offset)).fetchone()
            self.trimmed = max(self.trimmed, cut)
        if expired > self.trimmed:
            (cut,) = self._connection.execute(
                "SELECT max(sequence) FROM events WHERE channel = ? AND kind <> 3 AND sequence <= ?",
                (self._id, expired),
            ).fetchone()
            self.trimmed = max(self.trimmed, cut or NEVER)

    def after(self, position: int) -> Generator[Entry, None, None]:
        """The events behind a position, each read when it is asked for."""
        with closing(
            self._connection.execute(
                "SELECT sequence, ?, kind, at, frame FROM events WHERE channel = ? AND kind <> 3 AND sequence > ? "
                "ORDER BY sequence",
                (self._name, self._id, max(position, self.trimmed)),
            )
        ) as rows:
            yield from map(Entry._make, rows)

    def newest(self) -> int:
        (newest,) = self._connection.execute(
            "SELECT max(sequence) FROM events WHERE channel = ? AND kind <> 3", (self._id,)
        ).fetchone()
        return newest or NEVER


def read_page(connection: sqlite3.Connection, names: Sequence[str], after: int | None, retention: Retention) -> Page:
    """The next page of these channels behind a position; None: no entries."""
    with transaction(connection, "DEFERRED"):
        epoch, newest, forgotten = connection.execute("SELECT epoch, newest, forgotten FROM log").fetchone()
        expired = find_expired(connection, newest, retention.max_age)
        channels = []
        for name in names:
            row = connection.execute(
                "SELECT id, trimmed, finished, events FROM channels WHERE name = ?", (name,)
            ).fetchone()
            if row is not None:
                channel = Channel(connection, name, row)
                channel.hide(retention.history, expired)
                channels.append(channel)
        unknown = len(names) - len(channels)
        trimmed = max([forgotten if unknown else NEVER, *(channel.trimmed for channel in channels)])
        finished = not unknown and all(channel.finished for channel in channels)
        entries: list[Entry] = []
        position = newest
        if after is not None and after < newest:
            sources = [channel.after(after) for channel in channels]
            entries = first_page(merge(*sources))
            for source in sources:
                source.close()  # a statement left open keeps its lock
            if entries and entries[-1].sequence < max(channel.newest() for channel in channels):
                position = entries[-1].sequence
    return Page(epoch, entries, position, newest, trimmed, finished)


def newest_of(connection: sqlite3.Connection) -> int:
    """The sequence given out last."""
    (newest,) = connection.execute("SELECT newest FROM log").fetchone()
    return int(newest)


def find_expired(connection: sqlite3.Connection, newest: int, max_age: float | None) -> int:
    """The newest entry that is older than this; time never goes back in a log, so it is found by halving."""
    if max_age is None:
        return NEVER
    limit = time.time() - max_age

    def at_or_after(sequence: int) -> tuple[int, float]:
        row = connection.execute(
            "SELECT sequence, at FROM events WHERE sequence >= ? ORDER BY sequence LIMIT 1", (sequence,)
        ).fetchone()
        return (newest + 1, limit) if row is None else row

    oldest, at = at_or_after(NEVER)
    if at >= limit:
        return NEVER
    low, high = oldest, newest  # what is stored at `low` or before is too old
    while low < high:
        middle = (low + high + 1) // 2
        sequence, at = at_or_after(middle)
        if at < limit:
            low = sequence
        else:
            high = middle - 1
    return low
