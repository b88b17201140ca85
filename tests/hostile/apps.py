"""A busy channel and a source that never ends, for clients that don't read."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.stream import statistics

SIZE = 16_384

broker = Broker(history=200)


class Impatient(EventSourceResponse):
    send_timeout = float(os.environ.get("SEND_TIMEOUT", "2"))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with broker, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish())
        yield
        publishing.cancel()


async def publish() -> None:
    number = 0
    while True:
        number += 1
        await broker.publish("news", raw_data=f"{number} ".ljust(SIZE, "."))
        await asyncio.sleep(0.005)


app = FastAPI(lifespan=lifespan)


@app.get("/flood", response_class=Impatient)
async def flood() -> AsyncIterable[ServerSentEvent]:
    event = ServerSentEvent(raw_data="x" * SIZE)
    while True:
        yield event


@app.get("/news")
async def news() -> EventSourceResponse:
    return Impatient(broker.subscribe("news"))


@app.get("/streams")
async def streams() -> int:
    return statistics().active
