"""How does it work without a framework?

uvicorn examples.plain_asgi:app
curl -N http://127.0.0.1:8000/clock
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

from starlette.types import Receive, Scope, Send

from tidings import EventSourceResponse


async def seconds() -> AsyncIterator[dict[str, int]]:
    for number in count():
        yield {"second": number}
        await asyncio.sleep(1)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise RuntimeError("only HTTP is served here")  # uvicorn goes on without `lifespan`
    if scope["path"] == "/clock" and scope["method"] in {"GET", "HEAD"}:
        await EventSourceResponse(seconds(), retry=2000)(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
