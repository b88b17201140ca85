"""Channels of this repository, as its users write them."""

import asyncio
import time
from typing import Any

from fastapi import FastAPI

from benchmarks import traffic
from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId

# More events than `replay` asks for.
HISTORY = 20_000


def channels_app(broker: Broker) -> FastAPI:
    app = FastAPI(lifespan=broker.lifespan)

    @app.get("/subscribe")
    async def subscribe(channel: str, last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe(channel, last_event_id=last_event_id))

    @app.post("/publish")
    async def publish(channel: str, n: int, rate: float = 0.0, channels: int = 1, size: int = 0) -> dict[str, str]:
        last = ""
        async for name, trade in traffic.publications(channel, n, rate, channels, size):
            last = await broker.publish(name, trade)
        return {"last_event_id": last}

    @app.post("/publish-at-once")
    async def publish_at_once(channel: str, n: int, publishers: int, channels: int = 1) -> dict[str, Any]:
        """So many publishers, each of which waits for its event to be stored before it goes on. If there are several
        channels, they take them in turn."""

        async def publisher(name: str, events: int) -> list[str]:
            return [await broker.publish(name, traffic.trade(sequence)) for sequence in range(events)]

        names = [channel, *(f"{channel} {number}" for number in range(1, channels))]
        started = time.perf_counter()
        ids = await asyncio.gather(*(publisher(names[i % channels], n // publishers) for i in range(publishers)))
        return {"seconds": time.perf_counter() - started, "ids": ids}

    return app


app = channels_app(Broker())
retained = channels_app(Broker(history=HISTORY))
