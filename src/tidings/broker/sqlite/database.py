"""The file of a log: how it is opened, who may use it, and what its errors mean."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from tidings.broker.sqlite.schema import MIGRATIONS
from tidings.errors import StorageError

__all__ = ["Database", "committing", "is_busy", "pause", "transaction"]

T = TypeVar("T")

logger = logging.getLogger("tidings.broker")

_APPLICATION_ID: Final = int.from_bytes(b"tidi", "big")
"""Marks a file as a log of tidings; `file` shows it."""

_SQLITE_NEEDED: Final = (3, 35)  # RETURNING

_WAL_SIZE: Final = 64 << 20
"""Bytes that the write-ahead log keeps when it begins anew: a file that needn't grow is quicker to write."""


_LEAP: Final = 1_000_000_000
"""How far the sequence leaps when the machine was started anew.

A power cut may have cost the last commits, whose ids clients know already. Given out again they would stand for other
events, which such a client would never ask for.
"""


class Database:
    """The file of a log.

    Args:
        path: where it is.
        synchronous: `NORMAL` or `FULL`, as SQLite understands it.
        timeout: seconds to wait for other processes that hold a lock on it; None: a minute.
    """

    def __init__(self, path: Path, synchronous: str, timeout: float | None) -> None:
        # Absolute: the working directory may change, and SQLite takes a name like `file:x` for something else.
        self.path = path.absolute()
        self.patience = 60.0 if timeout is None else timeout
        self._synchronous = synchronous
        self._identity: tuple[int, int] | None = None
        self._lost = False

    def prepare(self) -> str:
        """Make the file if there is none, bring its tables to this version; return the log's epoch.

        Raises:
            StorageError: the file can't be used.
        """
        if sqlite3.sqlite_version_info < _SQLITE_NEEDED:
            needed = ".".join(map(str, _SQLITE_NEEDED))
            raise StorageError(
                f"{self.path} needs SQLite {needed}, this Python has {sqlite3.sqlite_version}: use a newer Python"
            )
        deadline = time.monotonic() + self.patience
        try:
            if self.path.is_dir():
                raise StorageError(f"{self.path} is a directory: name a file in it")
            if not self.path.parent.is_dir():
                raise StorageError(f"{self.path} can't be made: create the directory {self.path.parent} first")
            # Looked at before anything is changed: a file that is somebody else's isn't written to.
            with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
                _until(deadline, lambda: self._version(connection))
                (mode,) = _until(deadline, lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
                if mode != "wal":
                    raise StorageError(
                        f"{self.path} can't be shared by processes where it is, as on some network file systems: "
                        "put it on a disk of this machine"
                    )
                epoch = _until(deadline, lambda: self._migrate(connection))
            self._identity = self._identify()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StorageError(self.explain(error)) from error
        self._lost = False
        return epoch

    def connect(self) -> sqlite3.Connection:
        """A connection for the current thread, to the file that was prepared.

        Raises:
            StorageError: it can't be opened any more.
        """
        with ExitStack() as cleanup:
            try:
                connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None)
                cleanup.callback(connection.close)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_SIZE}")
                connection.execute("PRAGMA wal_autocheckpoint = 0")  # the keeper's work
                connection.execute("PRAGMA secure_delete = OFF")  # or dropping an event would write all of its pages
            except sqlite3.Error as error:
                raise StorageError(self.explain(error)) from error
            cleanup.pop_all()
        return connection

    def check(self) -> None:
        """See that the file is still the one that was opened.

        SQLite would go on with a file that was deleted, and lose everything with the last process that has it open.

        Raises:
            StorageError: it isn't.
        """
        try:
            if self._identify() == self._identity:
                return
        except OSError:
            pass
        message = (
            f"{self.path} was deleted or replaced while it was in use: stop all processes that use it, remove "
            f"{self.path.name}-wal and {self.path.name}-shm, then start them again"
        )
        if not self._lost:
            self._lost = True
            logger.error(message)
        raise StorageError(message)

    def explain(self, error: Exception) -> str:
        """What an error means, and what would help."""
        if isinstance(error, StorageError):
            return str(error)
        # The low byte is the kind of error, the others say more.
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY:
                why = f"was locked by another process for more than {self.patience:g} s"
            case sqlite3.SQLITE_FULL:
                why = "can't grow, the disk is full: free some space"
            case sqlite3.SQLITE_IOERR:
                why = f"can't be read or written ({error}): is the disk full, or a quota or size limit reached?"
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                why = (
                    f"can't be opened for writing ({error}): let the user of this process write to the file and to its "
                    "directory, where SQLite puts two more"
                )
            case sqlite3.SQLITE_NOTADB:
                why = "is no SQLite database: name another file"
            case sqlite3.SQLITE_CORRUPT:
                why = f"is damaged ({error}): move it away, or restore it from a copy"
            case _:
                why = f"can't be used: {error}"
        return f"{self.path} {why}"

    def _identify(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def _version(self, connection: sqlite3.Connection) -> int:
        with transaction(connection, "DEFERRED"):
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and (application or version or tables):
            raise StorageError(f"{self.path} is the database of another program: name another file")
        if version > len(MIGRATIONS):
            raise StorageError(
                f"{self.path} was written by a newer tidings, in version {version} of its tables; this one knows "
                f"version {len(MIGRATIONS)}: update tidings, or name another file"
            )
        return int(version)

    def _migrate(self, connection: sqlite3.Connection) -> str:
        with transaction(connection, "IMMEDIATE"):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            # Written in any case, so that a file which may only be read is noticed now.
            boot = _boot_id()
            (epoch,) = connection.execute(
                "UPDATE log SET newest = newest + iif(boot IN ('', :boot), 0, :leap), boot = :boot RETURNING epoch",
                {"boot": boot, "leap": _LEAP},
            ).fetchone()
        return str(epoch)


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """A transaction `DEFERRED` (to read) or `IMMEDIATE` (to write), rolled back if anything in it fails."""
    connection.execute(f"BEGIN {kind}")
    with committing(connection):
        yield


@contextmanager
def committing(connection: sqlite3.Connection) -> Iterator[None]:
    """The rest of a transaction that was begun."""
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_busy(error: Exception) -> bool:
    """Whether it was only that another connection had a lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def pause() -> None:
    """Wait for a moment before a lock is tried again.

    SQLite's own waiting grows to 100 ms at a time, and who has waited longest gets it least.
    """
    time.sleep(random.uniform(0.0005, 0.0015))  # noqa: S311 - not for secrets


def _boot_id() -> str:
    """Names the run of this machine since it was started; empty where the system doesn't tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _until(deadline: float, action: Callable[[], T]) -> T:
    """Try until no other process is in the way."""
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        pause()
