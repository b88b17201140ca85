"""What FastAPI needs beside the response: streams in its OpenAPI document, and the id that a client resumes from."""

from __future__ import annotations

import copy
import inspect
import threading
import types
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tidings.events import StreamItems, item_schema, payload_types, yields
from tidings.stream import EventSourceResponse

try:
    from fastapi import Depends, FastAPI, Header, Query, routing
    from fastapi.openapi.utils import get_openapi
    from fastapi.sse import EventSourceResponse as FastAPIEventSourceResponse
except ImportError as error:
    raise ImportError("tidings.fastapi needs FastAPI 0.135 or newer: pip install 'tidings[fastapi]'") from error

__all__ = ["LastEventId", "document_streams"]

_Json = dict[str, Any]


# -- the id that a client resumes from --------------------------------------------------------------------------------


async def _last_event_id(
    header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="The id of the last event received, from a client that reconnects."),
    ] = None,
    query: Annotated[
        str | None,
        Query(alias="last_event_id", description="The same, from a client that can't set the header. The header wins."),
    ] = None,
    query_camel: Annotated[str | None, Query(alias="lastEventId", description="The same as `last_event_id`.")] = None,
) -> str | None:
    if header:
        try:
            # Browsers send it "encoded as UTF-8" (WHATWG HTML §9.2.3), Starlette reads headers as Latin-1.
            return header.encode("latin-1").decode()
        except UnicodeError:
            return header
    return query or query_camel or None


LastEventId = Annotated[str | None, Depends(_last_event_id)]
"""The type of a parameter that gets the id of the last event that the client has received; None if there is none.

It is the header `Last-Event-ID`, which browsers send when they reconnect; else the query parameter `last_event_id` or
`lastEventId`, with which a page asks for what it missed before its first connection. An empty one counts as none.
"""


# -- streams in the OpenAPI document ----------------------------------------------------------------------------------

_EVENT_STREAM = EventSourceResponse.media_type

_Operation = tuple[str, str]  # path, method


def document_streams(app: FastAPI) -> None:
    """Make the app's OpenAPI document describe what its streams carry.

    Each path operation that yields, with `tidings.EventSourceResponse` or a subclass as its response class, gets an
    `itemSchema` for its `text/event-stream` (OpenAPI 3.2, section 4.14.4). Plain items, and streams without annotation,
    are described exactly as FastAPI describes a stream of `fastapi.sse`. Typed events are each an object with the
    event's name as a `const` and the schema of its `data`; more than one of them a `oneOf`. What `responses=` and
    `openapi_extra=` say wins.

    Call it before or after the routes are added; a second call changes nothing. It wraps `app.openapi`, which is
    FastAPI's way to extend OpenAPI: if you set an `app.openapi` of your own, do so first. A mounted app has a document
    of its own.
    """
    if not isinstance(app.openapi, _DescribedOpenAPI):
        app.openapi = _DescribedOpenAPI(app, app.openapi)  # type: ignore[method-assign]


class _DescribedOpenAPI:
    """An `app.openapi` that describes the streams in the document of another."""

    def __init__(self, app: FastAPI, openapi: Callable[[], _Json]) -> None:
        self._app = app
        self._openapi = openapi
        self._described: _Json | None = None
        self._lock = threading.RLock()

    def __call__(self) -> _Json:
        with self._lock:
            document = self._openapi()
            # In place, once: whoever caches the document, `app.openapi_schema` or other, then holds the described one.
            if document is not self._described:
                _describe(self._app, document)
                self._described = document
            return document


def _describe(app: FastAPI, document: _Json) -> None:
    """Describe the app's streams in its document.

    What a model is called depends on all the models of a document. So FastAPI makes a second document, of routes whose
    streams it takes for its own; a third, of the routes as they are, shows whether the first is just what FastAPI says.
    """
    routes = _routes(app)
    streams = _streams(routes)
    if not streams:
        return
    bare = _fastapi_document(app, document, routes)
    described = _described_document(app, document, routes, streams)
    parts = ("paths", "webhooks", "components")
    if all(document.get(part) == bare.get(part) for part in parts):
        document.update({part: described[part] for part in parts if part in described})
        return
    # Somebody's own app.openapi() has other words. They stay; what they don't say of the streams is added.
    for operation, stream in streams.items():
        before, here, after = (
            stream.content(each, operation).get(_EVENT_STREAM) for each in (bare, document, described)
        )
        if before and here and after:
            if "itemSchema" in here and here["itemSchema"] != before.get("itemSchema"):
                after = {**after, "itemSchema": here["itemSchema"]}
            merged = _merge(before, here, after)
            here.clear()
            here.update(merged)
            _add_schemas(document, described, merged)


def _described_document(app: FastAPI, like: _Json, routes: list[Any], streams: dict[_Operation, _Stream]) -> _Json:
    typed = {operation: stream for operation, stream in streams.items() if stream.items.events}
    # FastAPI knows one type of items for a stream. The payloads of typed events make one, a tuple, for a route of their
    # own: its schema holds theirs, and what `openapi_extra=` says of the stream doesn't mix with them.
    probes = [_fastapi_stream(_PROBE)]
    for number, stream in enumerate(typed.values()):
        members = types.GenericAlias(tuple, tuple(payload_types(stream.items)))
        probes.append(_fastapi_stream(f"{_PROBE}{number}", members))
    document = _fastapi_document(app, like, [*map(_taken_for_own, routes), *probes])
    untyped, *tuples = [_pop_item_schema(document, probe) for probe in probes]
    for (operation, stream), probed in zip(typed.items(), tuples, strict=True):
        schema = item_schema(stream.items, probed["properties"]["data"]["contentSchema"]["prefixItems"])
        content = stream.content(document, operation).get(_EVENT_STREAM, {})
        content["itemSchema"] = _merge(untyped, content.get("itemSchema"), schema)
    return document


def _merge(before: Any, here: Any, after: Any) -> Any:
    """What changed from `before` to `after`, except where `here` is not as before."""
    if here == before:
        return after
    if not (isinstance(here, dict) and isinstance(after, dict)):
        return here
    before = before if isinstance(before, dict) else {}
    merged = {}
    for key in {**after, **here}:
        if key in after and key in here:
            merged[key] = _merge(before.get(key), here[key], after[key])
        elif key in here and (key not in before or here[key] != before[key]):
            merged[key] = here[key]
        elif key in after and key not in before:
            merged[key] = after[key]
    return merged


def _add_schemas(document: _Json, described: _Json, node: Any) -> None:
    """Add the models that `node` refers to, and those that they refer to."""
    source = described.get("components", {}).get("schemas", {})
    names = list(_references(node))
    while names:
        name = names.pop()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if name in source and name not in schemas:
            schemas[name] = source[name]
            names.extend(_references(source[name]))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _references(child)
    elif isinstance(node, str) and node.startswith("#/components/schemas/"):  # in a $ref, or a discriminator's mapping
        yield node.split("/")[3]


# -- what FastAPI knows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stream:
    """A path operation whose response is a stream of ours."""

    route: Any  # an APIRoute; of an included router, FastAPI's view of one
    items: StreamItems

    def content(self, document: _Json, operation: _Operation) -> _Json:
        """The media types of its response, in a document."""
        default = inspect.signature(self.route.response_class).parameters["status_code"].default
        for key in ("paths", *operation, "responses", str(self.route.status_code or default), "content"):
            document = document.get(key, {})
        return document


def _routes(app: FastAPI) -> list[Any]:
    """The app's routes, those of its included routers among them: since FastAPI 0.137, `app.routes` is a tree."""
    expand: Callable[[Sequence[Any]], Iterator[Any]] = getattr(routing, "iter_route_contexts", iter)
    return list(expand(app.routes))


def _streams(routes: list[Any]) -> dict[_Operation, _Stream]:
    """The streams, by what the document calls them: of two routes with the same path and method it has the last."""
    streams: dict[_Operation, _Stream] = {}
    for route in routes:
        if not isinstance(getattr(route, "original_route", route), routing.APIRoute) or not route.include_in_schema:
            continue
        items = _items(route)
        for method in route.methods:
            operation = route.path_format, method.lower()
            streams.pop(operation, None)
            if items is not None:
                streams[operation] = _Stream(route, items)
    return streams


def _items(route: Any) -> StreamItems | None:
    """What a route streams; None if it is no stream of ours."""
    response_class = getattr(route, "response_class", None)
    ours = isinstance(response_class, type) and issubclass(response_class, EventSourceResponse)
    if not (ours and yields(route.endpoint)):
        return None
    try:
        return StreamItems.of(route.endpoint)
    except NameError:  # in an annotation that only type checkers can read; the response then takes anything
        return StreamItems()


def _fastapi_document(app: FastAPI, like: _Json, routes: list[Any]) -> _Json:
    with warnings.catch_warnings():
        # FastAPI has said so already, when it made the app's document.
        warnings.filterwarnings("ignore", message="Duplicate Operation ID")
        return get_openapi(
            title=app.title,
            version=app.version,
            routes=routes,
            # An app.openapi() of one's own easily forgets them, and their models count for the names.
            webhooks=app.webhooks.routes if "webhooks" in like else None,
            separate_input_output_schemas=app.separate_input_output_schemas,
        )


_PROBE = "/\0"  # a path that no app has


def _fastapi_stream(path: str, item: Any = None, unique_id: str | None = None) -> routing.APIRoute:
    """A route that FastAPI streams itself, of such items; None: of anything."""

    async def endpoint() -> AsyncIterator[Any]:
        yield

    endpoint.__annotations__ = {} if item is None else {"return": types.GenericAlias(AsyncIterable, (item,))}
    return routing.APIRoute(path, endpoint, response_class=FastAPIEventSourceResponse, operation_id=unique_id or path)


def _pop_item_schema(document: _Json, route: routing.APIRoute) -> _Json:
    operation = document["paths"].pop(route.path)["get"]
    item: _Json = operation["responses"]["200"]["content"][_EVENT_STREAM]["itemSchema"]
    return item


def _taken_for_own(route: Any) -> Any:
    """A copy of a route of ours that FastAPI documents as a stream of its own; other routes as they are.

    FastAPI has no public way to say so: `is_sse_stream` and `stream_item_field` are what its documents are made from.
    """
    items = _items(route)
    if items is None:
        return route
    own = _fastapi_stream("/", None if items.events else items.plain, route.unique_id)
    # FastAPI's view of a route is a frozen dataclass, which copy can't copy.
    taken: Any = copy.copy(route) if isinstance(route, routing.APIRoute) else replace(route)
    vars(taken).update(is_sse_stream=own.is_sse_stream, stream_item_field=own.stream_item_field)
    return taken
