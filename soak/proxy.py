"""Between clients and workers: connections that can be cut, and ones that fall silent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

_SILENT: Final = 20.0
"""Seconds for which neither end of a silent connection is told anything."""


class _Pair:
    """A connection of a client, and the one to its worker."""

    def __init__(self, client: asyncio.StreamWriter, worker: asyncio.StreamWriter) -> None:
        self._ends = (client, worker)
        self.silent = False

    def close(self) -> None:
        for end in self._ends:
            end.transport.abort()


class Proxy:
    """Passes each connection on to a worker that takes it.

    Args:
        ports: of the workers.
        chance: which of them.
    """

    def __init__(self, ports: Sequence[int], chance: random.Random) -> None:
        self._ports = ports
        self._chance = chance
        self._pairs: set[_Pair] = set()
        self._accepted: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for task in self._accepted:
            task.cancel()
        if self._accepted:
            await asyncio.wait(self._accepted)

    def cut(self) -> None:
        """Break off all connections, at both ends."""
        for pair in self._pairs:
            pair.close()

    def stall(self) -> None:
        """Carry nothing any more for those who are connected now, and tell nobody."""
        for pair in self._pairs:
            pair.silent = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)
        with suppress(asyncio.CancelledError):  # the server's closing
            try:
                await self._pass_on(reader, writer)
            finally:
                writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self._chance.sample(self._ports, len(self._ports)):
            try:
                worker_reader, worker_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            break
        else:
            return
        pair = _Pair(writer, worker_writer)
        self._pairs.add(pair)
        ways = [
            asyncio.ensure_future(self._carry(pair, reader, worker_writer)),
            asyncio.ensure_future(self._carry(pair, worker_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._pairs.discard(pair)
            pair.close()

    @staticmethod
    async def _carry(pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if pair.silent:
                    await asyncio.sleep(_SILENT)
                    return
                writer.write(data)
                await writer.drain()
            if pair.silent:
                await asyncio.sleep(_SILENT)
