"""How does a client go on where it stopped?

    uvicorn examples.resume:app
    curl -N http://127.0.0.1:8000/readings
    curl -N -H 'Last-Event-ID: 20' http://127.0.0.1:8000/readings
    curl -N 'http://127.0.0.1:8000/readings?last_event_id=20'

A browser sends the header by itself when it reconnects. Try it: open an EventSource and restart the server.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from tidings import EventSourceResponse, ServerSentEvent
from tidings.fastapi import LastEventId


class Reading(BaseModel):
    number: int
    celsius: float


history: deque[Reading] = deque((Reading(number=n, celsius=20 + n % 7 / 2) for n in range(25)), maxlen=1000)
arrived = asyncio.Condition()


async def measure() -> None:
    """Take a reading twice a second, as long as the server runs."""
    while True:
        await asyncio.sleep(0.5)
        number = history[-1].number + 1
        async with arrived:
            history.append(Reading(number=number, celsius=20 + number % 7 / 2))
            arrived.notify_all()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    task = asyncio.create_task(measure())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


app = FastAPI(lifespan=lifespan)


class Feed(EventSourceResponse):
    retry = 1000


@app.get("/readings", response_class=Feed)
async def readings(last_event_id: LastEventId) -> AsyncIterable[ServerSentEvent]:
    try:
        seen = -1 if last_event_id is None else int(last_event_id)
    except ValueError:
        raise HTTPException(400, "the id of a reading is a number") from None
    while True:
        for reading in [reading for reading in history if reading.number > seen]:
            yield ServerSentEvent(data=reading, id=reading.number)
            seen = reading.number
        async with arrived:
            while history[-1].number <= seen:
                await arrived.wait()
