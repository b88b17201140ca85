"""Sees through what FastAPI wraps around an endpoint."""

from __future__ import annotations

from types import AsyncGeneratorType
from typing import Any

__all__ = ["endpoint_generator", "route_of"]


def endpoint_generator(content: Any) -> Any:
    """The endpoint's own generator, if `content` is the one that FastAPI wraps around it; else `content`.

    Driving the endpoint's generator itself spares a turn of the event loop for each item, and it alone can be closed in
    the request's task: closing FastAPI's leaves the endpoint's to the garbage collector.
    """
    if isinstance(content, AsyncGeneratorType) and content.ag_code.co_name == "_async_stream_raw":
        frame = content.ag_frame
        if frame is not None and frame.f_globals.get("__name__") == "fastapi.routing":
            return frame.f_locals.get("async_gen", content)
    return content


def route_of(scope: Any) -> Any:
    """The route that a request came to, with all that the routers around it add; None if the framework doesn't say."""
    # A route of a router that FastAPI has included doesn't know the prefix and dependencies that it was included with.
    included = scope.get("fastapi", {}).get("effective_route_context")
    return scope.get("route") if included is None else included
