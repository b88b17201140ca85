"""Storages in memory that do what those on disks and in networks do: they fail, they are slow, they lose their log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tidings import Broker
from tidings.broker.entry import Draft, Entry
from tidings.broker.log import Log
from tidings.broker.memory import MemoryStorage
from tidings.broker.reader import OpenBroker
from tidings.broker.run import Lease, State
from tidings.broker.storage import Page, Retention
from tidings.errors import PublishError, StorageError

__all__ = ["BEFORE", "BEHIND", "FINE", "Faulty", "Leasing", "broker_on", "opened", "stored"]

FINE, BEFORE, BEHIND = "fine", "before", "behind"
"""What a write does: it is stored, it fails before it is stored, it is stored and fails behind that."""


class Faulty(MemoryStorage):
    """Fails and waits when it is told to.

    Attributes:
        faults: what the next writes of runs do, one after the other; what follows them is fine.
        fails: whether all writes fail, and all reads.
        flows: writes wait until this is set.
        writes: for each call of `extend` how many drafts it was to store.
        waiting: how many writes wait now.
        renewals: when leases were renewed, by the clock of the event loop.
    """

    def __init__(self) -> None:
        super().__init__(Retention(None, None, None))
        self.faults: deque[str] = deque()
        self.fails = False
        self.flows = asyncio.Event()
        self.flows.set()
        self.writes: list[int] = []
        self.waiting = 0
        self.renewals: list[float] = []

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:
        fault = await self._pass()
        begun = await super().begin(channel, run, producer, lease)
        self._fail_behind(fault)
        return begun

    async def extend(
        self, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None = None
    ) -> bool:
        self.writes.append(len(drafts))
        fault = await self._pass()
        extended = await super().extend(channel, run, after, drafts, end)
        self._fail_behind(fault)
        return extended

    async def renew(self, producer: str, lease: float) -> bool:
        self.renewals.append(asyncio.get_running_loop().time())
        self._fail_behind(await self._pass())
        return True

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        if self.fails:
            raise StorageError("it can't be read now")
        return await super().read(channels, after)

    async def _pass(self) -> str:
        self.waiting += 1
        try:
            await self.flows.wait()
        finally:
            self.waiting -= 1
        fault = self.faults.popleft() if self.faults else FINE
        if self.fails or fault == BEFORE:
            raise PublishError("it can't be written now")
        return fault

    @staticmethod
    def _fail_behind(fault: str) -> None:
        if fault == BEHIND:
            raise PublishError("its answer was lost")

    def lose(self) -> None:
        """Hold nothing any more, as a server that was emptied."""
        self._channels.clear()
        self._quiet.clear()
        self._runs.clear()
        self._newest = 0
        self.change_epoch()

    def change_epoch(self) -> None:
        """Be another log, which has what there is, as a replica that took over."""
        assert self._feed is not None
        self.epoch += "0"
        self._feed.lose()
        self._feed.skip(self._newest)

    def entries(self, channel: str) -> list[Entry]:
        """What is stored in a channel."""
        state = self._find(channel)
        return [] if state is None else list(state.window.after(0, 1_000_000, 1 << 40))

    def state(self, channel: str) -> State | None:
        """What has become of a channel's run."""
        run = self._runs.get(channel)
        return None if run is None else run.state


class Leasing(Faulty):
    """Has leases, by the clock of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._until: dict[str, float] = {}
        self._marks: dict[str, int] = {}

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:
        begun = await super().begin(channel, run, producer, lease)
        self.hold(producer, lease)
        return begun

    async def renew(self, producer: str, lease: float) -> bool:
        await super().renew(producer, lease)
        held = producer in self._until
        if held:
            self.hold(producer, lease)
        return held

    def hold(self, producer: str, seconds: float) -> None:
        """Renew a producer's lease, for so many seconds."""
        self._until[producer] = asyncio.get_running_loop().time() + seconds
        self._marks[producer] = self._marks.get(producer, 0) + 1

    def drop(self, producer: str) -> None:
        """A producer has no lease any more."""
        del self._until[producer]

    async def leases(self) -> Sequence[Lease]:
        if self.fails:
            raise StorageError("it can't be read now")
        now = asyncio.get_running_loop().time()
        return [Lease(producer, until - now, str(self._marks[producer])) for producer, until in self._until.items()]

    async def abort(self, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
        self._fail_behind(await self._pass())
        if str(self._marks.get(lease.producer)) != lease.mark:
            return 0
        ended = await super().abort(lease, drafts, end, most)
        if ended < most:
            self._until.pop(lease.producer, None)
        return ended


@asynccontextmanager
async def opened(storage: Faulty) -> AsyncIterator[OpenBroker]:
    """What a broker has of a storage while it is open."""
    log = Log(storage.listen, storage.unlisten)
    await storage.open(log)
    yield OpenBroker(storage, log, 5.0)
    log.close()
    await storage.close()


def broker_on(storage: Faulty, **options: Any) -> Broker:
    """A broker whose log is there."""
    broker = Broker(**options)
    broker._storage = storage
    return broker


def stored(entries: Iterable[Entry]) -> list[str]:
    """Entries by their data, and the broker's own also by their names."""
    shown = []
    for entry in entries:
        fields = dict(line.split(": ", 1) for line in entry.frame.decode().splitlines() if line)
        shown.append(" ".join(fields[name] for name in ("event", "data") if name in fields))
    return shown
