"""HTTP/1.1 over a plain socket: requests, answers, and what can be done to a connection."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Final

_LIMIT: Final = 1 << 16


class ProtocolError(Exception):
    """The server sent what can't be read."""


class Chunks:
    """A body in chunks, over any cutting of the bytes."""

    def __init__(self) -> None:
        self._pending = b""
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what they complete of the body."""
        pending = self._pending + data
        body: list[bytes] = []
        start = 0
        while not self.finished:
            line_end = pending.find(b"\r\n", start)
            if line_end < 0:
                break
            length = int(pending[start:line_end], 16)
            end = line_end + 2 + length
            if len(pending) < end + 2:
                break
            body.append(pending[line_end + 2 : end])
            start = end + 2
            self.finished = length == 0
        self._pending = pending[start:]
        return b"".join(body)


class Connection:
    """To a port of 127.0.0.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left_open = False

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int = 0) -> Connection:
        """
        Args:
            receive_buffer: bytes that the kernel may hold for it, 0: as many as it likes.
        """
        client = socket.socket()
        try:
            client.setblocking(False)
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=client, limit=receive_buffer or _LIMIT)
        except BaseException:
            client.close()
            raise
        return cls(reader, writer)

    def send(self, method: str, target: str, headers: dict[str, str] | None = None, body: Any = None) -> None:
        """A request; a body goes as JSON."""
        content = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "127.0.0.1", "Content-Length": str(len(content)), **(headers or {})}
        if content:
            fields["Content-Type"] = "application/json"
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").rstrip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def read_some(self, size: int = _LIMIT) -> bytes:
        """What has come of the body; b"" at the end of the connection."""
        return await self._reader.read(size)

    async def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """A request and its answer in JSON."""
        self.send(method, target, body=body)
        status, headers = await self.read_head()
        content = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return status, json.loads(content) if "json" in headers.get("content-type", "") else None

    def close(self) -> None:
        if not self._left_open:
            self._writer.transport.abort()

    def reset(self) -> None:
        """Close it in such a way that the other end is told of an error."""
        option = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._writer.transport.abort()

    def abandon(self) -> None:
        """Read no more, and let the other end know nothing of it: `close` leaves it open, until `drop`."""
        self._left_open = True
        transport = self._writer.transport
        if isinstance(transport, asyncio.Transport) and not transport.is_closing():
            transport.pause_reading()

    def drop(self) -> None:
        """Close it after `abandon`."""
        self._writer.transport.abort()
