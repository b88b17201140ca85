"""Reads some channels from a position on: first what the storage has retained, then what is new in the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from tidings.broker import metrics
from tidings.broker.entry import NEVER, event_id
from tidings.broker.log import BEHIND, Batch, Log, View
from tidings.broker.resume import EARLIEST, Reset, reset_entry, start_of, was_missed
from tidings.broker.storage import Page, Storage

__all__ = ["OpenBroker", "Reader"]


@dataclass(frozen=True, slots=True)
class OpenBroker:
    """What a broker has from its opening to its closing."""

    storage: Storage
    log: Log


class Reader:
    """The position of one subscriber.

    It reads the log, which takes no time, whenever the log reaches back to its position; else a page of the storage:
    at its beginning, when it was too slow, when the log lost its connection. So history and what is new are one
    sequence, and a position is all that has to be kept.
    """

    __slots__ = (
        "_channels",
        "_ends",
        "_key",
        "_last_id",
        "_log",
        "_pending",
        "_position",
        "_recheck",
        "_requested",
        "_storage",
        "_view",
        "_waiter",
        "known",
    )

    def __init__(self, broker: OpenBroker, channels: tuple[str, ...], requested: str | None) -> None:
        self._storage = broker.storage
        self._log = broker.log
        self._channels = channels
        self._key = tuple(sorted(channels))
        self._requested = requested
        self._view: View | None = None  # while it is open
        self._waiter: asyncio.Future[None] | None = None  # while it waits
        self._position = NEVER  # everything up to here was given or is pending
        self._pending: list[Batch] = []
        self._recheck = False  # all channels were finished when the storage was read: are they still?
        self._ends = False
        self._last_id: str | None = None
        self.known: int | None = None
        """The position that the subscriber came with; None if it came with none of this log."""

    @property
    def epoch(self) -> str:
        return self._storage.epoch

    async def begin(self) -> None:
        """Find the position to read from.

        Raises:
            StorageError: the storage can't be read.
        """
        self._view = self._log.join(self._key)  # before the storage is read: what comes after that is in the log
        metrics.subscription_opened()
        try:
            after, reason = start_of(self._requested, self.epoch)
            page = await self._storage.read(self._key, after)
            if after is not None and reason is None and self._requested != EARLIEST:
                reason = was_missed(after, page)
                if reason is Reset.AHEAD:
                    page = await self._storage.read(self._key, NEVER)
                else:
                    self.known = after
                    self._last_id = self._requested
        except BaseException:
            self.leave()
            raise
        self._take(page, reason, self._requested)

    async def next(self) -> Batch | None:
        """What follows, waited for if there is nothing yet; None at the end.

        Raises:
            StorageError: the storage can't be read.
        """
        while True:
            if self._pending:
                return self._pending.pop(0)
            view = self._view
            if self._ends or view is None:
                return None
            batch = BEHIND if self._recheck else view.after(self._position)
            if batch is not None and batch is not BEHIND:
                self._position = batch.position
                if batch.finish:
                    # Of one channel this is the end. Of several only the storage knows of the others.
                    self._ends = len(self._key) == 1
                    self._recheck = not self._ends
                if batch.entries:
                    self._last_id = event_id(self.epoch, batch.position)
                    return batch
            elif self._log.closed:
                return None
            elif batch is BEHIND:
                await self._read_storage()
            else:
                await self._wait(view)

    @property
    def position(self) -> int:
        """Everything up to here was given."""
        return self._pending[0].entries[0].sequence - 1 if self._pending else self._position

    @property
    def at_end(self) -> bool:
        """Whether nothing follows, as far as it was read."""
        return self._ends and not self._pending

    def leave(self) -> None:
        """Give nothing more, also to whoever waits; nothing is kept for this reader any longer."""
        view, self._view = self._view, None
        if view is not None:
            self._pending.clear()
            self._log.leave(view)
            metrics.subscription_closed()
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def __del__(self) -> None:
        # A subscriber that was cancelled or raised leaves its iterator to the garbage collector, which may run in any
        # thread; and the loop may be closed.
        view, self._view = self._view, None
        if view is not None:
            with suppress(RuntimeError):
                self._log.loop.call_soon_threadsafe(self._log.leave, view)
            metrics.subscription_closed()

    async def _wait(self, view: View) -> None:
        self._waiter = self._log.loop.create_future()
        try:
            await view.wait(self._waiter)
        finally:
            self._waiter = None

    async def _read_storage(self) -> None:
        self._recheck = False
        page = await self._storage.read(self._key, self._position)
        if self._view is not None:
            self._take(page, was_missed(self._position, page), self._last_id)

    def _take(self, page: Page, reason: Reset | None, requested: str | None) -> None:
        """Have a page given, behind the reset that is due."""
        if reason is not None:
            metrics.subscriber_reset(reason)
            reset = reset_entry(reason, requested, page, self.epoch, self._channels[0])
            self._pending.append(Batch((reset,), reset.sequence))
        if page.entries:
            self._pending.append(Batch(page.entries, page.position))
        if self._pending:
            self._last_id = event_id(self.epoch, self._pending[-1].entries[-1].sequence)
        self._position = page.position
        if page.finished and page.complete:
            self._recheck = bool(self._pending)
            self._ends = not self._pending
