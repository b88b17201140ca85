"""sse-starlette, on Starlette itself: a request costs less there than under FastAPI, which favours it."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks import traffic


def event(sequence: int) -> ServerSentEvent:
    return ServerSentEvent(data=traffic.quote(sequence).model_dump_json())


async def quotes(request: Request) -> EventSourceResponse:
    n = int(request.query_params["n"])

    # The loops of `traffic`, written out: one generator around another would cost this peer one more layer.
    async def source() -> AsyncIterator[ServerSentEvent]:
        for sequence in range(n):
            yield event(sequence)

    return EventSourceResponse(source())


async def ticks(request: Request) -> EventSourceResponse:
    n, interval = int(request.query_params["n"]), float(request.query_params["interval"])

    async def source() -> AsyncIterator[ServerSentEvent]:
        for sequence in range(n):
            await asyncio.sleep(interval)
            yield event(sequence)

    return EventSourceResponse(source())


async def idle(_: Request) -> EventSourceResponse:
    async def source() -> AsyncIterator[ServerSentEvent]:
        await asyncio.Event().wait()
        yield event(0)

    return EventSourceResponse(source())


async def tasks(_: Request) -> JSONResponse:
    return JSONResponse(await traffic.tasks())


app = Starlette(routes=[Route("/quotes", quotes), Route("/ticks", ticks), Route("/idle", idle), Route("/tasks", tasks)])
