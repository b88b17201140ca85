"""A proxy that cuts connections, wherever their bytes happen to be."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from tests.client.misbehaving import PATIENCE


class CuttingProxy:
    """Passes bytes between clients and a server, and cuts so many connections: each after some random bytes of answer.

    It runs in a thread of its own. When all the cuts are made it lets everything pass.

    Attributes:
        port: where clients connect.
        cuts: how many were made.
    """

    def __init__(self, server_port: int, cuts: int, longest: int, seed: int) -> None:
        self.cuts = 0
        self._server_port = server_port
        self._wanted = cuts
        self._longest = longest
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._loop.close()

    async def _run(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            task.add_done_callback(connections.discard)
            with suppress(OSError, asyncio.CancelledError):
                await self._pass(reader, writer)

        server = await asyncio.start_server(serve, sock=self._listener)
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        asking = asyncio.create_task(self._ask(reader, to_server))
        try:
            left = self._random.randrange(1, self._longest) if self.cuts < self._wanted else None
            while data := await upstream.read(65536):
                if left is not None and len(data) >= left:
                    self.cuts += 1
                    writer.write(data[:left])
                    await writer.drain()
                    if self._random.random() < 0.5:
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                left = None if left is None else left - len(data)
                writer.write(data)
                await writer.drain()
        finally:
            asking.cancel()
            to_server.close()
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                to_server.write(data)
            to_server.close()  # the client has left: the server's answer ends, too
