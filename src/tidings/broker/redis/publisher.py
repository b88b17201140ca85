"""Sends what is to be appended: whatever has come while the last answer was on its way goes in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from redis.exceptions import NoScriptError

from tidings.broker.entry import Draft, event_id
from tidings.broker.redis.keys import Keys
from tidings.broker.redis.known import Known
from tidings.broker.redis.server import Script, Server
from tidings.broker.storage import Retention
from tidings.errors import PublishError

__all__ = ["Publisher"]

_MOST: Final = 128
"""Entries that are sent at once."""

_MOST_BYTES: Final = 1 << 20
"""Bytes that are enough for one write."""


class _Order:
    """An entry to be appended."""

    __slots__ = ("channel", "draft", "id", "sent")

    def __init__(self, channel: str, draft: Draft, id: asyncio.Future[str]) -> None:
        self.channel = channel
        self.draft = draft
        self.id = id
        self.sent = False


class Publisher:
    """Appends entries, in the order in which it was asked to.

    Args:
        timeout: seconds after which an entry is given up, None: never.
    """

    def __init__(self, server: Server, keys: Keys, known: Known, retention: Retention, timeout: float | None) -> None:
        self._server = server
        self._keys = keys
        self._known = known
        self._kept = (
            -1 if retention.history is None else retention.history,
            -1 if retention.max_age is None else int(retention.max_age * 1000),
        )
        self._timeout = timeout
        self._script = Script("append")
        self._loop = asyncio.get_running_loop()
        self._orders: deque[_Order] = deque()
        self._worker: asyncio.Task[None] | None = None  # while there is something to send
        self._closed = False

    async def append(self, channel: str, draft: Draft) -> str:
        """Append an entry, return its id once it is stored."""
        if self._closed:
            raise PublishError(f"{self._server.name} is not open; the event is not stored")
        order = _Order(channel, draft, self._loop.create_future())
        self._orders.append(order)
        if self._worker is None:
            self._worker = self._loop.create_task(self._work())
        try:
            async with asyncio.timeout(self._timeout):
                return await order.id
        except TimeoutError:
            known = "the event may or may not be stored" if order.sent else "the event is not stored"
            raise PublishError(f"{self._server.name} didn't answer within {self._timeout} s; {known}") from None

    async def close(self) -> None:
        """Send what is left, as far as it goes."""
        self._closed = True
        try:
            if self._worker is not None:
                await asyncio.wait([self._worker], timeout=self._timeout)
        finally:
            for order in self._orders:
                self._fail(order, "closed; the event is not stored")
            if self._worker is not None:
                self._worker.cancel()

    async def _work(self) -> None:
        try:
            while batch := self._take():
                await self._send(batch)
        finally:
            self._worker = None

    def _take(self) -> list[_Order]:
        batch: list[_Order] = []
        size = 0
        while self._orders and len(batch) < _MOST and size < _MOST_BYTES:
            order = self._orders.popleft()
            if not order.id.done():  # else nobody waits for it any more
                batch.append(order)
                size += len(order.draft.head) + len(order.draft.tail)
        return batch

    async def _send(self, batch: list[_Order]) -> None:
        since = self._known.epoch
        try:
            async with asyncio.timeout(self._timeout):
                if not self._script.sha:
                    await self._server.begin()
                    await self._server.load(self._script)
                epoch, sequences, *failures = await self._execute(batch)
        except NoScriptError:  # the server was started again: nothing was done
            self._script.sha = ""
            self._orders.extendleft(reversed(batch))
        except BaseException as error:  # whatever it is, nobody is to wait for ever
            closed = isinstance(error, asyncio.CancelledError)
            for order in batch:
                known = "may or may not be" if order.sent else "is not"
                self._fail(order, f"{'closed' if closed else self._server.describe(error)}; the event {known} stored")
            if not isinstance(error, Exception):
                raise
        else:
            self._acknowledge(batch, since, epoch.decode(), [int(sequence) for sequence in sequences.split()], failures)

    async def _execute(self, batch: list[_Order]) -> Any:
        # Bytes all of them, which redis-py takes as they are: there are many.
        places: dict[str, bytes] = {}
        keys = [self._keys.log, self._keys.ages, self._keys.names]
        entries: list[bytes] = []
        for order in batch:
            channel, draft = order.channel, order.draft
            place = places.get(channel)
            if place is None:
                place = places[channel] = b"%d" % (len(places) + 1)
                keys += (self._keys.state(channel), self._keys.stream(channel))
            entries += (place, b"%d" % draft.kind, draft.head, draft.tail)
            order.sent = True
        return await self._server.call(
            "EVALSHA",
            self._script.sha,
            len(keys),
            *keys,
            *self._kept,
            *self._known.arguments,
            self._keys.database,
            *places,
            *entries,
        )

    def _acknowledge(
        self, batch: list[_Order], since: str, epoch: str, sequences: list[int], failures: list[bytes]
    ) -> None:
        self._known.learn(epoch, max(sequences), since)
        reasons = iter(failures)
        for order, sequence in zip(batch, sequences, strict=True):
            if not sequence:
                self._fail(order, next(reasons).decode(errors="replace"))
            elif not order.id.done():
                order.id.set_result(event_id(epoch, sequence))

    def _fail(self, order: _Order, reason: str) -> None:
        if not order.id.done():
            order.id.set_exception(PublishError(f"{self._server.name}: {reason}"))
