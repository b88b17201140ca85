"""How does it work with Starlette alone?

    uvicorn examples.plain_starlette:app
    curl -N 'http://127.0.0.1:8000/countdown/5'
    curl -N http://127.0.0.1:8000/launches
    curl -X POST -d 'kite' http://127.0.0.1:8000/launches

A stream that a generator makes, and a channel. There is no dependency for the id that a client resumes from: it is an
ordinary header.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tidings import Broker, EventSourceResponse, ServerSentEvent

broker = Broker("memory://")


async def count_down(start: int) -> AsyncIterator[ServerSentEvent]:
    for seconds in range(start, -1, -1):
        yield ServerSentEvent(data=seconds, event="tick" if seconds else "liftoff")
        await asyncio.sleep(0.1)


async def countdown(request: Request) -> EventSourceResponse:
    return EventSourceResponse(count_down(request.path_params["start"]))


async def launches(request: Request) -> EventSourceResponse:
    last_event_id = request.headers.get("last-event-id")
    return EventSourceResponse(broker.subscribe("launches", last_event_id=last_event_id))


async def launch(request: Request) -> PlainTextResponse:
    craft = (await request.body()).decode()
    return PlainTextResponse(await broker.publish("launches", craft, event="launch"))


app = Starlette(
    routes=[
        Route("/countdown/{start:int}", countdown),
        Route("/launches", launches),
        Route("/launches", launch, methods=["POST"]),
    ],
    lifespan=broker.lifespan,
)
