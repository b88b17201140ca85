"""How do servers on several machines share a channel?

    pip install 'tidings[redis]'
    export BROKER_URL=redis://127.0.0.1:6379/0
    uvicorn examples.redis_channel:app
    uvicorn examples.redis_channel:app --port 8001

Read from the one and publish at the other:

    curl -N http://127.0.0.1:8000/calls
    curl -X POST 'http://127.0.0.1:8001/calls?ticket=A17&desk=2'

A client may come back to either: the id of an event means the same to both.
"""

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from tidings import Broker, Event, EventSourceResponse
from tidings.errors import PublishError
from tidings.fastapi import LastEventId


class Call(BaseModel):
    ticket: str
    desk: int


class Called(Event[Call]):
    """On the wire `called`."""


# From the environment, as it may hold a password. Without it the application runs alone, and in memory.
broker = Broker(os.environ.get("BROKER_URL", "memory://"))
app = FastAPI(lifespan=broker.lifespan)


@app.get("/calls")
async def calls(last_event_id: LastEventId) -> EventSourceResponse:
    return EventSourceResponse(broker.subscribe("calls", last_event_id=last_event_id))


@app.post("/calls")
async def call(ticket: str, desk: int) -> str:
    try:
        return await broker.publish("calls", Called.create(Call(ticket=ticket, desk=desk)))
    except PublishError as error:  # Redis is away, or full
        raise HTTPException(503, "the call was not made, try again") from error
