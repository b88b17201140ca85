"""Forgets the channels that nobody has used for long."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any, Final

from tidings.broker.redis.keys import Keys
from tidings.broker.redis.server import ERRORS, Script, Server, end

__all__ = ["Keeper"]

logger = logging.getLogger("tidings.broker")

_BETWEEN_SWEEPS: Final = 60.0
"""Seconds, varied by chance: every process sweeps, and they shouldn't do it all at once."""

_AT_ONCE: Final = 100
"""Channels between which other commands are served."""


class Keeper:
    """Sweeps now and then.

    Args:
        forget_after: seconds after which a channel without events is forgotten, None: never.
    """

    def __init__(self, server: Server, keys: Keys, forget_after: float | None) -> None:
        self._server = server
        self._keys = keys
        self._forget_after = 0 if forget_after is None else int(forget_after * 1000)
        self._script = Script("forget")
        self._task = None if forget_after is None else asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Sweep no more."""
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        while True:
            between = min(_BETWEEN_SWEEPS, self._forget_after / 1000)
            await asyncio.sleep(between * random.uniform(0.5, 1.5))  # noqa: S311 - to spread them
            try:
                while await self._sweep():
                    pass
            except ERRORS as error:
                logger.debug("%s: sweeping failed, for this time: %s", self._server.name, self._server.describe(error))

    async def _sweep(self) -> bool:
        """Forget some channels; whether there were any."""
        limit = await self._server.time() // 1000 - self._forget_after
        due: Any = await self._server.call("ZRANGEBYSCORE", self._keys.ages, "-inf", limit, "LIMIT", 0, _AT_ONCE)
        forgotten = 0
        for name in due:
            channel = name.decode()
            keys = self._keys
            forgotten += await self._server.run(
                self._script,
                (keys.log, keys.state(channel), keys.stream(channel), keys.ages, keys.names),
                (channel, self._forget_after),
            )
        return forgotten > 0
