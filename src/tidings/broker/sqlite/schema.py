"""The tables of a log, version by version."""

from __future__ import annotations

from typing import Final

__all__ = ["MIGRATIONS"]

_FIRST: Final = (
    # One row. `at` is the time of the newest entry, `forgotten` the mark of all channels that have no row, `boot` names
    # the run of the machine in which the file was opened last.
    """
    CREATE TABLE log (
        epoch TEXT NOT NULL,
        newest INTEGER NOT NULL,
        at REAL NOT NULL,
        forgotten INTEGER NOT NULL,
        boot TEXT NOT NULL
    )
    """,
    # `at` is the time of the channel's newest entry, `trimmed` its newest event that was dropped, `events` how many are
    # stored.
    """
    CREATE TABLE channels (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        at REAL NOT NULL,
        trimmed INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        events INTEGER NOT NULL
    )
    """,
    # The frame stands last: what reads the other columns doesn't go through its pages.
    """
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        channel INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        at REAL NOT NULL,
        frame BLOB NOT NULL
    )
    """,
    # Kind 3 is FINISH, which is fed but never shown or counted. An index ends with the sequence by itself.
    "CREATE INDEX events_by_channel ON events (channel) WHERE kind <> 3",
    "CREATE INDEX finishes_by_channel ON events (channel) WHERE kind = 3",
    "CREATE INDEX empty_channels_by_age ON channels (at) WHERE events = 0",
    # Eight random bytes: two logs never have the same epoch.
    "INSERT INTO log VALUES (lower(hex(randomblob(8))), 0, 0, 0, '')",
)

_SECOND: Final = (
    # `size` is the bytes of the stored events' frames, `published` how many events there were, dropped ones included.
    "ALTER TABLE channels ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE channels ADD COLUMN published INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE channels SET published = events, size = (
        SELECT coalesce(sum(length(frame)), 0) FROM events WHERE channel = channels.id AND kind <> 3
    )
    """,
)

_THIRD: Final = (
    # The last run of each channel, by its name: a run that has given nothing yet may have no channel. `at` is when it
    # came to be in its state, `events` how many it has stored.
    """
    CREATE TABLE runs (
        channel TEXT PRIMARY KEY,
        id TEXT NOT NULL,
        producer TEXT NOT NULL,
        state TEXT NOT NULL,
        at REAL NOT NULL,
        events INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX running_by_producer ON runs (producer) WHERE state = 'running'",
    # `until` is when the lease runs out, `mark` is drawn anew whenever it is renewed.
    "CREATE TABLE producers (name TEXT PRIMARY KEY, until REAL NOT NULL, mark TEXT NOT NULL) WITHOUT ROWID",
)

_FOURTH: Final = (
    # `until` is when the claim runs out.
    "CREATE TABLE claims (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX claims_by_end ON claims (until)",
)

MIGRATIONS: Final = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""The statements that lead from each version to the next; the version is how many have run."""
