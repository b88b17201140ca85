"""Tells a developer of dependencies that stay open as long as a stream."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from starlette.types import Scope

from tidings.events import yields
from tidings.stream.endpoint import route_of

__all__ = ["warn_of_held_dependencies"]

logger = logging.getLogger("tidings.stream")

_told: set[str] = set()
"""What was said already: it is the same for each stream of a route."""


def warn_of_held_dependencies(scope: Scope) -> None:
    """Log once for a route of FastAPI which of its `yield` dependencies are open until the stream has ended.

    Only if a developer looks on: the application is in debug mode, or Python in its development mode. A dependency that
    is to be held says so: `Depends(…, scope="request")`.
    """
    if not (sys.flags.dev_mode or getattr(scope.get("app"), "debug", False) is True):
        return
    route = route_of(scope)
    names = dict.fromkeys(_names_of_held(getattr(route, "dependant", None)))
    if not names:
        return
    message = (
        f"{getattr(route, 'path', 'a stream')}: {', '.join(names)} stays open as long as each stream, and with it what "
        'it holds, such as a connection of a pool. Give it back before, with Depends(…, scope="function"), or say that '
        'it is to be held, with scope="request"'
    )
    if message not in _told:
        _told.add(message)
        logger.warning(message)


def _names_of_held(dependant: Any) -> Iterator[str]:
    """The names of those with the scope of the request, where nobody has chosen it."""
    for each in getattr(dependant, "dependencies", ()):
        if each.scope is None and yields(each.call):
            yield _name_of(each.call)
        yield from _names_of_held(each)


def _name_of(call: Any) -> str:
    while isinstance(call, partial):
        call = call.func
    name: str = getattr(call, "__qualname__", type(call).__qualname__)
    return name
