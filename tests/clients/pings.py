"""Quiet times that end when the client has got some keep-alive comments: no time to guess, however busy the machine."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

PINGS = 2


class CountPings:
    """Middleware that notes in the scope how many keep-alive comments the client of a stream was sent."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            await send(message)
            scope["pings"] += message.get("body", b"").count(b": ping\n")

        scope["pings"] = 0
        await self._app(scope, receive, counting)


async def pinged(request: Request) -> None:
    """Wait until the client was sent `PINGS` more of them."""
    enough = request.scope["pings"] + PINGS
    while request.scope["pings"] < enough:
        await asyncio.sleep(0.01)
