"""Drives one source, and writes what it gives to the log."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from tidings.broker.background.endings import FINISHED, SHUTDOWN, TIMED_OUT, Ending
from tidings.broker.draft import check_size, draft_of
from tidings.broker.entry import Draft
from tidings.broker.reader import OpenBroker
from tidings.broker.run import LEASE_SECONDS
from tidings.errors import PublishError, StorageError
from tidings.sources.content import Resumable, close_source

__all__ = ["PATIENCE", "Place", "Runner"]

logger = logging.getLogger("tidings.broker")

PATIENCE: Final = 5.0
"""Seconds that a source may take to end after it was told to; then the run ends without it."""

_MOST: Final = 256
"""Events that are written at once, and that the source may be ahead of them."""

_MOST_BYTES: Final = 262_144
"""Bytes that are enough for one write."""

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 1.0
"""Seconds before a write that failed is tried again: they double, and vary by chance."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs of a process are recorded, and on which terms."""

    broker: OpenBroker
    producer: str
    max_event_size: int | None
    expose_errors: bool


class Runner:
    """A run.

    The source runs in a task of its own. What it gives is written by another one, which is there only while there is
    something to write: so a write takes whatever was given while the one before was under way, nothing waits for more
    to come, and an idle source costs one task.

    A write that failed is repeated for as long as the run is running: the storage knows by their count which events it
    has. Meanwhile the source waits at its `yield`.

    Args:
        place: where the run is recorded as running.
        channel: the run's.
        id: of the run.
        source: of items; it is closed at the end.
        timeout: seconds that the source may take, None: as long as it takes.
        on_end: called when everything is written.
    """

    __slots__ = (
        "_doubted",
        "_drafts",
        "_ending",
        "_epoch",
        "_failing",
        "_loop",
        "_on_end",
        "_place",
        "_pulling",
        "_pulls",
        "_room",
        "_size",
        "_source",
        "_stored",
        "_timer",
        "_why",
        "_writing",
        "channel",
        "ended",
        "id",
    )

    def __init__(
        self,
        place: Place,
        channel: str,
        id: str,
        source: AsyncIterator[Any],
        timeout: float | None,
        on_end: Callable[[Runner], None],
    ) -> None:
        self.channel = channel
        self.id = id
        self._place = place
        self._source = source
        self._on_end = on_end
        self._epoch = place.broker.storage.epoch
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._drafts: list[Draft] = []  # given, not written yet
        self._size = 0  # bytes of these
        self._room: asyncio.Future[None] | None = None  # while the source waits for them to be written
        self._stored = 0  # events of this run in the storage
        self._doubted = False  # whether the run is still running is to be asked
        self._failing = False
        self._pulls = False  # the source may have begun
        self._why: Ending | None = None  # it was told to end
        self._ending: Ending | None = None  # it has ended, or is waited for no longer
        self._timer = None if timeout is None else self._loop.call_later(timeout, self.stop, TIMED_OUT)
        self._writing: asyncio.Task[None] | None = None
        self._pulling = self._loop.create_task(self._pull())
        self._pulling.add_done_callback(self._pulled)
        place.broker.log.figures.run_began()

    def stop(self, why: Ending, patience: float = PATIENCE) -> None:
        """Have the source end: `CancelledError` at its `await`, or closed at its `yield`.

        Args:
            why: how the run ends then.
            patience: seconds after which it does, though the source has not.
        """
        if self._why is None and self._ending is None:
            self._cancel(why)
            self._set_timer(self._loop.call_later(patience, self._conclude, why))

    def doubt(self) -> None:
        """The lease may have run out for a while: see whether somebody has ended this run."""
        self._doubted = True
        self._write_soon()

    def drop(self) -> None:
        """Write nothing more: the broker is closed, and the storage can't be reached."""
        if self._writing is not None:
            self._writing.cancel()
        self._end()

    def _cancel(self, why: Ending) -> None:
        if self._why is None:
            self._why = why
            if self._pulls:
                self._pulling.cancel()  # a task that is cancelled before its first step doesn't take it

    # -- the source ---------------------------------------------------------------------------------------------------

    async def _pull(self) -> None:
        """Take what the source gives, until it ends; then close it."""
        try:
            try:
                if self._why is None:
                    self._pulls = True
                    await self._take_items()
            finally:
                await close_source(self._source)
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if self._why is None and task is not None and task.cancelling():
                ending = SHUTDOWN  # somebody cancels all tasks
            else:
                ending = self._why or self._failed(cancelled)
        except Exception as error:  # noqa: BLE001 - logged, and told to the readers
            ending = self._why or self._failed(error)
        else:
            ending = self._why or FINISHED
        # Not the task's result, which is lost if a task group of the source's has cancelled the task once more.
        self._conclude(ending)

    async def _take_items(self) -> None:
        most = self._place.max_event_size
        items = Resumable(self._source)
        async for item in items:
            if self._why is not None:
                return  # it was cancelled, and goes on all the same
            draft = draft_of(item, event=None, raw_data=None)
            check_size(draft, most)
            self._drafts.append(draft)
            self._size += len(draft.head)
            self._write_soon()
            if len(self._drafts) >= _MOST or self._size >= _MOST_BYTES:
                try:
                    await self._wait_for_room()
                except asyncio.CancelledError as cancelled:
                    if self._why is not None:
                        raise
                    items.cancel(cancelled)  # a timeout of the source's own, around its `yield`

    async def _wait_for_room(self) -> None:
        if self._drafts:
            self._room = self._loop.create_future()
            await self._room

    def _failed(self, error: BaseException) -> Ending:
        logger.error("the background stream in %r failed", self.channel, exc_info=error)
        return Ending.failed(_text_of(error) if self._place.expose_errors else "internal error")

    def _pulled(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._conclude(SHUTDOWN)

    def _conclude(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._set_timer(None)
            self._write_soon()

    def _set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    # -- the log ------------------------------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if self._writing is None and not self.ended.done():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        running = True
        while running and (self._drafts or self._doubted or self._ending is not None):
            drafts, self._drafts, self._size, self._doubted = self._drafts, [], 0, False
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
            ending = self._ending
            running = await self._store(drafts, ending) and ending is None
        self._writing = None
        if not running:
            self._end()

    async def _store(self, drafts: list[Draft], ending: Ending | None) -> bool:
        """Write these, and the end if it is the end; False if somebody else has ended the run."""
        storage, log = self._place.broker.storage, self._place.broker.log
        last, state = ((), None) if ending is None else (ending.drafts, ending.state)
        delay = _FIRST_DELAY
        while True:
            try:
                running = self._epoch == storage.epoch or await self._begin_again(drafts)
                if running and await storage.extend(self.channel, self.id, self._stored, [*drafts, *last], state):
                    break
                if not running or self._epoch == storage.epoch:
                    logger.warning("the background stream in %r was ended by another process", self.channel)
                    return False
                continue  # the log was lost just now
            except (PublishError, StorageError) as error:
                if not self._failing:
                    self._failing = True
                    logger.warning("the background stream in %r can't write for now: %s", self.channel, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - to spread them
            delay = min(2 * delay, _LONGEST_DELAY)
        self._failing = False
        self._stored += len(drafts)
        log.figures.publish(len(drafts))
        await log.give_way(len(drafts))
        return True

    async def _begin_again(self, drafts: list[Draft]) -> bool:
        """The log was lost: record the run in the one that there is now; False if another one has begun there.

        That may be a part of the old one, which has some events of the run: fewer than were stored; or, if an answer
        was lost, some of these drafts, too, which are left out then.
        """
        storage = self._place.broker.storage
        epoch = storage.epoch
        if not await storage.begin(self.channel, self.id, self._place.producer, LEASE_SECONDS):
            return False
        run = await storage.run_of(self.channel)
        events = 0 if run is None else run.events
        del drafts[: max(0, events - self._stored)]
        self._epoch, self._stored = epoch, events
        return True

    def _end(self) -> None:
        """Nothing is written any more."""
        if self.ended.done():
            return
        if self._ending is None:
            self._ending = SHUTDOWN
            self._cancel(SHUTDOWN)
        self._set_timer(None)
        self._place.broker.log.figures.run_ended(self._ending.state)
        self.ended.set_result(None)
        self._on_end(self)


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is somebody else's
        text = type(error).__name__
    return text.encode(errors="replace").decode()  # halves of surrogate pairs can't be sent
