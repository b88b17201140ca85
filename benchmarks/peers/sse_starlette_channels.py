"""Channels with sse-starlette and the tutorials' connection manager; again on Starlette itself, and with JSON that is
made once for all connections, which both favour it."""

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.asked import publications
from benchmarks.peers.manager import ConnectionManager

manager: ConnectionManager[str] = ConnectionManager()


async def subscribe(request: Request) -> EventSourceResponse:
    channel = request.query_params["channel"]

    async def source() -> AsyncIterator[ServerSentEvent]:
        queue = manager.connect(channel)
        try:
            while True:
                yield ServerSentEvent(data=await queue.get())
        finally:
            manager.disconnect(channel, queue)

    return EventSourceResponse(source())


async def publish(request: Request) -> JSONResponse:
    async for channel, trade in publications(request.query_params):
        manager.publish(channel, trade.model_dump_json())
    return JSONResponse({"published": int(request.query_params["n"])})


app = Starlette(routes=[Route("/subscribe", subscribe), Route("/publish", publish, methods=["POST"])])
