"""Channels, as the tests serve them with real servers: on `memory://`, or on what `BROKER` names."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

import tidings
from tests.servers.apps import note
from tidings import Broker, EventSourceResponse, Subscription
from tidings.fastapi import LastEventId
from tidings.stream.pump import Pump

SOURCES = Path(tidings.__file__).parent

broker = Broker(os.environ.get("BROKER", "memory://"))
forgetful = Broker(history=20)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with broker, forgetful:
        yield
    note("brokers closed")


app = FastAPI(lifespan=lifespan)


@app.get("/channels/{channel}")
async def subscribe(channel: str, last_event_id: LastEventId, retry: int | None = None) -> EventSourceResponse:
    note(f"{channel} from {last_event_id}")
    subscription = broker.subscribe(channel, last_event_id=last_event_id)
    return EventSourceResponse(subscription, headers={"x-worker": str(os.getpid())}, retry=retry)


@app.get("/forgetful/{channel}")
async def subscribe_to_forgetful(channel: str, last_event_id: LastEventId) -> EventSourceResponse:
    return EventSourceResponse(forgetful.subscribe(channel, last_event_id=last_event_id))


@app.get("/yielded/{channel}", response_class=EventSourceResponse)
async def subscribe_by_yield(channel: str, last_event_id: LastEventId) -> AsyncIterable[Any]:
    async for event in broker.subscribe(channel, last_event_id=last_event_id):
        yield event


@app.post("/channels/{channel}")
async def publish(channel: str, text: str) -> str:
    return await broker.publish(channel, text)


@app.post("/channels/{channel}/burst")
async def burst(channel: str, count: int, size: int = 0) -> None:
    """Publish the numbers from 0 on, as fast as it goes."""
    await publish_numbers(broker, channel, count, size)


@app.post("/forgetful/{channel}/burst")
async def burst_to_forgetful(channel: str, count: int, size: int = 0) -> None:
    await publish_numbers(forgetful, channel, count, size)


async def publish_numbers(to: Broker, channel: str, count: int, size: int) -> None:
    for number in range(count):
        await to.publish(channel, {"number": number, "filling": "x" * size})


@app.post("/channels/{channel}/finish")
async def finish(channel: str) -> None:
    await broker.finish(channel)


def is_ours(task: asyncio.Task[Any]) -> bool:
    code: Any = getattr(task.get_coro(), "cr_code", None)
    # Who looks after the leases of background streams is there as long as the broker.
    return code is not None and code.co_filename.startswith(str(SOURCES)) and code.co_qualname != "Leases._watch"


@app.get("/left")
async def left() -> dict[str, int]:
    """What there is in this process because of subscribers; tasks that are only the server's own don't count."""
    opened: Any = broker._opened()
    gc.collect()
    objects = gc.get_objects()
    return {
        "views": len(opened.log._views),
        "channels": len(opened.log._channels),
        "subscriptions": sum(isinstance(thing, Subscription) for thing in objects),
        "streams": sum(isinstance(thing, Pump) for thing in objects),
        "tasks": sum(map(is_ours, asyncio.all_tasks())),
    }


@app.get("/page", response_class=HTMLResponse)
async def page() -> str:
    """Where a browser's scripts may run."""
    return '<!doctype html><link rel="icon" href="data:,"><title>Channels</title>'
