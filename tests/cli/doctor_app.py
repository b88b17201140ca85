"""Streams as they should be and as they shouldn't, for `tidings doctor` to look at."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse
from starlette.routing import Mount, Route

from tidings import EventSourceResponse, ServerSentEvent

TEXT = " ".join(["the quick brown fox jumps over the lazy dog"] * 9)


async def numbers_after(number: int) -> AsyncIterator[ServerSentEvent]:
    """Begins with a greeting that says where it stands, as streams with a state do."""
    yield ServerSentEvent(data=f"after {number}", event="opened", id=number)
    while True:
        number += 1
        yield ServerSentEvent(data=f"{number} {TEXT}", id=number)
        await asyncio.sleep(0.02)


async def numbers(request: Request) -> EventSourceResponse:
    return EventSourceResponse(numbers_after(int(request.headers.get("last-event-id", "0"))), retry=2000)


async def repeating(_: Request) -> EventSourceResponse:
    return EventSourceResponse(numbers_after(0))


async def greeting_then_silence() -> AsyncIterator[str]:
    yield "hello"
    await asyncio.Event().wait()


async def silent(_: Request) -> EventSourceResponse:
    return EventSourceResponse(greeting_then_silence(), ping_interval=None)


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def mute(_: Request) -> StreamingResponse:
    return StreamingResponse(silence(), media_type="text/event-stream")


async def by_hand(_: Request) -> StreamingResponse:
    async def frames() -> AsyncIterator[bytes]:
        async for event in numbers_after(0):
            yield f"data: {event.data}\n\n".encode()

    return StreamingResponse(frames(), media_type="text/event-stream")


async def kept(_: Request) -> StreamingResponse:
    async def compressed() -> AsyncIterator[bytes]:
        compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        async for event in numbers_after(0):
            yield compressor.compress(f"data: {event.data}\n\n".encode())

    headers = {"content-encoding": "gzip", "cache-control": "no-cache"}
    return StreamingResponse(compressed(), headers=headers, media_type="text/event-stream")


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse("<h1>Log in</h1>")


async def moved(_: Request) -> RedirectResponse:
    return RedirectResponse("/numbers", 308)


async def echo(request: Request) -> EventSourceResponse:
    """Says what it was asked, in its events and headers."""
    body = await request.body()
    seen: dict[str, Any] = {
        "method": request.method,
        "body": body.decode(),
        "type": request.headers.get("content-type"),
        "token": request.headers.get("authorization"),
    }
    return EventSourceResponse([seen], headers={"cache-control": "public, max-age=60, \x9b31m"})


compress: Any = Middleware(GZipMiddleware, exclude_content_types=())

app = Starlette(
    routes=[
        Route("/numbers", numbers),
        Route("/repeating", repeating),
        Route("/silent", silent),
        Route("/mute", mute),
        Route("/kept", kept),
        Route("/page", page),
        Route("/moved", moved),
        Route("/echo", echo, methods=["GET", "POST"]),
        Mount("/compressed", routes=[Route("/by-hand", by_hand)], middleware=[compress]),
    ]
)
