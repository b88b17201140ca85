"""The log in Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from heapq import merge
from typing import Any, Final, NamedTuple, TypeVar

from tidings.broker.entry import FINISH, NEVER, Draft, Entry, event_id
from tidings.broker.redis.keeper import Keeper
from tidings.broker.redis.keys import Keys
from tidings.broker.redis.known import Known
from tidings.broker.redis.listener import Listener
from tidings.broker.redis.publisher import Publisher, Terms
from tidings.broker.redis.runs import Runs
from tidings.broker.redis.server import ERRORS, Script, Server, database_of, may_pass
from tidings.broker.run import Lease, Run, State
from tidings.broker.storage import PAGE_BYTES, PAGE_ENTRIES, ChannelInfo, Feed, Page, Retention, Storage, first_page
from tidings.errors import PublishError, StorageError

__all__ = ["RedisStorage"]

T = TypeVar("T")

logger = logging.getLogger("tidings.broker")

_LISTED_AT_ONCE: Final = 100
"""Channels listed in one step of the server, in which it does nothing else."""


class RedisStorage(Storage):
    """A log in a server, shared by processes of many machines.

    Args:
        url: of the server.
        retention: what is kept of a channel.
        namespace: the prefix of its keys; several logs may be in one database.
        timeout: seconds after which an append or a page is given up. None: never.
    """

    kind = "redis"

    def __init__(self, url: str, retention: Retention, *, namespace: str, timeout: float | None) -> None:
        self._url = url
        self._retention = retention
        if set(namespace) & {"{", "}"}:
            raise ValueError(f"'namespace' must not hold braces, which mean something in keys of Redis: {namespace!r}")
        self._keys = Keys(namespace, database_of(url))
        self._timeout = timeout
        # What the scripts are told of the retention: events, and their age in milliseconds; -1: any.
        self._shown = (
            -1 if retention.history is None else retention.history,
            -1 if retention.max_age is None else int(retention.max_age * 1000),
        )
        self._page = Script("page")
        self._list = Script("list")
        self._open: _Open | None = None
        self._calls: set[asyncio.Task[Any]] = set()

    async def open(self, feed: Feed) -> None:
        known = Known()
        server = Server(self._url, self._keys, known, self._timeout)
        opened = _Open(
            server,
            known,
            Publisher(server, self._keys, known, self._shown, self._timeout),
            Listener(server, self._keys, known, feed, self._newest),
            Keeper(server, self._keys, self._retention.forget_after),
            Runs(server, self._keys),
        )
        self._open = opened
        try:
            self.epoch = (await self.read((), None)).epoch
        except BaseException:
            await self.close()
            raise

        def changed(epoch: str) -> None:
            logger.warning("%s: the log has lost events, and begins anew", server.name)
            self.epoch = epoch
            feed.lose()
            opened.listener.begin_anew()

        known.on_change = changed

    async def close(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        try:
            await opened.publisher.close()
        finally:
            # In a task of its own: whoever is cancelled meanwhile, no connection is left open.
            releasing = asyncio.create_task(self._release(opened))
            try:
                await asyncio.shield(releasing)
            except asyncio.CancelledError:
                await asyncio.wait([releasing])
                raise

    async def _release(self, opened: _Open) -> None:
        await opened.listener.close()
        await opened.keeper.close()
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        await opened.server.close()

    @property
    def connected(self) -> bool:
        opened = self._open
        return opened is not None and opened.server.answers and not opened.listener.lost

    async def append(self, channel: str, draft: Draft) -> str:
        if self._open is None:
            raise PublishError("the log is not open; the event is not stored")
        return await self._open.publisher.append(channel, draft)

    async def finish(self, channel: str) -> None:
        await self.append(channel, FINISH)

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        opened = self._opened
        known = opened.known
        asked = ("" if after is None else after, *self._shown, PAGE_ENTRIES, PAGE_BYTES)
        while True:
            since = known.epoch
            call = opened.server.run(self._page, self._keys_of(channels), (*asked, *known.arguments))
            try:
                epoch, newest, forgotten, states = await self._call(call)
            except StorageError as error:
                if error.temporary:
                    opened.listener.begin_anew()  # when it can be read again, everybody is told to look
                raise
            if known.learn(epoch.decode(), int(newest), since):
                return _page(epoch.decode(), int(newest), int(forgotten), channels, states)

    async def channels(self, after: str, most: int) -> Sequence[ChannelInfo]:
        server = self._opened.server
        start = f"({after}" if after else "-"
        some = min(most, _LISTED_AT_ONCE)
        found = await self._call(server.call("ZRANGEBYLEX", self._keys.names, start, "+", "LIMIT", 0, some))
        names = [name.decode() for name in found]
        if not names:
            return []
        epoch, infos = await self._call(server.run(self._list, self._keys_of(names), self._shown))
        listed = [_info(epoch.decode(), name, info) for name, info in zip(names, infos, strict=True) if info]
        return listed or await self.channels(names[-1], most)  # all of them were forgotten meanwhile

    def _keys_of(self, channels: Sequence[str]) -> list[str]:
        keys = [self._keys.log]
        for channel in channels:
            keys += (self._keys.state(channel), self._keys.stream(channel))
        return keys

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise StorageError("the log is not open")
        return self._open

    async def _call(self, command: Coroutine[Any, Any, T], what: str = "read") -> T:
        """Wait for a command; `StorageError` if it fails."""
        if self._open is None:
            command.close()
            raise StorageError("the log was closed")
        server = self._open.server
        # In a task of its own: who waits for a page may be cancelled at any moment, a connection may not.
        call = asyncio.create_task(command)
        self._calls.add(call)
        call.add_done_callback(self._called)
        await asyncio.wait([call], timeout=self._timeout)
        if not call.done():
            call.cancel()
            raise StorageError(f"{server.name} didn't answer within {self._timeout} s", temporary=True)
        try:
            return call.result()
        except asyncio.CancelledError:
            raise StorageError("the log was closed") from None
        except ERRORS as error:
            message = f"{server.name} can't be {what}: {server.describe(error)}"
            raise StorageError(message, temporary=may_pass(error)) from None  # which may show the password

    def _called(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # also where nobody waits for it any more

    async def _newest(self) -> int:
        return (await self.read((), None)).newest

    def listen(self, channel: str) -> int | None:
        return None if self._open is None else self._open.listener.listen(channel)

    def unlisten(self, channel: str) -> None:
        if self._open is not None:
            self._open.listener.unlisten(channel)

    async def claim(self, key: str, seconds: float) -> bool:
        with _recording("claimed"):
            milliseconds = math.ceil(seconds * 1000)
            command = self._opened.server.call("SET", self._keys.claim(key), "", "PX", milliseconds, "NX")
            return await self._call(command, "written") is not None

    # -- background streams -------------------------------------------------------------------------------------------

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:
        with _recording():
            return await self._call(self._opened.runs.begin(channel, run, producer, lease), "written")

    async def extend(
        self, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None = None
    ) -> bool:
        if self._open is None:
            raise PublishError("the log is not open; the event is not stored")
        return await self._open.publisher.extend(channel, drafts, Terms(run, after, end))

    async def run_of(self, channel: str) -> Run | None:
        return await self._call(self._opened.runs.last(channel))

    async def renew(self, producer: str, lease: float) -> bool:
        with _recording():
            return await self._call(self._opened.runs.renew(producer, lease), "written")

    async def leases(self) -> Sequence[Lease]:
        return await self._call(self._opened.runs.leases())

    async def abort(self, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
        with _recording():
            opened = self._opened
            runs = await self._call(opened.runs.running(lease.producer, most))
            # Each has the lease's mark among its terms: when it was renewed, the others go on.
            ended = await asyncio.gather(
                *(opened.publisher.extend(run.channel, drafts, Terms(run.id, None, end, lease.mark)) for run in runs)
            )
            await self._call(opened.runs.release(lease, runs), "written")
            return sum(ended)


class _Open(NamedTuple):
    """What a storage has while it is open."""

    server: Server
    known: Known
    publisher: Publisher
    listener: Listener
    keeper: Keeper
    runs: Runs


@contextmanager
def _recording(done: str = "recorded") -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise PublishError(f"{error}; it may or may not be {done}") from None


def _page(epoch: str, newest: int, forgotten: int, channels: Sequence[str], found: Sequence[Any]) -> Page:
    trimmed = NEVER
    finished = True
    last = NEVER
    runs = []
    for channel, state in zip(channels, found, strict=True):
        if not state:
            trimmed = max(trimmed, forgotten)
            finished = False
            continue
        mark, is_finished, newest_shown, places, frames = state
        trimmed = max(trimmed, int(mark))
        finished = finished and is_finished == b"1"
        last = max(last, int(newest_shown))
        runs.append(_entries(epoch, channel, places, frames))
    page = first_page(merge(*runs))
    position = page[-1].sequence if page and page[-1].sequence < last else newest
    return Page(epoch, page, position, newest, trimmed, finished)


def _info(epoch: str, name: str, info: Sequence[Any]) -> ChannelInfo:
    events, size, published, finished, *ends = info
    if not events:
        return ChannelInfo(name, 0, 0, int(published), finished == b"1")
    (oldest, oldest_at), (newest, newest_at) = (map(int, id.split(b"-")) for id in ends)
    return ChannelInfo(
        name,
        events,
        int(size),
        int(published),
        finished == b"1",
        event_id(epoch, oldest),
        datetime.fromtimestamp(oldest_at / 1000, UTC),
        event_id(epoch, newest),
        datetime.fromtimestamp(newest_at / 1000, UTC),
    )


def _entries(epoch: str, channel: str, places: bytes, frames: bytes) -> Iterator[Entry]:
    start = 0
    each = iter(places.split())
    for id, kind, head, tail in zip(each, each, each, each, strict=True):
        sequence, at = map(int, id.split(b"-"))
        middle = start + int(head)
        end = middle + int(tail)
        draft = Draft(int(kind), frames[start:middle], frames[middle:end])
        yield Entry(sequence, channel, draft.kind, at / 1000, draft.frame(epoch, sequence))
        start = end
