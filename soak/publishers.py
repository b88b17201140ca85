"""Those who publish, over HTTP: each says what it sends before it does, and what it was told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Final

from soak.http import Connection
from soak.ledger import Ledger
from soak.settings import LARGE, SLOWLY_READ, WEIGHTS

_TIMEOUT: Final = 8.0
"""Seconds after which a publisher doesn't wait any more: longer than a broker's own timeout."""


class Publisher:
    """One event after the other, each when the one before was answered.

    A publish that fails is not repeated: nobody knows whether it is stored, and what follows has another key.

    Args:
        name: begins the keys of its events.
        ledgers: of the logs.
        ports: of the workers.
        rate: events per second.
    """

    def __init__(
        self, name: str, ledgers: Mapping[str, Ledger], ports: Sequence[int], rate: float, chance: random.Random
    ) -> None:
        self.stopped = False
        self._name = name
        self._ledgers = ledgers
        self._ports = ports
        self._interval = 1 / rate
        self._chance = chance
        self._connection: Connection | None = None
        self._count = 0

    async def run(self) -> None:
        """Until it is `stopped`."""
        channels = list(WEIGHTS)
        due = time.monotonic() + self._chance.uniform(0, self._interval)
        while not self.stopped:
            await asyncio.sleep(due - time.monotonic())
            await self.publish(*self._chance.choices(channels, list(WEIGHTS.values()))[0])
            due = max(due + self._interval * self._chance.uniform(0.5, 1.5), time.monotonic())
        self.leave()

    async def publish(self, log: str, channel: str) -> int | None:
        """Publish one event; its sequence, None if it isn't acknowledged."""
        self._count += 1
        key = f"{self._name}-{self._count}"
        filling = "x" * self._chance.randrange(LARGE * 2) if (log, channel) in SLOWLY_READ else ""
        ledger = self._ledgers[log]
        ledger.sending(key, channel, time.monotonic())
        try:
            async with asyncio.timeout(_TIMEOUT):
                if self._connection is None:
                    self._connection = await Connection.open(self._chance.choice(self._ports))
                body = {"key": key, "channel": channel, "filling": filling}
                status, answer = await self._connection.ask("POST", f"/logs/{log}/{channel}", body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.leave()
            return None
        if status != 200:
            assert status == 503, answer  # anything else is no fault of what is broken
            self.leave()  # perhaps another worker is better off
            return None
        ledger.acknowledged(key, answer, time.monotonic())
        return ledger.publications[key].sequence

    def leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
