"""Litestar's own server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator

from litestar import Litestar, get
from litestar.response import ServerSentEvent

from benchmarks import traffic


# Its response takes text, no models, so the loops of `traffic` are written out.
@get("/quotes", sync_to_thread=False)
def quotes(n: int) -> ServerSentEvent:
    async def source() -> AsyncIterator[str]:
        for sequence in range(n):
            yield traffic.quote(sequence).model_dump_json()

    return ServerSentEvent(source())


@get("/ticks", sync_to_thread=False)
def ticks(n: int, interval: float) -> ServerSentEvent:
    async def source() -> AsyncIterator[str]:
        start = time.monotonic()
        for sequence in range(n):
            await asyncio.sleep(traffic.until(start + (sequence + 1) * interval))
            yield traffic.quote(sequence).model_dump_json()

    return ServerSentEvent(source())


@get("/idle", sync_to_thread=False)
def idle() -> ServerSentEvent:
    async def source() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    return ServerSentEvent(source())


@get("/tasks")
async def tasks() -> dict[str, int]:
    return await traffic.tasks()


app = Litestar([quotes, ticks, idle, tasks], openapi_config=None)
