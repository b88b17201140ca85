"""Answers that are written in the background, on the log that `BROKER` names; at its end a server waits `GRACE` s."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException

from tests.servers.apps import note
from tidings import Broker, EventSourceResponse
from tidings.errors import BrokerClosed, ChannelBusy
from tidings.fastapi import LastEventId
from tidings.stream import pump

# Clients of a server that stops in good order are asked to come back over ten seconds: longer than an answer takes.
pump._SHUTDOWN_RETRY_MS = (1, 50)

broker = Broker(os.environ["BROKER"], background_grace=float(os.environ["GRACE"]))
app = FastAPI(lifespan=broker.lifespan)


async def answer(channel: str, tokens: int, seconds: float) -> AsyncIterator[int]:
    try:
        for token in range(tokens):
            yield token
            await asyncio.sleep(seconds / tokens)
    finally:
        note(f"left {channel}")


@app.post("/answers/{channel}")
async def start(channel: str, tokens: int, seconds: float) -> int:
    """Returns the process that writes it."""
    try:
        await broker.start(channel, answer(channel, tokens, seconds))
    except ChannelBusy as error:
        raise HTTPException(409, str(error)) from error
    except BrokerClosed as error:
        raise HTTPException(503, str(error)) from error
    return os.getpid()


@app.get("/answers/{channel}")
async def read(channel: str, last_event_id: LastEventId) -> EventSourceResponse:
    return EventSourceResponse(broker.subscribe(channel, last_event_id=last_event_id or "earliest"), retry=5)


@app.post("/answers/{channel}/stop")
async def stop(channel: str) -> bool:
    return await broker.stop(channel)


@app.get("/answers/{channel}/state")
async def state(channel: str) -> str:
    return (await broker.status(channel)).state
