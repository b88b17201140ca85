"""Between a storage and its server: what goes through can be held, cut and left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self

__all__ = ["Cut", "Proxy", "passed"]

Hook = Callable[[bytes], AsyncIterator[bytes]]
"""Given what has come, yields what goes on, when it is to; `Cut` ends the connection."""


class Cut(Exception):  # noqa: N818 - no error
    """The connection ends here."""


async def passed(data: bytes) -> AsyncIterator[bytes]:
    """Pass it on as it is."""
    yield data


class Proxy:
    """Connections to a port of 127.0.0.1, through the event loop of the test.

    Attributes:
        request: what becomes of what a client sends; passed on by default.
        answer: what becomes of what the server sends.
        connected: how many connections there were.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.request: Hook = passed
        self.answer: Hook = passed
        self.connected = 0
        self._accepted: set[asyncio.Task[None]] = set()
        self._ways: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for way in self._ways:
            way.cancel()
        if self._accepted:
            await asyncio.wait(self._accepted)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)
        self.connected += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [
            asyncio.ensure_future(self._carry(reader, server_writer, lambda: self.request)),
            asyncio.ensure_future(self._carry(server_reader, writer, lambda: self.answer)),
        ]
        self._ways.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        self._ways.difference_update(ways)
        for end in (writer, server_writer):
            end.transport.abort()

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hook: Callable[[], Hook]) -> None:
        with suppress(OSError, Cut):
            while data := await reader.read(1 << 20):
                async for piece in hook()(data):
                    writer.write(piece)
                    await writer.drain()
