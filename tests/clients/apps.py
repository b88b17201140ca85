"""A ferry that sends its voyage, its channels and its answers to requests with a body."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware

from tests.clients.pings import CountPings, pinged
from tests.clients.voyage import CLEAN_CUTS, ITEMS, LAST, QUIET, TORN_CUTS
from tests.servers.apps import note
from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.fastapi import LastEventId

broker = Broker()
app = FastAPI(lifespan=broker.lifespan)
app.add_middleware(GZipMiddleware, minimum_size=10)
app.add_middleware(CountPings)


class Ferry(EventSourceResponse):
    ping_interval = 0.01
    retry = 50


@app.get("/voyage", response_class=Ferry)
async def voyage(request: Request, ship: str, last_event_id: LastEventId, legs: bool = False) -> AsyncIterable[Any]:
    """The voyage, as it goes on behind an id; in `legs`, each of which a client has to ask for."""
    note(f"{ship} from {last_event_id}")
    if last_event_id == LAST:
        raise HTTPException(204)
    ids = [getattr(item, "id", None) for item in ITEMS]
    for item in ITEMS[ids.index(last_event_id) + 1 if last_event_id else 0 :]:
        if item is QUIET:
            await pinged(request)
            continue
        yield item
        id = getattr(item, "id", None)
        if legs and id in CLEAN_CUTS:
            return
        if legs and id in TORN_CUTS:
            await pinged(request)  # so that the client has it before the connection is gone
            raise ConnectionError("the cable was cut")


class Letter(BaseModel):
    lines: list[str]


@app.post("/letters", response_class=Ferry)
async def letters(request: Request, letter: Letter, x_stamp: str = Header()) -> AsyncIterable[ServerSentEvent]:
    for line in letter.lines:
        yield ServerSentEvent(data=line, event="line")
        await pinged(request)
    yield ServerSentEvent(raw_data=x_stamp, event="stamp")


@app.get("/channels/{channel}")
async def subscribe(channel: str, last_event_id: LastEventId) -> Ferry:
    note(f"{channel} from {last_event_id}")
    return Ferry(broker.subscribe(channel, last_event_id=last_event_id))


@app.post("/channels/{channel}")
async def publish(channel: str, text: str) -> str:
    return await broker.publish(channel, text, event="cargo")


@app.post("/channels/{channel}/finish")
async def finish(channel: str) -> None:
    await broker.finish(channel)


@app.get("/page", response_class=HTMLResponse)
async def page() -> str:
    """Where a browser's scripts may run."""
    return '<!doctype html><link rel="icon" href="data:,"><title>Ferry</title>'
