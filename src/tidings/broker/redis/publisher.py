"""Sends what is to be appended: whatever has come while the last answer was on its way goes in one call."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from redis.exceptions import NoScriptError

from tidings.broker.entry import Draft, Kind, event_id
from tidings.broker.redis.keys import Keys
from tidings.broker.redis.known import Known
from tidings.broker.redis.server import Script, Server, is_away, is_loading
from tidings.broker.run import State
from tidings.errors import PublishError

__all__ = ["Publisher", "Terms"]

_MOST: Final = 128
"""Entries that are enough for one write; with what a run gives there may be more."""

_MOST_BYTES: Final = 1 << 20
"""Bytes that are enough for one write."""

_RUN: Final = b"4"
"""Stands for a kind in front of what a run gave."""

_EVENTS: Final = frozenset({Kind.JSON, Kind.RAW})
"""Kinds that count as events of a run."""

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 0.5
"""Seconds between two attempts to reach a server that is away: they double, and vary by chance."""


class Terms(NamedTuple):
    """On which terms what a run gave is appended."""

    run: str
    """It must be running."""
    after: int | None
    """Events of the run that come before; None: any number."""
    end: State | None
    """The state that it has from then on."""
    mark: str | None = None
    """That the lease of its producer must have; None: any."""

    def line(self, drafts: Sequence[Draft]) -> bytes:
        """What the script is told."""
        events = sum(draft.kind in _EVENTS for draft in drafts)
        after = "-" if self.after is None else self.after
        return f"{after} {len(drafts)} {events} {self.end or '-'} {self.mark or '-'}".encode()


class _Order:
    """Something to be appended, as one."""

    __slots__ = ("answer", "channel", "drafts", "sent", "size", "terms")

    def __init__(
        self,
        channel: str,
        drafts: Sequence[Draft],
        size: int,
        terms: Terms | None,
        answer: asyncio.Future[tuple[str, int]],
    ) -> None:
        self.channel = channel
        self.drafts = drafts
        self.size = size
        self.terms = terms
        self.answer = answer
        """The epoch, and what the script answered."""
        self.sent = False


class Publisher:
    """Appends entries, in the order in which it was asked to.

    While the server is away, they wait for it. What may have been sent is not sent again.

    Args:
        kept: how many events of a channel, and their age in milliseconds; -1: any.
        timeout: seconds after which an entry is given up, None: never.
    """

    def __init__(self, server: Server, keys: Keys, known: Known, kept: tuple[int, int], timeout: float | None) -> None:
        self._server = server
        self._keys = keys
        self._known = known
        self._kept = kept
        self._timeout = timeout
        self._script = Script("append")
        self._loop = asyncio.get_running_loop()
        self._orders: deque[_Order] = deque()
        self._worker: asyncio.Task[None] | None = None  # while there is something to send
        self._failures = 0  # in a row, to reach the server
        self._trouble = ""  # what the last one was
        self._closed = asyncio.Event()

    async def append(self, channel: str, draft: Draft) -> str:
        """Append an entry, return its id once it is stored."""
        epoch, sequence = await self._do(channel, (draft,), len(draft.head) + len(draft.tail), None)
        return event_id(epoch, sequence)

    async def extend(self, channel: str, drafts: Sequence[Draft], terms: Terms) -> bool:
        """Append what a run gave, and its end, all of it or nothing; False if it isn't running."""
        size = sum(len(draft.head) + len(draft.tail) for draft in drafts)
        _, stored = await self._do(channel, drafts, size, terms)
        return stored > 0

    async def _do(self, channel: str, drafts: Sequence[Draft], size: int, terms: Terms | None) -> tuple[str, int]:
        if self._closed.is_set():
            raise PublishError(f"{self._server.name} is not open; the event is not stored")
        order = _Order(channel, drafts, size, terms, self._loop.create_future())
        self._orders.append(order)
        if self._worker is None:
            self._worker = self._loop.create_task(self._work())
        try:
            async with asyncio.timeout(self._timeout):
                return await order.answer
        except TimeoutError:
            known = "may or may not be" if order.sent else "is not"
            trouble = f" ({self._trouble})" if self._trouble else ""
            reason = f"{self._server.name} didn't answer within {self._timeout} s{trouble}"
            raise PublishError(f"{reason}; the event {known} stored") from None

    async def close(self) -> None:
        """Send what is left, as far as it goes."""
        self._closed.set()
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
        entries = size = 0
        while self._orders and entries < _MOST and size < _MOST_BYTES:
            order = self._orders.popleft()
            if not order.answer.done():  # else nobody waits for it any more
                batch.append(order)
                entries += len(order.drafts) or 1
                size += order.size
        return batch

    async def _send(self, batch: list[_Order]) -> None:
        since = self._known.epoch
        try:
            async with asyncio.timeout(self._timeout):
                if not self._script.sha:
                    await self._server.begin()
                    await self._server.load(self._script)
                epoch, newest, answers, *failures = await self._execute(batch)
        except NoScriptError:  # the server was started again: nothing was done
            self._script.sha = ""
            self._put_back(batch)
        except BaseException as error:  # whatever it is, nobody is to wait for ever
            sent = any(order.sent for order in batch) and not is_loading(error)
            if is_away(error) and not sent and not self._closed.is_set():
                self._put_back(batch)
                await self._wait(error)
                return
            reason = "closed" if isinstance(error, asyncio.CancelledError) else self._server.describe(error)
            for order in batch:
                self._fail(order, f"{reason}; the event {'may or may not be' if sent else 'is not'} stored")
            if not isinstance(error, Exception):
                raise
        else:
            self._failures, self._trouble = 0, ""
            self._known.learn(epoch.decode(), int(newest), since)
            self._tell(batch, epoch.decode(), map(int, answers.split()), failures)

    def _put_back(self, batch: list[_Order]) -> None:
        for order in batch:
            order.sent = False
        self._orders.extendleft(reversed(batch))

    async def _wait(self, error: BaseException) -> None:
        """Until the next attempt to reach a server that is away, or until this is closed."""
        self._trouble = self._server.describe(error)
        delay = min(_FIRST_DELAY * 2**self._failures, _LONGEST_DELAY) * random.uniform(0.5, 1.5)  # noqa: S311
        self._failures = min(self._failures + 1, 10)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), delay)

    async def _execute(self, batch: list[_Order]) -> Any:
        return await self._server.call("EVALSHA", self._script.sha, last=lambda: self._arguments(batch))

    def _arguments(self, batch: list[_Order]) -> list[Any]:
        """What the script is told, now that it is sent; who gave up before was told that nothing is stored."""
        batch[:] = [order for order in batch if not order.answer.done()]
        # Bytes all of them, which redis-py takes as they are: there are many.
        places: dict[str, bytes] = {}
        keys = [self._keys.log, self._keys.ages, self._keys.names]
        entries: list[bytes | str] = []
        runs = False
        for order in batch:
            order.sent = True
            channel = order.channel
            place = places.get(channel)
            if place is None:
                place = places[channel] = b"%d" % (len(places) + 1)
                keys += (self._keys.state(channel), self._keys.stream(channel))
            if order.terms is not None:
                runs = True
                entries += (place, _RUN, order.terms.run, order.terms.line(order.drafts))
            for draft in order.drafts:
                entries += (place, b"%d" % draft.kind, draft.head, draft.tail)
        if runs:
            keys += (self._keys.running, self._keys.leases)
        known = self._known.arguments
        return [len(keys), *keys, *self._kept, *known, self._keys.database, len(places), *places, *entries]

    def _tell(self, batch: list[_Order], epoch: str, answers: Iterable[int], failures: list[bytes]) -> None:
        reasons = iter(failures)
        for order, answer in zip(batch, answers, strict=True):
            if not answer:
                self._fail(order, next(reasons).decode(errors="replace"))
            elif not order.answer.done():
                order.answer.set_result((epoch, answer))

    def _fail(self, order: _Order, reason: str) -> None:
        if not order.answer.done():
            order.answer.set_exception(PublishError(f"{self._server.name}: {reason}"))
