"""How do several sources share one stream?

pip install aiostream
uvicorn examples.merge:app
curl -N http://127.0.0.1:8000/climate
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from aiostream import stream
from fastapi import FastAPI

from tidings import Event, EventSourceResponse, with_ids


class Temperature(Event[float]):
    """In degrees Celsius."""


class Humidity(Event[int]):
    """In percent."""


async def temperatures() -> AsyncIterator[Temperature]:
    for celsius in (19.5, 20.0, 20.5):
        yield Temperature.create(celsius)
        await asyncio.sleep(0.2)


async def humidities() -> AsyncIterator[Humidity]:
    await asyncio.sleep(0.1)
    for percent in (51, 52, 53):
        yield Humidity.create(percent)
        await asyncio.sleep(0.2)


app = FastAPI()


@app.get("/climate", response_class=EventSourceResponse)
async def climate() -> AsyncIterable[Temperature | Humidity]:
    # Each source has ids of its own. The `async with` closes both when the client leaves.
    async with stream.merge(with_ids(temperatures()), with_ids(humidities())).stream() as merged:
        async for event in merged:
            yield event
