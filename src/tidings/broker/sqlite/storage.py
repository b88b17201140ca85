"""The log in an SQLite file."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, TypeVarTuple

from tidings.broker.entry import FINISH, Draft, event_id
from tidings.broker.run import Lease, Run, State
from tidings.broker.sqlite.appending import Changes
from tidings.broker.sqlite.claims import claim_key
from tidings.broker.sqlite.database import Database
from tidings.broker.sqlite.keeper import Keeper
from tidings.broker.sqlite.reader import Reader
from tidings.broker.sqlite.runs import abort_runs, begin_run, extend_run, find_run, list_leases, renew_lease
from tidings.broker.sqlite.worker import Worker
from tidings.broker.sqlite.writer import Writer
from tidings.broker.storage import ChannelInfo, Feed, Page, Retention, Storage
from tidings.errors import PublishError, StorageError

__all__ = ["SQLiteStorage"]

T = TypeVar("T")
_Arguments = TypeVarTuple("_Arguments")

logger = logging.getLogger("tidings.broker")

_DISK_PATIENCE: Final = 5.0
"""Seconds that closing may take when all locks are there."""


class SQLiteStorage(Storage):
    """A log in a file, shared by all processes of a machine that open it; none of them forks while it is open.

    Args:
        path: the file; made if there is none. SQLite puts two more beside it while it is in use.
        retention: what is kept of a channel.
        synchronous: `NORMAL`: what was appended survives the death of the process, but a power cut may cost the last
            of it. `FULL`: it survives that too, and each transaction waits for the disk.
        timeout: seconds after which an append is given up. None: never.
    """

    kind = "sqlite"

    def __init__(
        self, path: Path, retention: Retention, *, synchronous: str = "NORMAL", timeout: float | None = 5.0
    ) -> None:
        self._database = Database(path, synchronous, timeout)
        self._retention = retention
        self._timeout = timeout
        self._open: _Workers | None = None
        self._listened: set[str] = set()

    async def open(self, feed: Feed) -> None:
        reader = Reader(self._database, self._retention, feed)
        keeper = Keeper(self._database, self._retention)

        def committed(size: int) -> None:
            reader.look()
            keeper.wrote(size)

        writer = Writer(self._database, self._retention.history, self._timeout, committed)
        workers = _Workers(writer, reader, keeper)  # the writer first, as it prepares the file
        try:
            for worker in workers:
                await worker.start()
        except BaseException:
            await self._stop(workers)
            raise
        self.epoch = writer.epoch
        self._listened.clear()
        self._open = workers

    async def close(self) -> None:
        workers, self._open = self._open, None
        if workers is not None:
            await self._stop(workers)

    @property
    def connected(self) -> bool:
        opened = self._open
        return opened is not None and not (opened.writer.failing or opened.reader.failing)

    async def append(self, channel: str, draft: Draft) -> str:
        size = len(draft.head) + len(draft.tail)
        sequence = await self._do(Changes.append, (channel, draft), "event", 1, size)
        return event_id(self.epoch, sequence)

    async def finish(self, channel: str) -> None:
        await self.append(channel, FINISH)

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        return await self._reader.read(channels, after)

    async def channels(self, after: str, most: int) -> Sequence[ChannelInfo]:
        return await self._reader.channels(self.epoch, after, most)

    def listen(self, channel: str) -> int | None:
        if self._open is None:
            return None
        if not self._listened:
            self._open.reader.listen()
        self._listened.add(channel)
        return self._open.reader.position

    def unlisten(self, channel: str) -> None:
        self._listened.discard(channel)
        if not self._listened and self._open is not None:
            self._open.reader.unlisten()

    async def claim(self, key: str, seconds: float) -> bool:
        return await self._do(claim_key, (key, seconds), "claim")

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:
        return await self._do(begin_run, (channel, run, producer, lease))

    async def extend(
        self, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None = None
    ) -> bool:
        size = sum(len(draft.head) + len(draft.tail) for draft in drafts)
        return await self._do(extend_run, (channel, run, after, drafts, end), entries=len(drafts), size=size)

    async def run_of(self, channel: str) -> Run | None:
        return await self._reader.ask(lambda connection: find_run(connection, channel))

    async def renew(self, producer: str, lease: float) -> bool:
        return await self._do(renew_lease, (producer, lease))

    async def leases(self) -> Sequence[Lease]:
        return await self._reader.ask(list_leases)

    async def abort(self, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
        return await self._do(abort_runs, (lease, drafts, end, most), entries=most * len(drafts))

    @property
    def _reader(self) -> Reader:
        if self._open is None:
            raise StorageError(f"{self._database.path} is not open")
        return self._open.reader

    def _do(
        self,
        action: Callable[[Changes, *_Arguments], T],
        arguments: tuple[*_Arguments],
        what: str = "change",
        entries: int = 0,
        size: int = 0,
    ) -> Awaitable[T]:
        """See `Writer.do`."""
        if self._open is None:
            raise PublishError(f"{self._database.path} is not open; the {what} is not stored")
        return self._open.writer.do(action, arguments, what, entries, size)

    async def _stop(self, workers: _Workers) -> None:
        try:
            workers.reader.stop()
            workers.keeper.stop()
            ended = await self._has_ended(workers.reader) and await self._has_ended(workers.keeper)
        finally:
            # Its connection is closed after the others: the last one clears the write-ahead log away, and of two that
            # are closed at the same moment neither is it.
            workers.writer.stop()
        if not (await self._has_ended(workers.writer) and ended):
            logger.error("%s: closing it takes too long, its threads are left behind", self._database.path)

    async def _has_ended(self, worker: Worker[Any]) -> bool:
        # Who waits for a lock has given up by then; only a disk that doesn't answer can take longer.
        return await worker.wait_until_ended(self._database.patience + _DISK_PATIENCE)


class _Workers(NamedTuple):
    writer: Writer
    reader: Reader
    keeper: Keeper
