"""Streams for `tidings tail` to follow."""

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tidings import EventSourceResponse, ServerSentEvent


def position(request: Request) -> int:
    return int(request.headers.get("last-event-id", "0"))


async def numbers_after(number: int) -> AsyncIterator[ServerSentEvent]:
    while True:
        number += 1
        yield ServerSentEvent(data=number, id=number, event="even" if number % 2 == 0 else None)
        await asyncio.sleep(0.005)


async def numbers(request: Request) -> EventSourceResponse:
    return EventSourceResponse(numbers_after(position(request)), retry=50)


async def three(request: Request) -> Response:
    """Ends after three events, and says that it is over when it is asked for more."""
    if position(request) == 3:
        return Response(status_code=204)
    return EventSourceResponse([ServerSentEvent(data=number, id=number) for number in (1, 2, 3)], retry=1)


async def one_then_silence(request: Request) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(data="one", retry=1)
    await asyncio.Event().wait()


async def silent(request: Request) -> EventSourceResponse:
    return EventSourceResponse(one_then_silence(request))


async def nasty(_: Request) -> EventSourceResponse:
    return EventSourceResponse(
        [
            ServerSentEvent(
                raw_data="\x1b]0;owned\x07 \x9b31m \u202ereversed\nsecond line", event="na\x1bme", id="i\x1bd"
            ),
            ServerSentEvent(data={"line": 4, "to": "Märzstraße"}),
        ]
    )


async def echo(request: Request) -> EventSourceResponse:
    """Says what it was asked."""
    asked = {name: request.headers.get(name) for name in ("content-type", "x-token", "last-event-id")}
    return EventSourceResponse([{"method": request.method, "body": (await request.body()).decode(), **asked}])


async def page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("no stream")


async def loop(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url)


app = Starlette(
    routes=[
        Route("/numbers", numbers),
        Route("/three", three),
        Route("/silent", silent),
        Route("/nasty", nasty),
        Route("/echo", echo, methods=["GET", "POST", "PUT"]),
        Route("/page", page),
        Route("/loop", loop),
    ]
)
