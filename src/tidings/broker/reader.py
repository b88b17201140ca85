"""Reads some channels from a position on: first what the storage has retained, then what is new in the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from tidings.broker.entry import NEVER, event_id
from tidings.broker.log import BEHIND, Batch, Behind, Log, Miss, View
from tidings.broker.resume import EARLIEST, Reset, reset_entry, start_of, was_missed
from tidings.broker.storage import Page, Storage
from tidings.errors import BrokerClosed, StorageError
from tidings.wire.frames import Listener

__all__ = ["OpenBroker", "Reader"]


@dataclass(frozen=True, slots=True)
class OpenBroker:
    """What a broker has from its opening to its closing."""

    storage: Storage
    log: Log
    timeout: float | None
    """Seconds that a response waits for the storage when it opens a subscription."""


class Reader:
    """The position of one subscriber.

    It reads the log, which takes no time, whenever the log reaches back to its position; else a page of the storage:
    at its beginning, when it was too slow, when the log lost its connection. So history and what is new are one
    sequence, and a position is all that has to be kept.
    """

    __slots__ = (
        "__weakref__",
        "_ask",
        "_channel",
        "_ends",
        "_key",
        "_log",
        "_missed",
        "_pending",
        "_position",
        "_read_from",
        "_read_to",
        "_requested",
        "_storage",
        "_view",
        "_waiter",
        "epoch",
        "last",
        "listener",
    )

    def __init__(self, broker: OpenBroker, channels: tuple[str, ...], requested: str | None) -> None:
        self._storage = broker.storage
        self._log = broker.log
        self._channel = channels[0]
        self._key = tuple(sorted(channels))
        self._requested = requested
        self._view: View | None = None  # while it is open
        self._waiter: asyncio.Future[None] | None = None  # while it waits
        self._position = NEVER  # everything up to here was given or is pending
        self._pending: tuple[Batch, ...] = ()
        # Between these everything was read from the storage: what wasn't fed in its place is not missing there.
        self._read_from = NEVER
        self._read_to = NEVER
        self._missed = Miss(NEVER, NEVER)  # the newest of the view that this reader knows of
        # Whether the storage is to be asked where the log has nothing: it has more; or all channels were finished when
        # it was read, and maybe they still are.
        self._ask = False
        self._ends = False
        self.epoch = ""
        """Of the log that the positions are in, once it is open."""
        self.last: int | None = None
        """The sequence of the last id that the subscriber knows: it came with it, was given it, or is given it next."""
        self.listener: Listener | None = None
        """Called, if `next` isn't, when there is something after `ready` had nothing; its frames are a `Batch`."""

    async def begin(self) -> None:
        """Find the position to read from.

        Raises:
            BrokerClosed: the broker was closed meanwhile.
            StorageError: the storage can't be read.
        """
        self._view = self._log.join(self._key)  # before the storage is read: what comes after that is in the log
        # The same, but one for all.
        self._key = self._view.key
        self._channel = self._key[self._key.index(self._channel)]
        self._missed = self._view.missed
        try:
            page, reason = await self._first_page()
        except BaseException as error:
            self.leave()
            if isinstance(error, StorageError) and self._log.closed:
                raise BrokerClosed("the broker was closed before the subscription had begun") from error
            raise
        self._take(page, reason, self._requested)
        self._requested = None  # it has served

    async def _first_page(self) -> tuple[Page, Reset | None]:
        while True:
            epoch = self._storage.epoch
            after, reason = start_of(self._requested, epoch)
            page = await self._storage.read(self._key, after)
            if page.epoch != epoch:
                continue  # the log was lost just now; the storage knows it by this page
            self.epoch = epoch
            if after is None or reason is not None or self._requested == EARLIEST:
                return page, reason
            reason = was_missed(after, page)
            if reason is not Reset.AHEAD:
                self.last = after
                return page, reason
            page = await self._storage.read(self._key, NEVER)
            if page.epoch == epoch:
                return page, reason

    async def next(self) -> Batch | None:
        """What follows, waited for if there is nothing yet; None at the end.

        Raises:
            StorageError: the storage can't be read.
        """
        while (batch := await self.ready()) is None and not self.ended:
            self._waiter = self._log.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._stop_waiting()
        return batch

    async def ready(self) -> Batch | None:
        """What follows; None if there is nothing now: then this reader is woken when there is.

        Raises:
            StorageError: the storage can't be read.
        """
        while not self.ended:
            if self._pending:
                first, *rest = self._pending
                self._pending = tuple(rest)
                return self._give(first)
            batch = self._look(self._open_view)
            if batch is not None and batch is not BEHIND:
                self._position = batch.position
                if batch.finish:
                    # Of one channel this is the end. Of several only the storage knows of the others.
                    self._ends = len(self._key) == 1
                    self._ask = not self._ends
                if batch.entries:
                    return self._give(batch)
            elif self._log.closed:
                self._ends = True
            elif batch is None or not await self._read_storage():
                self._open_view.waiting[self] = None
                break
        return None

    def _look(self, view: View) -> Batch | Behind | None:
        if self.epoch != self._storage.epoch or self._missed is not view.missed:
            return BEHIND
        batch = view.after(self._position)
        return BEHIND if batch is None and self._ask else batch

    def _give(self, batch: Batch) -> Batch:
        self.last = batch.last
        return batch

    def wake(self) -> None:
        """Called by the log after there was nothing."""
        view = self._view
        if view is None:
            return
        if self._waiter is not None or self.listener is None or self._log.closed:
            self._wake_task()
            return
        batch = self._look(view)
        if batch is None:
            return  # what there was came with another channel's
        if batch is BEHIND or batch.finish:
            self._wake_task()
        elif self.listener.on_news(batch):
            self._position = batch.position
            self.last = batch.last
            if batch.more:
                self._wake_task()
        else:
            self._stop_waiting()

    def _wake_task(self) -> None:
        self._stop_waiting()
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self.listener is not None:
            self.listener.on_news(None)

    @property
    def _open_view(self) -> View:
        assert self._view is not None
        return self._view

    def _stop_waiting(self) -> None:
        if self._view is not None:
            self._view.waiting.pop(self, None)

    @property
    def position(self) -> int:
        """Everything up to here was given."""
        return self._pending[0].entries[0].sequence - 1 if self._pending else self._position

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self._view is None or (self._ends and not self._pending)

    def leave(self) -> None:
        """Give nothing more, also to whoever waits; nothing is kept for this reader any longer."""
        view, self._view = self._view, None
        if view is None:
            return
        self._pending = ()
        view.waiting.pop(self, None)
        self._log.leave(view)
        self._wake_task()

    def __del__(self) -> None:
        # A subscriber that was cancelled or raised leaves its iterator to the garbage collector, which may run in any
        # thread, and wherever that stands. And the loop may be closed.
        view, self._view = self._view, None
        if view is not None:
            with suppress(RuntimeError):
                self._log.loop.call_soon_threadsafe(self._log.leave, view)

    async def _read_storage(self) -> bool:
        """Have a page given; False: not now, but this reader will be woken for it."""
        view, epoch = self._open_view, self.epoch
        missed, after = view.missed, self._certain
        try:
            while (page := await self._storage.read(self._key, after)).epoch != epoch:
                epoch = page.epoch  # the log that was read before is lost
                missed, after = view.missed, self._certain if epoch == self.epoch else NEVER
        except StorageError as error:
            if self._log.closed or self._view is None:
                self._ends = True  # the broker was closed meanwhile, or the subscriber has gone: that is no error
                return True
            if error.temporary:
                return False
            raise
        if self._view is not None:
            last_id = None if self.last is None else event_id(self.epoch, self.last)
            reason = was_missed(self._position, page)
            if page.epoch != self.epoch:
                reason = Reset.EPOCH
            elif after < self._position:
                reason = Reset.TRIMMED
            self.epoch = page.epoch
            self._missed = missed
            if not self._read_from <= after <= self._read_to:
                self._read_from = after
            self._take(page, reason, last_id)
        return True

    @property
    def _certain(self) -> int:
        """Everything up to here was given: before the position, where something was passed by that was not fed."""
        certain = self._position
        miss = self._missed.next
        while miss is not None:
            if self._read_from > miss.after:
                certain = min(certain, miss.after)
            elif self._read_to < miss.up_to:
                certain = min(certain, max(miss.after, self._read_to))
            miss = miss.next
        return certain

    def _take(self, page: Page, reason: Reset | None, requested: str | None) -> None:
        """Have a page given, behind the reset that is due."""
        if reason is not None:
            self._log.figures.reset(reason)
            reset = reset_entry(reason, requested, page, self.epoch, self._channel)
            self._pending += (Batch((reset,), reset.sequence),)
            self.last = reset.sequence  # no other id is to reach the subscriber before it
        if page.entries:
            self._pending += (Batch(page.entries, page.position),)
        self._position = self._read_to = page.position
        self._ends = page.finished and page.complete and not self._pending
        self._ask = not self._ends and (page.finished or not page.complete)
