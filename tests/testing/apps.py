"""Applications to open streams of: good ones, and ones that do what no application should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
END = {"type": "http.response.body"}


def chunk(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def gone(receive: Callable[[], Awaitable[Any]]) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def sending(*messages: Any, then: Callable[[Any], Awaitable[Any]] | None = gone) -> Any:
    """A bare application that sends these messages, or raises where an exception is among them."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            if isinstance(message, BaseException):
                raise message
            await send(message)
        if then is not None:
            await then(receive)

    return app


class Ticker:
    """A source that counts for ever, once a second, and knows where it is."""

    def __init__(self, every: float = 1.0) -> None:
        self.every = every
        self.closed = False

    async def __call__(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
                await asyncio.sleep(self.every)
        finally:
            self.closed = True
