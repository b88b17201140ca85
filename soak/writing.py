"""Background streams: started over HTTP all the time, each with two readers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from soak.answers import Answer, View
from soak.clients import AnswerReader
from soak.http import Connection

_AT_ONCE: Final = 4
_READERS: Final = 2
_PAUSE: Final = 0.5
_TIMEOUT: Final = 8.0


class Writing:
    """
    Attributes:
        answers: those that were acknowledged.
        readers: of those that are being read.
    """

    def __init__(self, ports: Sequence[int], chance: random.Random) -> None:
        self.stopped = False
        self.answers: list[Answer] = []
        self.readers: set[AnswerReader] = set()
        self._ports = ports
        self._chance = chance
        self._count = 0

    async def run(self) -> None:
        """Until it is `stopped` and all readers have seen the ends of theirs."""
        async with asyncio.TaskGroup() as tasks:
            while not self.stopped:
                await asyncio.sleep(_PAUSE)
                if len(self.readers) < _AT_ONCE * _READERS:
                    await self._start(tasks)

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        self._count += 1
        channel = f"answer-{self._count}"
        tokens, seconds = self._chance.randrange(20, 100), self._chance.uniform(1, 10)
        connection = None
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            try:
                async with asyncio.timeout(_TIMEOUT):
                    connection = await Connection.open(self._chance.choice(self._ports))
                    target = f"/answers/{channel}?tokens={tokens}&seconds={seconds}"
                    status, _ = await connection.ask("POST", target)
            finally:
                if connection is not None:
                    connection.close()
            if status == 200:
                views = [View() for _ in range(_READERS)]
                self.answers.append(Answer(channel, tokens, views))
                for view in views:
                    tasks.create_task(self._read(view, channel))

    async def _read(self, view: View, channel: str) -> None:
        reader = AnswerReader(view, self._ports, f"/answers/{channel}", random.Random(self._chance.random()))
        self.readers.add(reader)
        try:
            await reader.run()
        finally:
            self.readers.discard(reader)
