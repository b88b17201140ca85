"""What the client reads from real servers."""

from __future__ import annotations

import asyncio

from fastapi import BackgroundTasks, FastAPI

from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId

broker = Broker(history=20_000)
app = FastAPI(lifespan=broker.lifespan)


@app.get("/numbers")
async def numbers(last_event_id: LastEventId) -> EventSourceResponse:
    return EventSourceResponse(broker.subscribe("numbers", last_event_id=last_event_id), retry=2)


@app.post("/numbers")
async def count(to: int, background: BackgroundTasks) -> None:
    """Publish them in the background, a handful at a time, and finish."""
    background.add_task(publish, to)


async def publish(to: int) -> None:
    for number in range(to):
        await broker.publish("numbers", number)
        if number % 50 == 49:
            await asyncio.sleep(0.01)
    await broker.finish("numbers")
