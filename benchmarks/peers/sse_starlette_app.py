"""sse-starlette, on Starlette itself: a request costs less there than under FastAPI, which favours it."""

import asyncio
import time
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks import traffic


def event(sequence: int) -> ServerSentEvent:
    return ServerSentEvent(data=traffic.quote(sequence).model_dump_json())


def quotes_response(n: int) -> EventSourceResponse:
    # The loops of `traffic`, written out: one generator around another would cost this peer one more layer.
    async def source() -> AsyncIterator[ServerSentEvent]:
        for sequence in range(n):
            yield event(sequence)

    return EventSourceResponse(source())


def ticks_response(n: int, interval: float) -> EventSourceResponse:
    async def source() -> AsyncIterator[ServerSentEvent]:
        start = time.monotonic()
        for sequence in range(n):
            await asyncio.sleep(traffic.until(start + (sequence + 1) * interval))
            yield event(sequence)

    return EventSourceResponse(source())


def idle_response() -> EventSourceResponse:
    async def source() -> AsyncIterator[ServerSentEvent]:
        await asyncio.Event().wait()
        yield event(0)

    return EventSourceResponse(source())


async def quotes(request: Request) -> EventSourceResponse:
    return quotes_response(int(request.query_params["n"]))


async def ticks(request: Request) -> EventSourceResponse:
    return ticks_response(int(request.query_params["n"]), float(request.query_params["interval"]))


async def idle(_: Request) -> EventSourceResponse:
    return idle_response()


async def tasks(_: Request) -> JSONResponse:
    return JSONResponse(await traffic.tasks())


app = Starlette(routes=[Route("/quotes", quotes), Route("/ticks", ticks), Route("/idle", idle), Route("/tasks", tasks)])
