"""Those who read: over plain sockets, or with tidings' own client; steadily, slowly, or leaving and returning."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from soak.answers import View
from soak.http import Chunks, Connection
from soak.ledger import Account
from tidings.client import AsyncEventSource
from tidings.errors import TidingsError
from tidings.wire import EventDecoder, ReceivedEvent

DEAD: Final = 8.0
"""Seconds without a byte after which a client takes its server for dead: it sends pings."""

_CONNECT_TIMEOUT: Final = 10.0
_LOST: Final = (OSError, TimeoutError, asyncio.IncompleteReadError)

_ABANDONED: Final = 20.0
"""Seconds for which nobody closes a connection that is half-open."""

_SMALL_BUFFER: Final = 1 << 14

_TRICKLE: Final = (4_096, 0.4)
"""Bytes that a slow client reads at a time, and the seconds between two times."""


def take(account: Account, event: ReceivedEvent) -> None:
    """Enter an event into the account of who was sent it."""
    now = time.monotonic()
    data = event.json()
    if event.event == "reset":
        account.was_reset(event.id, data["reason"], now)
    else:
        account.received(event.id, data["channel"], data["key"], now)


class Reader(ABC):
    """A client that connects again and again, each time to any of the workers, and resumes where it was.

    Args:
        ports: of the workers.
        target: of its request.
        last_event_id: where it begins.
    """

    receive_buffer = 0

    def __init__(self, ports: Sequence[int], target: str, last_event_id: str, chance: random.Random) -> None:
        self.chance = chance
        self.last_event_id = last_event_id
        self._ports = ports
        self._target = target
        self._retry = 0.2
        self._connection: Connection | None = None
        self._following: asyncio.Task[bool] | None = None
        self._abandoned: list[Connection] = []

    async def run(self) -> None:
        """Until the server says that there is no more."""
        try:
            while True:
                self._following = asyncio.create_task(self._follow())
                await asyncio.wait([self._following])
                if not self._following.cancelled() and self._following.result():
                    return
                await asyncio.sleep(self.away())
        finally:
            if self._following is not None:
                self._following.cancel()
            for connection in self._abandoned:
                connection.drop()

    def reset(self) -> None:
        """The connection breaks off, noticed by both ends."""
        if self._connection is not None:
            self._connection.reset()

    def abandon(self) -> None:
        """The connection breaks off, and the server isn't told."""
        connection, following = self._connection, self._following
        if connection is None or following is None:
            return
        connection.abandon()
        following.cancel()
        self._abandoned.append(connection)
        asyncio.get_running_loop().call_later(_ABANDONED, connection.drop)

    def away(self) -> float:
        """Seconds before it connects again."""
        return self._retry

    def stays(self) -> float | None:
        """Seconds for which it stays connected; None: as long as it can."""
        return None

    async def read(self, connection: Connection) -> bytes:
        async with asyncio.timeout(DEAD):
            return await connection.read_some()

    @abstractmethod
    def opened(self) -> None: ...
    @abstractmethod
    def received(self, event: ReceivedEvent) -> None: ...

    async def _follow(self) -> bool:
        """One connection, from its beginning to its end; whether that is the end of all."""
        self._retry = self.chance.uniform(0.1, 0.5)
        connection = None
        with suppress(*_LOST):
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    port = self.chance.choice(self._ports)
                    connection = await Connection.open(port, receive_buffer=self.receive_buffer)
                    headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
                    connection.send("GET", self._target, headers)
                    status, _ = await connection.read_head()
                if status != 200:
                    assert status in {204, 503}, status  # anything else is no fault of what is broken
                    return status == 204
                self._connection = connection
                self.opened()
                async with asyncio.timeout(self.stays()):
                    await self._receive(connection)
            finally:
                self._connection = None
                if connection is not None:
                    connection.close()
        return False

    async def _receive(self, connection: Connection) -> None:
        chunks, decoder = Chunks(), EventDecoder()
        decoder.last_event_id = self.last_event_id
        while not chunks.finished and (data := await self.read(connection)):
            for event in decoder.feed(chunks.feed(data)):
                self.received(event)
            self.last_event_id = decoder.last_event_id
            if decoder.retry is not None:
                self._retry = decoder.retry / 1000


class ChannelReader(Reader):
    """Reads what comes, as fast as it comes."""

    def __init__(self, account: Account, ports: Sequence[int], target: str, chance: random.Random, id: str) -> None:
        super().__init__(ports, target, id, chance)
        self.account = account
        self.settling = False

    def opened(self) -> None:
        self.account.opened(self.last_event_id, time.monotonic())

    def received(self, event: ReceivedEvent) -> None:
        take(self.account, event)


class LeavingReader(ChannelReader):
    """Leaves after a while, and returns after another."""

    _left = False

    def stays(self) -> float | None:
        self._left = not self.settling
        return None if self.settling else self.chance.uniform(1, 15)

    def away(self) -> float:
        left, self._left = self._left, False
        return self.chance.uniform(0, 8) if left and not self.settling else super().away()


class SlowReader(ChannelReader):
    """Reads slower than it is sent, until it is far behind; then it catches up, and begins again."""

    receive_buffer = _SMALL_BUFFER
    _trickles = False
    _until = 0.0

    async def read(self, connection: Connection) -> bytes:
        if self.settling:
            return await super().read(connection)
        now = time.monotonic()
        if now >= self._until:
            self._trickles = not self._trickles
            self._until = now + (self.chance.uniform(10, 60) if self._trickles else self.chance.uniform(2, 10))
        if not self._trickles:
            return await super().read(connection)
        size, pause = _TRICKLE
        await asyncio.sleep(pause)
        async with asyncio.timeout(DEAD):
            return await connection.read_some(size)


class AnswerReader(Reader):
    """Reads a background stream to its end."""

    def __init__(self, view: View, ports: Sequence[int], target: str, chance: random.Random) -> None:
        super().__init__(ports, target, "", chance)
        self._view = view

    async def run(self) -> None:
        await super().run()
        self._view.ended = True

    def opened(self) -> None:
        """It begins with what is there."""

    def received(self, event: ReceivedEvent) -> None:
        self._view.received(event.id, event.event, event.json())


class SourceReader:
    """tidings' own client, through the proxy; it leaves off now and then, and goes on."""

    def __init__(self, account: Account, url: str, chance: random.Random, id: str) -> None:
        self.account = account
        self.settling = False
        self._url = url
        self._chance = chance
        self._id = id

    async def run(self) -> None:
        source = AsyncEventSource(
            self._url,
            last_event_id=self._id or None,
            retry=0.3,
            max_attempts=None,
            read_timeout=DEAD,
            on_open=lambda _: self.account.opened(source.last_event_id, time.monotonic()),
        )
        async with source:
            try:
                while True:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(None if self.settling else self._chance.uniform(5, 60)):
                            await self._read(source)
            except TidingsError as error:
                self.account.gave_up = repr(error)

    async def _read(self, source: AsyncEventSource) -> None:
        async for event in source:
            take(self.account, event)
        self.account.gave_up = "it was told that there is no more"
        await asyncio.Event().wait()
