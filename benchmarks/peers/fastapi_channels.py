"""Channels with FastAPI's own server-sent events and the tutorials' connection manager."""

from collections.abc import AsyncIterable

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

from benchmarks import traffic
from benchmarks.peers.manager import ConnectionManager

app = FastAPI()
manager: ConnectionManager[traffic.Trade] = ConnectionManager()


@app.get("/subscribe", response_class=EventSourceResponse)
async def subscribe(channel: str) -> AsyncIterable[traffic.Trade]:
    queue = manager.connect(channel)
    try:
        while True:
            yield await queue.get()
    finally:
        manager.disconnect(channel, queue)


@app.post("/publish")
async def publish(channel: str, n: int, rate: float = 0.0, channels: int = 1, size: int = 0) -> dict[str, int]:
    async for name, trade in traffic.publications(channel, n, rate, channels, size):
        manager.publish(name, trade)
    return {"published": n}
