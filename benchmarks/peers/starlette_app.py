"""For scale: Starlette sends bytes that were ready beforehand, one write an event. No model is built, nothing
is encoded, and no heartbeat or shutdown is looked after."""

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from benchmarks import traffic
from benchmarks.sizes import FULL


def frame(sequence: int) -> bytes:
    return b"data: %b\n\n" % traffic.quote(sequence).model_dump_json().encode()


# At import, where no clock runs.
FRAMES = [frame(sequence) for sequence in range(FULL.items)]


async def quotes(request: Request) -> StreamingResponse:
    n = int(request.query_params["n"])

    async def source() -> AsyncIterator[bytes]:
        for sequence in range(n):
            yield FRAMES[sequence]

    return StreamingResponse(source(), media_type="text/event-stream")


async def ticks(request: Request) -> StreamingResponse:
    n, interval = int(request.query_params["n"]), float(request.query_params["interval"])

    async def source() -> AsyncIterator[bytes]:
        start = time.monotonic()
        for sequence in range(n):
            await asyncio.sleep(traffic.until(start + (sequence + 1) * interval))
            yield frame(sequence)

    return StreamingResponse(source(), media_type="text/event-stream")


async def idle(_: Request) -> StreamingResponse:
    async def source() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield frame(0)

    return StreamingResponse(source(), media_type="text/event-stream")


async def tasks(_: Request) -> JSONResponse:
    return JSONResponse(await traffic.tasks())


app = Starlette(routes=[Route("/quotes", quotes), Route("/ticks", ticks), Route("/idle", idle), Route("/tasks", tasks)])
