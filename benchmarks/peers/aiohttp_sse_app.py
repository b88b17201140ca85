"""aiohttp-sse on aiohttp's own server, with uvloop: `python -m benchmarks.peers.aiohttp_sse_app PORT`.

Channels are the tutorials' connection manager, with JSON that is made once for all connections.
"""

import asyncio
import sys

import uvloop
from aiohttp import web
from aiohttp_sse import sse_response

from benchmarks import traffic
from benchmarks.peers.asked import publications
from benchmarks.peers.manager import ConnectionManager

manager: ConnectionManager[str] = ConnectionManager()
routes = web.RouteTableDef()


@routes.get("/quotes")
async def quotes(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        async for quote in traffic.quotes(int(request.query["n"])):
            await response.send(quote.model_dump_json())
    return response


@routes.get("/ticks")
async def ticks(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        async for quote in traffic.ticks(int(request.query["n"]), float(request.query["interval"])):
            await response.send(quote.model_dump_json())
    return response


@routes.get("/idle")
async def idle(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        async for quote in traffic.idle():
            await response.send(quote.model_dump_json())
    return response


@routes.get("/tasks")
async def tasks(_: web.Request) -> web.Response:
    return web.json_response(await traffic.tasks())


@routes.get("/subscribe")
async def subscribe(request: web.Request) -> web.StreamResponse:
    channel = request.query["channel"]
    async with sse_response(request) as response:
        queue = manager.connect(channel)
        try:
            while response.is_connected():
                await response.send(await queue.get())
        finally:
            manager.disconnect(channel, queue)
    return response


@routes.post("/publish")
async def publish(request: web.Request) -> web.Response:
    async for channel, trade in publications(request.query):
        manager.publish(channel, trade.model_dump_json())
    return web.json_response({"published": int(request.query["n"])})


async def serve(port: int) -> None:
    app = web.Application()
    app.add_routes(routes)
    # Without the cancellation, a handler that waits for an event outlives its client.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
