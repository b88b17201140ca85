"""Publishes trades to a server that takes them over HTTP: `python -m benchmarks.publisher PORT PATH COUNT RATE`.

A process of its own, beside the receiver. One connection, on which the next requests are sent while the answers to
some are still under way, so that the server never waits for its publisher.
"""

import asyncio
import re
import sys

from benchmarks import traffic

WINDOW = 16


def request(path: str, trade: traffic.Trade) -> bytes:
    body = trade.model_dump_json().encode()
    fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


async def take_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 20"):
        raise SystemExit(f"status line {head.splitlines()[0]!r}")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)


async def publish(port: int, path: str, count: int, rate: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    unanswered = 0
    async for trade in traffic.trades(count, rate):
        writer.write(request(path, trade))
        unanswered += 1
        if unanswered == WINDOW:
            await take_answer(reader)
            unanswered -= 1
    for _ in range(unanswered):
        await take_answer(reader)
    writer.close()


if __name__ == "__main__":
    asyncio.run(publish(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
