"""What each worker serves: two logs on the storage that `SOAK_URL` names, and background streams in one of them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from soak.settings import HISTORY, PING
from tidings import Broker, EventSourceResponse, Subscription
from tidings.errors import BrokerClosed, ChannelBusy, PublishError, StorageError
from tidings.fastapi import LastEventId


def broker_of(log: str, url: str) -> Broker:
    """SQLite: a file for each log. Redis: a namespace."""
    return Broker(f"{url}/{log}.db" if url.startswith("sqlite:") else url, namespace=log, history=HISTORY[log])


brokers = {log: broker_of(log, os.environ["SOAK_URL"]) for log in HISTORY}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the framework passes it
    async with brokers["main"], brokers["short"]:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(PublishError)
@app.exception_handler(StorageError)
@app.exception_handler(BrokerClosed)
async def come_again(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the framework passes it
    return JSONResponse(str(error), 503, {"retry-after": "1"})


def stream(subscription: Subscription) -> EventSourceResponse:
    # A time of its own for each, as docs/deployment.md advises: a client keeps to what the last stream said.
    return EventSourceResponse(subscription, ping_interval=PING, retry=random.randint(500, 2_000))


@app.get("/logs/{log}/position")
async def position(log: str) -> str:
    return await brokers[log].last_event_id()


@app.get("/logs/{log}")
async def subscribe(log: str, last_event_id: LastEventId, channel: list[str] = Query()) -> EventSourceResponse:  # noqa: B008 - FastAPI's way
    return stream(brokers[log].subscribe(*channel, last_event_id=last_event_id))


@app.post("/logs/{log}/{channel}")
async def publish(log: str, channel: str, event: dict[str, Any]) -> str:
    return await brokers[log].publish(channel, event)


async def answer(tokens: int, seconds: float) -> AsyncIterator[int]:
    for token in range(tokens):
        yield token
        await asyncio.sleep(seconds / tokens)


@app.post("/answers/{name}")
async def start(name: str, tokens: int, seconds: float) -> None:
    try:
        await brokers["main"].start(name, answer(tokens, seconds))
    except ChannelBusy as error:
        raise HTTPException(409, str(error)) from error


@app.get("/answers/{name}")
async def read(name: str, last_event_id: LastEventId) -> EventSourceResponse:
    return stream(brokers["main"].subscribe(name, last_event_id=last_event_id or "earliest"))
