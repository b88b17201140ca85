"""FastAPI's own server-sent events with a list in memory, and with JSON that is made once for all connections."""

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from benchmarks import traffic
from benchmarks.peers.storm_history import History

app = FastAPI()
history: History[str] = History()


@app.get("/subscribe", response_class=EventSourceResponse)
async def subscribe(
    channel: str, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterable[ServerSentEvent]:
    async for number, data in history.events(channel, last_event_id):
        yield ServerSentEvent(raw_data=data, id=str(number))


@app.post("/publish")
async def publish(channel: str, n: int, rate: float = 0.0) -> dict[str, int]:
    async for trade in traffic.trades(n, rate):
        history.publish(channel, trade.model_dump_json())
    return {"published": n}
