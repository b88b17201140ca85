"""Publishes trades to a server that takes them over HTTP: `python -m benchmarks.publisher PORT LOAD`, as JSON.

A process of its own, beside the receiver. One connection, on which the next requests are sent while the answers to
some are still under way, so that the server never waits for its publisher; as fast as possible, several requests are
one write, and several answers one read, so that it costs the receiver, on the same processor, little.
"""

import asyncio
import json
import re
import sys

import uvloop

from benchmarks import traffic
from benchmarks.publishing import CHANNEL, Load

BATCH = 16
WINDOW = 2 * BATCH
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def request(path: str, trade: traffic.Trade) -> bytes:
    body = trade.model_dump_json().encode()
    fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


class Answers:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._received = b""

    async def take(self) -> int:
        """How many have come, once some have."""
        while not (taken := self._complete()):
            data = await self._reader.read(1 << 16)
            if not data:
                raise SystemExit("the connection ended before the last answer")
            self._received += data
        return taken

    def _complete(self) -> int:
        taken = start = 0
        while (end := self._received.find(b"\r\n\r\n", start)) >= 0:
            if not self._received.startswith(b"HTTP/1.1 20", start):
                raise SystemExit(f"status line {self._received[start:end].splitlines()[0]!r}")
            length = LENGTH.search(self._received, start, end)
            end += 4 + (int(length[1]) if length else 0)
            if end > len(self._received):
                break
            taken, start = taken + 1, end
        self._received = self._received[start:]
        return taken


async def publish(port: int, load: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = Answers(reader)
    batch: list[bytes] = []
    unanswered = 0
    async for channel, trade in traffic.publications(CHANNEL, load.count, load.rate, load.channels, load.size):
        batch.append(request(f"/publish?channel={channel}", trade))
        unanswered += 1
        if load.rate or len(batch) == BATCH:
            writer.write(b"".join(batch))
            batch.clear()
        while unanswered >= WINDOW:
            unanswered -= await answers.take()
    writer.write(b"".join(batch))
    while unanswered:
        unanswered -= await answers.take()
    writer.close()


if __name__ == "__main__":
    uvloop.run(publish(int(sys.argv[1]), Load(**json.loads(sys.argv[2]))))
