"""What is recorded of background streams: their runs, and the leases of who runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tidings.broker.redis.keys import Keys
from tidings.broker.redis.server import Script, Server
from tidings.broker.run import Lease, Run, State

__all__ = ["Running", "Runs"]


class Running(NamedTuple):
    """A run that is running."""

    channel: str
    id: str
    member: bytes
    """What stands for it in the set of what is running."""


class Runs:
    """Reads and writes the records, all but what goes with the entries of a run.

    The methods raise what a command may end with.
    """

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._start = Script("start")
        self._renew = Script("renew")
        self._release = Script("release")

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:
        """Record that a run has begun; False if another one is running."""
        keys = (self._keys.state(channel), self._keys.running, self._keys.leases)
        return bool(await self._server.run(self._start, keys, (channel, run, producer, _microseconds(lease))))

    async def last(self, channel: str) -> Run | None:
        """The last run of a channel."""
        fields = ("run", "producer", "state", "since", "events")
        id, producer, state, since, events = await self._server.call("HMGET", self._keys.state(channel), *fields)
        if id is None:
            return None
        return Run(id.decode(), producer.decode(), State(state.decode()), int(since) / 1000, int(events))

    async def renew(self, producer: str, lease: float) -> bool:
        """Renew a lease; whether there was one."""
        return bool(await self._server.run(self._renew, (self._keys.leases,), (producer, _microseconds(lease))))

    async def leases(self) -> list[Lease]:
        """Those of all producers."""
        now = await self._server.time()
        found = iter(await self._server.call("ZRANGEBYSCORE", self._keys.leases, "-inf", "+inf", "WITHSCORES"))
        return [
            Lease(producer.decode(), (int(mark) - now) / 1_000_000, mark.decode())
            for producer, mark in zip(found, found, strict=True)
        ]

    async def running(self, producer: str, most: int) -> list[Running]:
        """Some of a producer's runs."""
        start, end = f"[{producer}\0", f"({producer}\1"
        found = await self._server.call("ZRANGEBYLEX", self._keys.running, start, end, "LIMIT", 0, most)
        runs = []
        for member in found:
            _, run, channel = member.decode().split("\0")
            runs.append(Running(channel, run, member))
        return runs

    async def release(self, lease: Lease, ended: Sequence[Running]) -> None:
        """Take the lease away, if it is still this one and nothing is left of its producer but what has ended."""
        keys = (self._keys.leases, self._keys.running)
        await self._server.run(self._release, keys, (lease.producer, lease.mark, *(run.member for run in ended)))


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
