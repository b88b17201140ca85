"""A channel in the Redis that `BROKER` names, published to over HTTP."""

from __future__ import annotations

import os

from fastapi import FastAPI, HTTPException

from tidings import Broker, EventSourceResponse
from tidings.errors import PublishError
from tidings.fastapi import LastEventId
from tidings.stream import pump

# Clients of a server that stops in good order are asked to come back over ten seconds: longer than the next one runs.
pump._SHUTDOWN_RETRY_MS = (1, 50)

broker = Broker(os.environ["BROKER"], history=50_000, publish_timeout=2.0)
app = FastAPI(lifespan=broker.lifespan)


@app.get("/news")
async def news(last_event_id: LastEventId) -> EventSourceResponse:
    return EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id), retry=5)


@app.post("/news")
async def publish(text: str) -> str:
    try:
        return await broker.publish("news", text, event="news")
    except PublishError as error:
        raise HTTPException(503, str(error)) from error
