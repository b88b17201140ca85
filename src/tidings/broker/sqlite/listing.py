"""Lists channels: what is shown of each, though more may be stored."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Final

from tidings.broker.entry import event_id
from tidings.broker.sqlite.database import transaction
from tidings.broker.sqlite.pages import Channel, find_expired, newest_of
from tidings.broker.storage import ChannelInfo, Retention

__all__ = ["list_channels"]

_CHANNELS: Final = """
    SELECT name, size, published, id, trimmed, finished, events FROM channels WHERE name > ? ORDER BY name LIMIT ?
"""
_HIDDEN: Final = """
    SELECT count(*), coalesce(sum(length(frame)), 0) FROM events WHERE channel = ? AND kind <> 3 AND sequence <= ?
"""
_OLDEST: Final = """
    SELECT sequence, at FROM events WHERE channel = ? AND kind <> 3 AND sequence > ? ORDER BY sequence LIMIT 1
"""
_NEWEST: Final = """
    SELECT sequence, at FROM events WHERE channel = ? AND kind <> 3 ORDER BY sequence DESC LIMIT 1
"""


def list_channels(
    connection: sqlite3.Connection, epoch: str, after: str, most: int, retention: Retention
) -> list[ChannelInfo]:
    """The next channels behind this name, as many as `most`."""
    with transaction(connection, "DEFERRED"):
        expired = find_expired(connection, newest_of(connection), retention.max_age)
        found = []
        for name, size, published, *row in connection.execute(_CHANNELS, (after, most)).fetchall():
            channel = Channel(connection, name, row)
            channel.hide(retention.history, expired)
            id, _, finished, events = row
            # What is shown is counted without reading it: only what is stored beyond that is looked at.
            hidden, hidden_size = connection.execute(_HIDDEN, (id, channel.trimmed)).fetchone()
            if events == hidden:
                found.append(ChannelInfo(name, 0, 0, published, bool(finished)))
                continue
            oldest, oldest_at = connection.execute(_OLDEST, (id, channel.trimmed)).fetchone()
            newest, newest_at = connection.execute(_NEWEST, (id,)).fetchone()
            found.append(
                ChannelInfo(
                    name,
                    events - hidden,
                    max(0, size - hidden_size),
                    published,
                    bool(finished),
                    event_id(epoch, oldest),
                    datetime.fromtimestamp(oldest_at, UTC),
                    event_id(epoch, newest),
                    datetime.fromtimestamp(newest_at, UTC),
                )
            )
    return found
