"""Breaks what the schedule says, when it says so, and remembers when that was."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from soak.clients import Reader
from soak.processes import Program, Worker
from soak.proxy import Proxy
from soak.schedule import Act, Kind


@dataclass(frozen=True)
class Done:
    """An act, and from when to when it was done."""

    kind: Kind
    begin: float
    end: float


class Hand:
    """
    Args:
        readers: the clients that have plain sockets, at the moment.

    Attributes:
        done: the acts, in the order in which they ended.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        redis: Program | None,
        proxy: Proxy,
        readers: Callable[[], Iterable[Reader]],
        chance: random.Random,
    ) -> None:
        self.done: list[Done] = []
        self._workers = workers
        self._redis = redis
        self._proxy = proxy
        self._readers = readers
        self._chance = chance

    async def run(self, acts: Sequence[Act], seconds: float) -> None:
        """Do all of them, and wait until so many seconds are over and all is as it was."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as doing:
            for act in acts:
                await asyncio.sleep(begin + act.at - time.monotonic())
                doing.create_task(self._do(act))
            await asyncio.sleep(begin + seconds - time.monotonic())

    async def _do(self, act: Act) -> None:
        begin = time.monotonic()
        await self._break(act)
        self.done.append(Done(act.kind, begin, time.monotonic()))

    async def _break(self, act: Act) -> None:
        match act.kind:
            case Kind.KILL_REDIS | Kind.RESTART_REDIS | Kind.FREEZE_REDIS:
                await self._break_redis(act)
            case Kind.RESET | Kind.ABANDON | Kind.CUT | Kind.STALL:
                self._break_connections(act)
            case _:
                await self._break_workers(act)

    async def _break_workers(self, act: Act) -> None:
        worker, mortal = self._workers[act.worker], self._workers[1:]
        match act.kind:
            case Kind.KILL_WORKER:
                await worker.restart(signal.SIGKILL, act.seconds)
            case Kind.STOP_WORKER:
                await worker.restart(signal.SIGTERM, act.seconds)
            case Kind.ROLL:
                for each in mortal:
                    await each.restart(signal.SIGTERM, 0)
            case Kind.BLACKOUT:
                await asyncio.gather(*(each.restart(signal.SIGKILL, act.seconds) for each in mortal))
            case _:
                await worker.freeze(act.seconds)

    async def _break_redis(self, act: Act) -> None:
        assert self._redis is not None
        match act.kind:
            case Kind.KILL_REDIS:
                await self._redis.restart(signal.SIGKILL, act.seconds)
            case Kind.RESTART_REDIS:
                await self._redis.restart(signal.SIGTERM, act.seconds)
            case _:
                await self._redis.freeze(act.seconds)

    def _break_connections(self, act: Act) -> None:
        readers = list(self._readers())
        some = self._chance.sample(readers, round(act.share * len(readers)))
        match act.kind:
            case Kind.RESET:
                for reader in some:
                    reader.reset()
            case Kind.ABANDON:
                for reader in some:
                    reader.abandon()
            case Kind.CUT:
                self._proxy.cut()
            case _:
                self._proxy.stall()
