"""The background streams of a process."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from tidings.broker.background.endings import SHUTDOWN, STOPPED
from tidings.broker.background.leases import Leases
from tidings.broker.background.runner import PATIENCE, Place, Runner
from tidings.broker.draft import draft_of
from tidings.broker.entry import Entry, Kind, split_frame
from tidings.broker.reader import OpenBroker, Reader
from tidings.broker.run import LEASE_SECONDS, State
from tidings.errors import BackgroundLimit, BrokerClosed, ChannelBusy, PublishError, StorageError
from tidings.sources.content import close_content, open_source
from tidings.sources.threaded import ThreadedSource, ThreadLimitReached

__all__ = ["Producer"]

logger = logging.getLogger("tidings.broker")

_MAILBOX: Final = "\x01"
"""In front of a producer's name: the channel in which others ask it to stop something. Users' channels have no control
characters."""

_MAX_SYNC: Final = 1_000
"""Sync sources that a process may run, each of which has a thread of its own."""

_SHUTDOWN_PATIENCE: Final = 1.5
"""Seconds that a source may take to end when its broker is closed."""

_LAST_WORDS: Final = 0.5
"""Seconds for which readers are waited for, then."""

_LOOK: Final = 0.05
"""Seconds between two looks at whether another process has stopped a run, or readers have left."""

_AGAIN: Final = 0.5
"""Seconds after which the mailbox is opened again, if it couldn't be read."""


class Producer:
    """The runs of an open broker.

    Args:
        broker: whose they are.
        most: how many there may be, None: any number.
        max_event_size: bytes that an event may have.
        expose_errors: whether readers are told what a source raised.
    """

    def __init__(
        self, broker: OpenBroker, most: int | None, *, max_event_size: int | None, expose_errors: bool
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._broker = broker
        self._storage = broker.storage
        self._place = Place(broker, self.name, max_event_size, expose_errors)
        self._most = most
        self._runners: dict[str, Runner] = {}
        self._starting: set[asyncio.Future[None]] = set()  # done when the start has ended
        self._leases = Leases(self._storage, self.name, self._doubt)
        self._listening: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._undoing: set[asyncio.Task[None]] = set()
        self._closing = False
        self._closed = False

    # -- starting -----------------------------------------------------------------------------------------------------

    async def start(self, channel: str, content: Any, timeout: float | None) -> None:
        """Run a source in the background; returns when it is recorded as running.

        Raises:
            BackgroundLimit, BrokerClosed, ChannelBusy, PublishError, StorageError: it isn't run, and is closed.
        """
        starting: asyncio.Future[None] = self._broker.log.loop.create_future()
        self._starting.add(starting)
        try:
            self._check_open()
            self._check_count()
            with _reserved(open_source(content)) as source:
                await self._listen()
                id = await self._begin(channel)
        except BaseException:
            await close_content(content)
            raise
        finally:
            self._starting.remove(starting)
            starting.set_result(None)
        self._runners[id] = Runner(self._place, channel, id, source, timeout, self._ended)
        self._leases.keep()

    def _check_open(self) -> None:
        if self._closing:
            raise BrokerClosed("the broker is being closed: it starts nothing more")

    def _check_count(self) -> None:
        if self._most is not None and len(self._runners) + len(self._starting) > self._most:
            raise BackgroundLimit(
                f"max_background={self._most} background streams run in this process already: try again when one of "
                "them has ended, or raise the limit"
            )

    async def _begin(self, channel: str) -> str:
        """Record a run; returns its id."""
        id = secrets.token_hex(8)
        begin = asyncio.ensure_future(self._storage.begin(channel, id, self.name, LEASE_SECONDS))
        try:
            begun = await asyncio.shield(begin)
            self._check_open()
        except BaseException:
            self._spawn(self._undo(begin, channel, id), self._undoing)
            raise
        if not begun:
            raise ChannelBusy(f"a background stream is running in {channel!r} already")
        return id

    async def _undo(self, begin: asyncio.Future[bool], channel: str, id: str) -> None:
        """End a run that may be recorded, and has no runner."""
        await asyncio.wait([begin])
        while not self._closed:
            try:
                await self._storage.extend(channel, id, None, SHUTDOWN.drafts, SHUTDOWN.state)
            except PublishError:
                await asyncio.sleep(_AGAIN)
            else:
                return

    def _ended(self, runner: Runner) -> None:
        del self._runners[runner.id]
        if not self._runners and not self._starting:
            self._leases.let_go()

    def _doubt(self) -> None:
        for runner in self._runners.values():
            runner.doubt()

    def _spawn(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)

    # -- stopping -----------------------------------------------------------------------------------------------------

    async def stop(self, channel: str) -> bool:
        """Stop the run of a channel, wherever it is; whether one was running.

        Raises:
            PublishError, StorageError: it may or may not be stopped.
        """
        run = await self._storage.run_of(channel)
        if run is None or run.state is not State.RUNNING:
            return False
        runner = self._runners.get(run.id)
        if runner is not None:
            runner.stop(STOPPED)
            await asyncio.wait([runner.ended], timeout=PATIENCE)
        else:
            await self._storage.append(_mailbox_of(run.producer), draft_of(None, event=None, raw_data=run.id))
            await self._wait_for_end(channel, run.id)
        # If it hasn't ended by now, it ends by this. If it has, nothing happens.
        await self._storage.extend(channel, run.id, None, STOPPED.drafts, STOPPED.state)
        return True

    async def _wait_for_end(self, channel: str, id: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (run := await self._storage.run_of(channel)) is not None:
                    if run.id != id or run.state is not State.RUNNING:
                        return
                    await asyncio.sleep(_LOOK)

    async def _listen(self) -> None:
        """See that others can have the runs of this process stopped.

        Raises:
            StorageError: the log can't be read.
        """
        if self._listening is None:
            self._listening = self._broker.log.loop.create_future()
            self._spawn(self._read_mailbox(self._listening), self._tasks)
        await asyncio.shield(self._listening)

    async def _read_mailbox(self, listening: asyncio.Future[None]) -> None:
        while True:
            reader = Reader(self._broker, (_mailbox_of(self.name),), None)
            try:
                await reader.begin()
                if listening.done():
                    self._doubt()  # what was asked for meanwhile has been missed
                else:
                    listening.set_result(None)
                while (batch := await reader.next()) is not None:
                    for entry in batch.entries:
                        self._take_order(entry)
            except StorageError as error:
                if not listening.done():
                    self._listening = None
                    listening.set_exception(error)
                    listening.exception()  # also if who waited for it has been cancelled
                    return
                logger.warning("background streams can't be stopped by other processes for now: %s", error)
            finally:
                reader.leave()
            await asyncio.sleep(_AGAIN)  # or until this task is cancelled, as the broker is closed

    def _take_order(self, entry: Entry) -> None:
        if entry.kind == Kind.CONTROL:
            self._doubt()  # a reset: some may be missing
            return
        _, id = split_frame(entry.frame)
        runner = self._runners.get(id)
        if runner is not None:
            runner.stop(STOPPED)

    # -- ending -------------------------------------------------------------------------------------------------------

    async def close(self, grace: float | None) -> None:
        """End all runs: for `grace` seconds they may go on, then they are stopped."""
        self._closing = True
        channels = {runner.channel for runner in self._runners.values()}
        try:
            await self._wait_for_all(grace)
            for runner in list(self._runners.values()):
                runner.stop(SHUTDOWN, _SHUTDOWN_PATIENCE)
            await self._wait_for_all(_SHUTDOWN_PATIENCE + PATIENCE)
            await self._wait_for_readers(channels)
        finally:
            for runner in list(self._runners.values()):
                runner.drop()
            self._closed = True
            if self._listening is not None and not self._listening.done():
                self._listening.set_exception(BrokerClosed("the broker was closed"))
            for task in self._tasks | self._undoing:
                task.cancel()
            await self._leases.close()

    async def _wait_for_all(self, timeout: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while left := [*self._starting, *self._undoing, *(runner.ended for runner in self._runners.values())]:
                    await asyncio.wait(left)

    async def _wait_for_readers(self, channels: Iterable[str]) -> None:
        """Let who reads here hear of the ends. They leave when they have."""
        end = self._broker.log.loop.time() + _LAST_WORDS
        while any(map(self._broker.log.readers, channels)) and self._broker.log.loop.time() < end:
            await asyncio.sleep(_LOOK)


def _mailbox_of(producer: str) -> str:
    return _MAILBOX + producer


@contextmanager
def _reserved(source: AsyncIterator[Any]) -> Iterator[AsyncIterator[Any]]:
    """A source whose thread is counted, if it has one."""
    if not isinstance(source, ThreadedSource):
        yield source
        return
    try:
        source.reserve(_MAX_SYNC)
    except ThreadLimitReached:
        raise BackgroundLimit(f"{_MAX_SYNC} sync sources run in this process already: make some async") from None
    try:
        yield source
    except BaseException:
        source.release()
        raise
