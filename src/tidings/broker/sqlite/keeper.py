"""Keeps the file in order: drops what is too old, forgets channels, empties the write-ahead log.

Everything is done in small steps, between which all processes can append.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Final

from tidings.broker.sqlite.database import Database, is_busy, transaction
from tidings.broker.sqlite.trimming import Budget, drop_expired, drop_oldest, forget_channels, slack
from tidings.broker.sqlite.worker import Worker
from tidings.broker.storage import Retention

__all__ = ["Keeper"]

logger = logging.getLogger("tidings.broker")

_SWEEP: Final = 5.0
"""Seconds between two sweeps, about; fewer if what is kept is kept for less."""

_SHORTEST_SWEEP: Final = 0.05
"""Never fewer than these."""

_BREATH: Final = 0.003
"""Seconds between two steps of one sweep: appends come first."""

_CHECKPOINT_BYTES: Final = 4 << 20
"""Bytes written by this process after which they are copied out of the write-ahead log."""

_CHECKPOINT: Final = 10.0
"""Seconds after which they are at the latest."""

_WAL_PAGES: Final = 16_384
"""The write-ahead log begins anew when it has as many pages, though appends have to wait for that."""

_FEW_PAGES: Final = 64
"""They don't have to wait for more than these to be copied."""

_PASSES: Final = 8
"""Times that the rest is copied, in the hope that it gets as small."""

_COMMIT_BYTES: Final = 16_384
"""Bytes that a transaction writes beside the frames."""

_STEP_BYTES: Final = 262_144
"""Bytes that a step of a sweep writes."""

_LOCK_WAIT: Final = 10
"""Milliseconds that the keeper waits for others, and they may have to wait for it."""


class Keeper(Worker[object]):
    """The thread that does this. Any message wakes it."""

    def __init__(self, database: Database, retention: Retention) -> None:
        super().__init__("keeper", database)
        self._history = retention.history
        self._max_age = retention.max_age
        self._forget_after = retention.forget_after
        if self._history == 0 and self._max_age is None:
            # What nobody is ever shown is stored for the feeds of other processes alone.
            self._max_age = self._forget_after
        ages = [age for age in (self._max_age, self._forget_after) if age is not None]
        self._interval = max(_SHORTEST_SWEEP, min([_SWEEP, *(age / 4 for age in ages)]))
        self._unchecked = 0  # channels from this id on may have too many events: another process had another `history`
        # Bytes of this process, about: appended, counted by the writer's thread; dropped, and copied of both.
        self._appended = 0
        self._dropped = 0
        self._copied = 0
        self._failing = False

    def wrote(self, size: int) -> None:
        """Take note of a transaction; the writer's thread calls this."""
        before = self._appended
        self._appended += size + _COMMIT_BYTES
        if before // _CHECKPOINT_BYTES != self._appended // _CHECKPOINT_BYTES:
            self._inbox.put(self)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        connection = super()._open()
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_WAIT}")
        return connection

    def _work(self, connection: sqlite3.Connection) -> None:
        sweep = time.monotonic() + self._between_sweeps()
        checkpoint = time.monotonic() + _CHECKPOINT
        while not self._stopping:
            with suppress(Empty):
                self._inbox.get(timeout=max(0.0, min(sweep, checkpoint) - time.monotonic()))
            if time.monotonic() >= sweep:
                more = self._attempt(self._sweep_a_little, connection)
                sweep = time.monotonic() + (_BREATH if more else self._between_sweeps())
            written = self._appended + self._dropped - self._copied
            if written >= _CHECKPOINT_BYTES or time.monotonic() >= checkpoint:
                if written:
                    self._attempt(self._checkpoint, connection)
                checkpoint = time.monotonic() + _CHECKPOINT

    def _between_sweeps(self) -> float:
        # At random, so that not all processes come at once.
        return self._interval * random.uniform(0.5, 1.5)  # noqa: S311 - not for secrets

    def _attempt(self, action: Callable[[sqlite3.Connection], bool], connection: sqlite3.Connection) -> bool:
        """Do it; if it fails, that is reported once, and it is tried again later."""
        try:
            result = action(connection)
        except Exception as error:  # noqa: BLE001 - reported
            if not is_busy(error) and not self._failing:
                self._failing = True
                logger.warning("what is too old can't be dropped for now: %s", self._database.explain(error))
            return False
        self._failing = False
        return result

    def _sweep_a_little(self, connection: sqlite3.Connection) -> bool:
        """One step; whether there may be more to do."""
        with transaction(connection, "IMMEDIATE"):
            now = time.time()
            found = (
                (self._max_age is not None and drop_expired(connection, now - self._max_age, Budget()))
                or (self._forget_after is not None and forget_channels(connection, now - self._forget_after, Budget()))
                or self._drop_excess(connection)
            )
        if found:
            self._dropped += _STEP_BYTES
        return found

    def _drop_excess(self, connection: sqlite3.Connection) -> bool:
        """Go once through all channels."""
        if self._history is None:
            return False
        row = connection.execute(
            "SELECT id, events FROM channels WHERE id >= ? AND events > ? ORDER BY id LIMIT 1",
            (self._unchecked, self._history + slack(self._history)),
        ).fetchone()
        if row is None:
            self._history = None
            return False
        self._unchecked, events = row
        drop_oldest(connection, self._unchecked, events - self._history, Budget())
        return True

    def _checkpoint(self, connection: sqlite3.Connection) -> bool:
        """Copy what is new out of the write-ahead log.

        Nobody waits for that. If nothing is appended meanwhile, the log begins anew at its front. Under constant load
        something always is, and appends have to be held up once in a while, for as long as the disk takes to write the
        last few pages.
        """
        self._copied = self._appended + self._dropped
        before = 0
        for _ in range(_PASSES):
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages < _WAL_PAGES:
                return False
            if 0 <= pages - before < _FEW_PAGES:
                break
            before = pages
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        return False
