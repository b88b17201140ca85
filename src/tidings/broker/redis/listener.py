"""Hears of what is appended to the channels that somebody reads here, over one connection."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from tidings.broker.entry import Draft, Entry
from tidings.broker.redis.keys import Keys
from tidings.broker.redis.known import Known
from tidings.broker.redis.server import Server, end
from tidings.broker.storage import Feed

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection as Connection

__all__ = ["Listener"]

logger = logging.getLogger("tidings.broker")

_KEPT: Final = 5.0
"""Seconds for which a channel that nobody reads any more is still listened to: a page that is reloaded comes back."""

_AT_ONCE: Final = 1_000
"""Channels in one command."""

_A_TURN: Final = 8
"""Messages taken before the event loop turns. Reading them doesn't wait for anything while there are some; who is to
get them is woken a few at each turn, and a burst would push them out of the log. The server keeps what isn't read."""

_SILENCE: Final = 10.0
"""Seconds without a word after which the server is asked whether it is there, and again before it is given up."""

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 5.0
"""Seconds between two attempts to connect: they double, and vary by chance."""


class _BeginAnewError(Exception):
    """Everything is to be asked for anew."""


class Listener:
    """Feeds what is appended to some channels.

    The server tells of entries in the order in which they were appended, over one connection. Each names its
    predecessor in the channel. If that is unknown here, who reads the channel is told to look in the log; if the
    connection is lost, another one is made, and everybody is.

    Args:
        newest: asks the server for the newest sequence.
    """

    def __init__(
        self, server: Server, keys: Keys, known: Known, feed: Feed, newest: Callable[[], Awaitable[int]]
    ) -> None:
        self._server = server
        self._keys = keys
        self._known = known
        self._feed = feed
        self._newest = newest
        self._wanted: dict[str, None] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._last: dict[str, int] = {}  # the newest entry that was heard of, of each channel that is fed
        self._asked: dict[str, bool] = {}  # to be confirmed by the server; whether it is the last of its command
        self._fresh: list[str] = []  # confirmed, but where they stand isn't known yet
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        self.lost = False
        """Whether the connection is lost, and not made again yet."""
        self._since = ""  # the epoch under which the connection was made
        self._closed = False
        self._changed = asyncio.Event()
        self._anew = asyncio.Event()
        self._task = self._loop.create_task(self._run())

    def listen(self, channel: str) -> int | None:
        """Feed this channel behind the position returned; None: behind the `skip` that follows."""
        timer = self._leaving.pop(channel, None)
        if timer is not None:
            timer.cancel()
        self._wanted[channel] = None
        self._changed.set()
        return self._last.get(channel)

    def unlisten(self, channel: str) -> None:
        """Nobody reads it here any more."""
        self._leaving[channel] = self._loop.call_later(_KEPT, self._leave, channel)

    def _leave(self, channel: str) -> None:
        del self._leaving[channel], self._wanted[channel]
        self._changed.set()

    def begin_anew(self) -> None:
        """The log has another epoch, or couldn't be read: first it is asked where the channels stand."""
        self._last.clear()
        self._anew.set()

    async def close(self) -> None:
        """Hear nothing more."""
        self._closed = True  # a task group that ends with an error forgets that it was cancelled as well
        for timer in self._leaving.values():
            timer.cancel()
        await end(self._task)

    # -- the connection -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while not self._closed:
            if not self._wanted:
                self.lost = False
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                await self._session()
            except* Exception as group:  # noqa: BLE001 - whatever it is: without this task nobody hears of anything
                error = group.exceptions[0]
                self.lost = True
                if self._heard:
                    failures = 0
                logger.log(
                    logging.DEBUG if failures else logging.WARNING,
                    "%s: the connection for notifications is lost, and made again: %s",
                    *(self._server.name, self._server.describe(error)),
                )
            if not self._closed:
                delay = min(_FIRST_DELAY * 2**failures, _LONGEST_DELAY)
                failures = min(failures + 1, 10)
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - to spread them

    async def _session(self) -> None:
        """Listen over one connection until it is lost."""
        self._heard = 0.0
        self._anew.clear()
        self._since = self._known.epoch
        self._last.clear()
        self._asked.clear()
        self._fresh.clear()
        connection = await self._server.listen()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_subscribed(connection))
                tasks.create_task(self._keep_alive(connection))
                tasks.create_task(self._wait_for_epoch())
                while True:
                    for _ in range(_A_TURN):
                        await self._take(await connection.read_response(disable_decoding=True))
                        self._heard = self._loop.time()
                        self.lost = False
                    await asyncio.sleep(0)
        finally:
            await connection.disconnect(nowait=True)

    async def _keep_subscribed(self, connection: Connection) -> None:
        subscribed: set[str] = set()
        while True:
            self._changed.clear()
            coming = [channel for channel in self._wanted if channel not in subscribed]
            going = [channel for channel in subscribed if channel not in self._wanted]
            for start in range(0, len(going), _AT_ONCE):
                some = going[start : start + _AT_ONCE]
                for channel in some:
                    self._last.pop(channel, None)
                subscribed.difference_update(some)
                await connection.send_command("UNSUBSCRIBE", *map(self._keys.topic, some), check_health=False)
            for start in range(0, len(coming), _AT_ONCE):
                some = coming[start : start + _AT_ONCE]
                subscribed.update(some)
                self._asked |= {channel: channel == some[-1] for channel in some}
                await connection.send_command("SUBSCRIBE", *map(self._keys.topic, some), check_health=False)
            await self._changed.wait()

    async def _wait_for_epoch(self) -> None:
        await self._anew.wait()
        raise _BeginAnewError("the log has another epoch")

    async def _keep_alive(self, connection: Connection) -> None:
        while True:
            heard = self._heard
            await asyncio.sleep(_SILENCE)
            if self._heard == heard:
                await connection.send_command("PING", check_health=False)
                await asyncio.sleep(_SILENCE)
                if self._heard == heard:
                    raise TimeoutError(f"not a word for {2 * _SILENCE:.0f} s")

    # -- what it says -------------------------------------------------------------------------------------------------

    async def _take(self, message: Any) -> None:
        kind = message[0]
        if kind == b"message":
            self._take_entry(self._keys.channel(message[1]), message[2])
        elif kind == b"subscribe":
            await self._confirmed(self._keys.channel(message[1]))

    async def _confirmed(self, channel: str) -> None:
        self._fresh.append(channel)
        if not self._asked.pop(channel, True):
            return  # the rest of its command follows, and one question is enough for all of them
        # Asked for now, so what is appended behind it is told over this connection. What has been told already of these
        # channels is not behind it.
        newest = await self._newest()
        fresh, self._fresh = self._fresh, []
        for name in self._wanted.keys() & fresh:
            self._last[name] = newest
            self._feed.skip(newest, name)

    def _take_entry(self, channel: str, message: bytes) -> None:
        place, _, frame = message.partition(b"\n")
        epoch, before, sequence, at, kind, head = place.split(b" ")
        newest = int(sequence)
        last = self._last.get(channel)
        if not self._known.learn(epoch.decode(), newest, self._since) or last is None or newest <= last:
            return
        if int(before) > last:
            logger.warning(
                "%s: a notification is lost: %r has events behind %d that nobody told of",
                self._server.name,
                channel,
                last,
            )
            self._feed.miss(channel, last, int(before))
        self._last[channel] = newest
        cut = int(head)
        draft = Draft(int(kind), frame[:cut], frame[cut:])
        entry = Entry(newest, channel, draft.kind, int(at) / 1000, draft.frame(self._known.epoch, newest))
        self._feed.append((entry,))
