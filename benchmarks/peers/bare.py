"""Routes for a response that is called as an ASGI application, without a framework."""

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[dict[str, str]], ASGIApp]
"""Of the query: the response."""


def bare_app(endpoints: Mapping[str, Endpoint]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served here")  # uvicorn goes on without `lifespan`
        response = endpoints[scope["path"]](dict(parse_qsl(scope["query_string"].decode())))
        await response(scope, receive, send)

    return app
