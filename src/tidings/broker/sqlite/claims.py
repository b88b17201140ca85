"""Grants each key to one process, for a while."""

from __future__ import annotations

import time
from typing import Final

from tidings.broker.sqlite.appending import Changes

__all__ = ["claim_key"]

_DROPPED_AT_ONCE: Final = 100
"""Claims that have run out, dropped with each new one: so they don't pile up, and no claim takes long."""

_DROP: Final = "DELETE FROM claims WHERE key IN (SELECT key FROM claims WHERE until <= ? ORDER BY until LIMIT ?)"
_CLAIM: Final = """
    INSERT INTO claims VALUES (:key, :until)
    ON CONFLICT (key) DO UPDATE SET until = excluded.until WHERE until <= :now
"""


def claim_key(changes: Changes, key: str, seconds: float) -> bool:
    """Claim a key, within a transaction; False if somebody has it."""
    now = time.time()
    changes.connection.execute(_DROP, (now, _DROPPED_AT_ONCE))
    values = {"key": key, "until": now + seconds, "now": now}
    return changes.connection.execute(_CLAIM, values).rowcount > 0
