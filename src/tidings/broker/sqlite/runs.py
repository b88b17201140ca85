"""Records background streams: their runs, and the leases of who runs them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from tidings.broker.entry import Draft, Kind
from tidings.broker.run import Lease, Run, State
from tidings.broker.sqlite.appending import Changes

__all__ = ["abort_runs", "begin_run", "extend_run", "find_run", "list_leases", "renew_lease"]

_EXTEND: Final = """
    UPDATE runs SET events = events + :count
    WHERE channel = :channel AND id = :run AND state = 'running' AND events <= coalesce(:after, events)
"""
_END: Final = "UPDATE runs SET state = ?, at = ? WHERE channel = ?"

_RUNNING_OF: Final = "SELECT channel FROM runs WHERE producer = ? AND state = 'running' LIMIT ?"

# A mark is eight random bytes: no two renewals have the same.
_GRANT: Final = """
    INSERT INTO producers VALUES (:producer, :until, lower(hex(randomblob(8))))
    ON CONFLICT (name) DO UPDATE SET until = excluded.until, mark = excluded.mark
"""
_RENEW: Final = "UPDATE producers SET until = ?, mark = lower(hex(randomblob(8))) WHERE name = ?"


# -- within a transaction ---------------------------------------------------------------------------------------------


def begin_run(changes: Changes, channel: str, run: str, producer: str, lease: float) -> bool:
    """Record that a run has begun; False if another one is running."""
    last = find_run(changes.connection, channel)
    if last is None or last.id != run:
        if last is not None and last.state is State.RUNNING:
            return False
        changes.connection.execute(
            "REPLACE INTO runs VALUES (?, ?, ?, ?, ?, 0)", (channel, run, producer, State.RUNNING, changes.at)
        )
        changes.reopen(channel)
    changes.connection.execute(_GRANT, {"producer": producer, "until": time.time() + lease})
    return True


def extend_run(
    changes: Changes, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None
) -> bool:
    """Append what a run gave; False if it isn't running any more."""
    count = _count(drafts)
    values = {"channel": channel, "run": run, "after": after, "count": count}
    if changes.connection.execute(_EXTEND, values).rowcount:
        _append(changes, channel, drafts, end)
        return True
    last = find_run(changes.connection, channel)
    if last is None or last.id != run:
        return False
    # If it is running it has more events than were before these. If not, these and this very end may be stored.
    return last.state is State.RUNNING or (last.state is end and (after is None or last.events >= after + count))


def abort_runs(changes: Changes, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
    """End some runs of a producer whose lease is still this one; how many."""
    connection = changes.connection
    if not connection.execute(
        "SELECT 1 FROM producers WHERE name = ? AND mark = ?", (lease.producer, lease.mark)
    ).fetchone():
        return 0
    running = connection.execute(_RUNNING_OF, (lease.producer, most + 1)).fetchall()
    if len(running) <= most:
        connection.execute("DELETE FROM producers WHERE name = ?", (lease.producer,))
    count = _count(drafts)
    for (channel,) in running[:most]:
        connection.execute("UPDATE runs SET events = events + ? WHERE channel = ?", (count, channel))
        _append(changes, channel, drafts, end)
    return len(running[:most])


def renew_lease(changes: Changes, producer: str, lease: float) -> bool:
    """Renew a producer's lease; whether there was one."""
    return changes.connection.execute(_RENEW, (time.time() + lease, producer)).rowcount > 0


def _append(changes: Changes, channel: str, drafts: Sequence[Draft], end: State | None) -> None:
    for draft in drafts:
        changes.append(channel, draft)
    if end is not None:
        changes.connection.execute(_END, (end, changes.at, channel))
        changes.touch(channel)  # or what is recorded might be forgotten soon, or, without a channel, never


def _count(drafts: Sequence[Draft]) -> int:
    """How many of them are events of the run."""
    return sum(draft.kind in {Kind.JSON, Kind.RAW} for draft in drafts)


# -- reading ----------------------------------------------------------------------------------------------------------


def find_run(connection: sqlite3.Connection, channel: str) -> Run | None:
    """The last run of a channel."""
    row = connection.execute(
        "SELECT id, producer, state, at, events FROM runs WHERE channel = ?", (channel,)
    ).fetchone()
    if row is None:
        return None
    id, producer, state, at, events = row
    return Run(id, producer, State(state), at, events)


def list_leases(connection: sqlite3.Connection) -> list[Lease]:
    """Those of all producers."""
    now = time.time()
    rows = connection.execute("SELECT name, until, mark FROM producers").fetchall()
    return [Lease(producer, until - now, mark) for producer, until, mark in rows]
