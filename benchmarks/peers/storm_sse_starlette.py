"""sse-starlette with a list in memory; on Starlette itself, and with JSON that is made once for all connections."""

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.asked import publications
from benchmarks.peers.storm_history import History

history: History[str] = History()


async def subscribe(request: Request) -> EventSourceResponse:
    channel, last_event_id = request.query_params["channel"], request.headers.get("last-event-id")

    async def source() -> AsyncIterator[ServerSentEvent]:
        async for number, data in history.events(channel, last_event_id):
            yield ServerSentEvent(data=data, id=str(number))

    return EventSourceResponse(source())


async def publish(request: Request) -> JSONResponse:
    async for channel, trade in publications(request.query_params):
        history.publish(channel, trade.model_dump_json())
    return JSONResponse({"published": int(request.query_params["n"])})


app = Starlette(routes=[Route("/subscribe", subscribe), Route("/publish", publish, methods=["POST"])])
