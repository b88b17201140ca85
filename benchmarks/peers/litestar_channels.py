"""Channels with Litestar's own plugin, in memory, and its own server-sent events."""

from collections.abc import AsyncIterator

from litestar import Litestar, Request, get, post
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.datastructures import State
from litestar.response import ServerSentEvent

from benchmarks.peers.asked import publications

plugin = ChannelsPlugin(MemoryChannelsBackend(), arbitrary_channels_allowed=True)


@get("/subscribe", sync_to_thread=False)
def subscribe(channel: str) -> ServerSentEvent:
    async def source() -> AsyncIterator[bytes]:
        async with plugin.start_subscription(channel) as subscriber:
            async for data in subscriber.iter_events():
                yield data

    return ServerSentEvent(source())


@post("/publish", status_code=200)
async def publish(request: Request[None, None, State]) -> dict[str, int]:
    async for channel, trade in publications(request.query_params):
        await plugin.wait_published(trade.model_dump_json(), channel)
    return {"published": int(request.query_params["n"])}


app = Litestar([subscribe, publish], plugins=[plugin], openapi_config=None)
