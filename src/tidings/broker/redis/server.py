"""The connections to a server: one for its notifications, a few for everything else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

from tidings.broker.redis.keys import Keys
from tidings.broker.redis.known import Known

try:
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import AbstractConnection as Connection
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        NoScriptError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisError,
        ResponseError,
        TryAgainError,
    )
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ImportError as error:
    raise ImportError("a broker on Redis needs redis-py: pip install 'tidings[redis]'") from error

__all__ = ["ERRORS", "Script", "Server", "database_of", "end", "is_away", "is_loading", "may_pass"]

_CONNECTIONS: Final = 4
"""For commands; who wants one when all are in use waits."""

_LOST: Final = 0.5
"""Seconds after which a cancellation that had no effect is repeated."""

ERRORS: Final = (RedisError, OSError, asyncio.TimeoutError)
"""What a command may end with."""


class Script:
    """A script of this folder, which the server knows by the hash of its text."""

    def __init__(self, name: str) -> None:
        folder = files(__package__)
        self.text = "".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
        self.sha = ""  # from the server, when it was loaded


class Server:
    """A server, with connections that are made when they are needed.

    Args:
        url: `redis://`, `rediss://`, `unix://`, and the same of Valkey.
        keys: of the log.
        known: what is known of it.
        timeout: seconds for connecting, None: as long as it takes.
    """

    def __init__(self, url: str, keys: Keys, known: Known, timeout: float | None) -> None:
        self.name = _without_password(url)
        self.answers = True
        """Whether it answered when it was last asked for something, be it with an error of its own."""
        self._keys = keys
        self._known = known
        self._begin = Script("begin")
        url = _of_redis(url)
        # A command that is sent again by itself might be done twice. And with a socket_timeout redis-py loses
        # cancellations on Python 3.11: what waits for a command here has a timeout of its own.
        options: dict[str, Any] = {
            "socket_timeout": None,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        self._pool = ConnectionPool.from_url(url, **options)
        # Not redis-py's pool that waits: it may forget who waits when another one is cancelled.
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._password: str | None = self._pool.connection_kwargs.get("password")

    async def call(self, command: str, *arguments: Any, last: Callable[[], Sequence[Any]] = tuple) -> Any:
        """Have the server do something, once.

        Args:
            command: its name.
            arguments: of the command.
            last: called when there is a connection, before anything is sent, for the arguments behind these.
        """
        try:
            async with self._free:
                connection: Connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    await connection.send_command(command, *arguments, *last())
                    answer = await connection.read_response()
                finally:  # which has been closed, if this was cut short
                    await self._pool.release(connection)
        except BaseException as error:  # a cancellation, if it took too long
            self.answers = isinstance(error, ResponseError)
            raise
        self.answers = True
        return answer

    async def time(self) -> int:
        """Its clock, in microseconds."""
        seconds, microseconds = map(int, await self.call("TIME"))
        return seconds * 1_000_000 + microseconds

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script."""
        for _ in range(2):
            if not script.sha:
                await self.load(script)
            try:
                return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:  # nothing was done; the server was started again
                script.sha = ""
        raise ResponseError("the server forgets the scripts that it is given")

    async def begin(self) -> None:
        """See to it that no id is given twice, before the server gets the script that gives them.

        That it doesn't know the script may be because it was started again, or took over. So each log has scripts of
        its own: what others load says nothing of this one.
        """
        await self.call("EVAL", self._begin.text, 1, self._keys.log, *self._known.arguments)

    async def load(self, script: Script) -> None:
        """Make the server know a script."""
        sha = await self.call("SCRIPT LOAD", f"-- {self._keys.topic('')!a}\n{script.text}")
        script.sha = sha.decode() if isinstance(sha, bytes) else sha

    async def listen(self) -> Connection:
        """The connection for notifications, made anew."""
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)  # it may stand, and wait for an answer to AUTH
            raise
        return connection

    def describe(self, error: BaseException) -> str:
        """What went wrong, for messages. A server may repeat what it doesn't understand: the password is left out."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if self._password:
            text = text.replace(self._password, "…")
        return f"{text} Is a server running there?" if re.search("Connect call failed|refused", text) else text

    async def close(self) -> None:
        """Close all connections; what they are in the middle of fails."""
        with suppress(*ERRORS):
            await self._pool.disconnect()


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task that talks to a server, until it ends: on Python 3.11 redis-py may lose a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_LOST)


def may_pass(error: BaseException) -> bool:
    """Whether it may pass by itself: the server is away, starts, or is about to be replaced."""
    return not isinstance(error, ResponseError) or isinstance(error, OutOfMemoryError | ReadOnlyError | TryAgainError)


def is_away(error: BaseException) -> bool:
    """Whether the server can't be reached, or is not ready yet: that passes when it is started again."""
    refused = isinstance(error, AuthenticationError)
    return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError) and not refused


def is_loading(error: BaseException) -> bool:
    """Whether the server said that it has just been started: then it has done nothing."""
    return isinstance(error, BusyLoadingError)


def database_of(url: str) -> int:
    """The number of the database that a URL names."""
    return int(parse_url(_of_redis(url)).get("db", 0))


def _of_redis(url: str) -> str:
    return url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
