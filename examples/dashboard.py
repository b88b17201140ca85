"""How does each reader of one channel get only what they asked for?

uvicorn examples.dashboard:app
curl -N 'http://127.0.0.1:8000/prices?symbol=COCOA&symbol=WHEAT'
curl -N 'http://127.0.0.1:8000/prices?above=8100'
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel

from tidings import Broker, Event, EventSourceResponse
from tidings.broker import DeliveredEvent
from tidings.fastapi import LastEventId


class Price(BaseModel):
    symbol: str
    price: int


class PriceChanged(Event[Price]):
    """On the wire `price_changed`."""


broker = Broker("memory://", history=100, max_age=60.0)


async def trade() -> None:
    """In place of an exchange."""
    prices = {"COCOA": 8120, "WHEAT": 541, "COFFEE": 312}
    while True:
        for symbol, price in prices.items():
            prices[symbol] = price + random.randint(-9, 9)
            await broker.publish("prices", PriceChanged.create(Price(symbol=symbol, price=prices[symbol])))
        await asyncio.sleep(0.2)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with broker:
        task = asyncio.create_task(trade())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


app = FastAPI(lifespan=lifespan)


@app.get("/prices")
async def prices(
    last_event_id: LastEventId, symbol: Annotated[list[str] | None, Query()] = None, above: int = 0
) -> EventSourceResponse:
    def wanted(event: DeliveredEvent) -> bool:
        return event.data["price"] > above and (symbol is None or event.data["symbol"] in symbol)

    return EventSourceResponse(broker.subscribe("prices", last_event_id=last_event_id, where=wanted))
