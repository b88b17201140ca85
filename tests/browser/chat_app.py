"""The example of a chat, whose responses say which worker they come from."""

from __future__ import annotations

import os
from typing import Any

from examples.background_chat import app
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class NameWorker:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-worker"] = str(os.getpid())
            await send(message)

        await self._app(scope, receive, send_named)


middleware: Any = NameWorker
app.add_middleware(middleware)
