"""A floor: asyncio's protocol and transport with nothing in between: `python -m benchmarks.peers.asyncio_floor PORT`.

Items are built and encoded as with the others; each event is handed to the transport by itself, and a publish hands the
same bytes to all. There is no framework, no heartbeat, no history, no end at a shutdown, and hardly any HTTP.
"""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import uvloop
from pydantic import BaseModel

from benchmarks import traffic
from benchmarks.peers.asked import publications

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


channels: defaultdict[str, set["Connection"]] = defaultdict(set)


def chunk(item: BaseModel) -> bytes:
    event = b"data: %b\n\n" % item.model_dump_json().encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: Any = None
        self._received = b""
        self._channel = ""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        channels[self._channel].discard(self)
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            _, target, _ = self._received.split(b" ", 2)
            self._received = b""
            url = urlsplit(target.decode())
            self._answer(url.path, dict(parse_qsl(url.query)))

    def _answer(self, path: str, query: dict[str, str]) -> None:
        match path:
            case "/quotes":
                self._start(traffic.quotes(int(query["n"])))
            case "/ticks":
                self._start(traffic.ticks(int(query["n"]), float(query["interval"])))
            case "/idle":
                self.transport.write(HEAD)
            case "/subscribe":
                self.transport.write(HEAD)
                self._channel = query["channel"]
                channels[self._channel].add(self)
            case "/publish":
                self._task = asyncio.create_task(self._publish(query))
            case "/tasks":
                self._answer_json({"tasks": len(asyncio.all_tasks())})

    def _answer_json(self, answer: dict[str, int]) -> None:
        self.transport.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(answer).encode())
        self.transport.close()

    def _start(self, items: AsyncIterable[BaseModel]) -> None:
        self.transport.write(HEAD)
        self._task = asyncio.create_task(self._stream(items))

    async def _stream(self, items: AsyncIterable[BaseModel]) -> None:
        async for item in items:
            self.transport.write(chunk(item))
            if not self._writable.is_set():
                await self._writable.wait()
        self.transport.write(LAST_CHUNK)

    async def _publish(self, query: dict[str, str]) -> None:
        async for channel, trade in publications(query):
            event = chunk(trade)
            for subscriber in channels[channel]:
                subscriber.transport.write(event)
        self._answer_json({"published": int(query["n"])})


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
