"""Keeps a producer's lease, and ends the runs of producers whose lease has run out."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from tidings.broker.background.endings import LOST
from tidings.broker.run import LEASE_SECONDS, Lease
from tidings.broker.storage import Storage
from tidings.errors import PublishError, StorageError

__all__ = ["Leases"]

logger = logging.getLogger("tidings.broker")

_RENEWAL: Final = 3.0
"""Seconds between two renewals: two may fail before the lease runs out."""

_SECOND_LOOK: Final = 0.6
"""Seconds for which a lease must have run out before it is acted on: whoever is a little late isn't lost."""

_OVERSLEPT: Final = 2.0
"""Seconds by which a pause was too long: the machine was suspended, its clock was set, or this process was stopped.
Then, as after an outage of the storage, leases may have run out whose producers are about to renew them."""

_AGAIN: Final = 0.5
"""Seconds after which what failed is tried again."""

_ENDED_AT_ONCE: Final = 200
"""Runs of a lost producer that are ended by one write."""


class Leases:
    """The leases of all producers.

    Args:
        storage: where they are.
        producer: this process.
        on_loss: called when this producer's own lease is found to be gone: its runs may have been ended.
    """

    def __init__(self, storage: Storage, producer: str, on_loss: Callable[[], None]) -> None:
        self._storage = storage
        self._producer = producer
        self._on_loss = on_loss
        self._loop = asyncio.get_running_loop()
        self._renewing: asyncio.Task[None] | None = None
        self._watching = self._loop.create_task(self._watch())

    def keep(self) -> None:
        """Renew this producer's lease from now on."""
        if self._renewing is None:
            self._renewing = self._loop.create_task(self._renew())

    def let_go(self) -> None:
        """There is nothing to keep it for."""
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def close(self) -> None:
        """Look after no lease any more."""
        self.let_go()
        self._watching.cancel()
        await asyncio.wait([self._watching])

    async def _renew(self) -> None:
        pause = _RENEWAL
        renewed = _now()  # by who began the first run
        while True:
            await asyncio.sleep(pause)
            asked = _now()
            try:
                kept = await self._storage.renew(self._producer, LEASE_SECONDS)
            except (PublishError, StorageError) as error:
                logger.debug("the lease can't be renewed for now: %s", error)
                pause = _AGAIN
            else:
                pause = _RENEWAL
                if not kept or _seconds_since(renewed) > LEASE_SECONDS:  # else somebody else has begun it anew
                    self._on_loss()
                renewed = asked

    async def _watch(self) -> None:
        suspects: dict[str, str] = {}  # producers whose lease had run out at the last look, and its mark then
        on_time = True
        while True:
            looked = _now()
            try:
                leases = await self._storage.leases()
            except (PublishError, StorageError) as error:
                logger.debug("the leases of background streams can't be looked at for now: %s", error)
                on_time, pause = False, _AGAIN
            else:
                over = [lease for lease in leases if lease.left <= 0]
                for lease in over:
                    if on_time and suspects.get(lease.producer) == lease.mark:
                        await self._end_runs(lease)
                suspects = {lease.producer: lease.mark for lease in over}
                # What nobody holds yet is held for this long at least.
                pause = min([LEASE_SECONDS, *(lease.left for lease in leases if lease.left > 0)])
                if not on_time:
                    pause = _RENEWAL + _AGAIN
                elif over:
                    pause = min(pause, _SECOND_LOOK)
                on_time = True
            await asyncio.sleep(pause + random.uniform(0.0, 0.2))  # noqa: S311 - to spread them
            on_time = on_time and _seconds_since(looked) <= pause + _OVERSLEPT

    async def _end_runs(self, lease: Lease) -> None:
        ended = 0
        try:
            while some := await self._storage.abort(lease, LOST.drafts, LOST.state, _ENDED_AT_ONCE):
                ended += some
        except (PublishError, StorageError) as error:
            logger.debug("the background streams of %s can't be ended for now: %s", lease.producer, error)
        if ended:
            logger.warning("%s is lost; %d of its background streams were ended", lease.producer, ended)


def _now() -> tuple[float, float]:
    return time.time(), asyncio.get_running_loop().time()


def _seconds_since(then: tuple[float, float]) -> float:
    """By the clock that says more: one may be set back, the other stands still while the machine is suspended."""
    now = _now()
    return max(now[0] - then[0], now[1] - then[1])
