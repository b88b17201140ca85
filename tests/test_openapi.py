"""`document_streams` and `LastEventId`: what the OpenAPI document says of streams."""

import asyncio
import dataclasses
import enum
import functools
import json
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import fastapi.sse
import jsonschema
import openapi_pydantic
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, routing
from fastapi.openapi.utils import get_openapi
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

import tidings.fastapi
from tidings import Event, EventSourceResponse, ServerSentEvent
from tidings.events import StreamItems
from tidings.fastapi import LastEventId, document_streams
from tidings.wire import EventDecoder

FASTAPI = tuple(map(int, fastapi.__version__.split(".")[:2]))

keeps_items = pytest.mark.skipif(
    FASTAPI < (0, 142), reason="an older FastAPI forgets what the streams of a router carry"
)

# -- models -----------------------------------------------------------------------------------------------------------

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str = Field(alias="partName", description="What it is called.")
    colour: Colour = Colour.RED


class Item(BaseModel):
    model_config = ConfigDict(title="An item")

    id: int
    price: Decimal = Decimal(1)
    parts: list[Part] = []
    at: datetime | None = None


class Computed(BaseModel):
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Box(BaseModel, Generic[T]):
    content: T
    note: str = ""


class Tree(BaseModel):
    children: list["Tree"] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    friend: Item | None = None


class Names(RootModel[list[str]]):
    pass


@dataclasses.dataclass
class Point:
    x: int
    part: Part | None = None


class Options(TypedDict, total=False):
    depth: int


def another(name: str, **fields: Any) -> type[BaseModel]:
    """A model of the same name as one of the above, as if of another module."""
    body = {"__module__": "elsewhere", "__annotations__": fields}
    return types.new_class(name, (BaseModel,), {}, lambda namespace: namespace.update(body))


OtherItem = another("Item", title=str)
OtherPart = another("Part", number=int)


class Opened(Event[Item]):
    pass


class Closed(Event[Box[Part]], name="item-closed"):
    pass


class Tick(Event[int]):
    data: Annotated[int, Field(ge=0, description="Seconds since the start.")]


class Measured(Event[Computed]):
    pass


class Boxed(Event[Box[T]], Generic[T]):
    pass


# -- what makes a document valid --------------------------------------------------------------------------------------


def check(document: dict[str, Any]) -> dict[str, Any]:
    """Check that a document is valid, and that it says what JSON can carry."""
    assert json.loads(json.dumps(document)) == document
    openapi_pydantic.OpenAPI.model_validate(document)
    for reference in walk(document, "$ref"):
        resolve(document, reference)
    for keyword in ("schema", "itemSchema", "contentSchema"):
        for schema in walk(document, keyword):
            jsonschema.Draft202012Validator.check_schema(schema)
    for schema in document.get("components", {}).get("schemas", {}).values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert "\\x00" not in str(document)
    return document


def walk(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for child in node.values():
            yield from walk(child, key)
    elif isinstance(node, list):
        for child in node:
            yield from walk(child, key)


def resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    assert reference.startswith("#/")
    for key in reference[2:].split("/"):
        node = node[key]
    return node


def described(app: FastAPI) -> dict[str, Any]:
    document_streams(app)
    return check(app.openapi())


def item_schema(document: dict[str, Any], path: str = "/", method: str = "get", status: str = "200") -> Any:
    content = document["paths"][path][method]["responses"][status]["content"]
    assert list(content) == ["text/event-stream"]
    assert list(content["text/event-stream"]) == ["itemSchema"]
    return content["text/event-stream"]["itemSchema"]


def stream_of(item: Any, **options: Any) -> FastAPI:
    """An app with one stream of such items, not documented yet."""
    app = FastAPI()
    app.get("/", response_class=EventSourceResponse, **options)(yielding(item))
    return app


def yielding(item: Any) -> Any:
    async def stream():
        yield

    stream.__annotations__ = {"return": AsyncIterable[item]}
    return stream


# -- as FastAPI's own -------------------------------------------------------------------------------------------------

PLAIN_TYPES = [
    int,
    str,
    bytes,
    dict,
    list[int],
    datetime,
    type(None),
    Item,
    Item | None,
    list[Item],
    dict[str, Part],
    tuple[Part, Item],
    Colour,
    Point,
    Options,
    Names,
    Tree,
    Box[Item],
    Box[Box[Part]],
    Computed,
    Cat | Dog,
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Annotated[int, Field(gt=3, description="More than three.")],
    Annotated[Item, Field(title="Renamed", description="An item.")],
    Literal["a", "b"],
    Item | OtherItem,
]


def twins(build: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documents of an app with our streams, and of the same one with FastAPI's."""
    ours, theirs = build(EventSourceResponse), build(fastapi.sse.EventSourceResponse)
    return described(ours), theirs.openapi()


@pytest.mark.parametrize("item", PLAIN_TYPES, ids=str)
@pytest.mark.parametrize("separate", [True, False], ids=["separate", "joined"])
def test_plain_items_are_described_as_fastapi_does(item: Any, separate: bool) -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI(separate_input_output_schemas=separate)
        app.get("/a/stream", response_class=response_class)(yielding(item))
        return app

    ours, theirs = twins(build)
    assert ours == theirs


@pytest.mark.parametrize("separate", [True, False], ids=["separate", "joined"])
def test_models_shared_with_other_endpoints(separate: bool) -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI(separate_input_output_schemas=separate)

        @app.post("/items")
        async def add(item: Item, options: Box[Part]) -> Item:
            return item

        @app.get("/points")
        async def points() -> list[Point]:
            return []

        @app.post("/trees")
        async def trees(tree: Tree, computed: Computed) -> Box[Item]:
            raise NotImplementedError

        for number, item in enumerate(PLAIN_TYPES):
            app.get(f"/stream/{number}", response_class=response_class)(yielding(item))

        @app.get("/raw", response_class=StreamingResponse)
        async def raw() -> AsyncIterable[str]:
            yield ""

        return app

    ours, theirs = twins(build)
    assert ours == theirs
    assert ("Item-Input" in str(ours)) == separate


def test_a_stream_splits_a_model_that_was_only_input() -> None:
    """The stream changes what other operations refer to: the whole document is made anew."""

    def build(response_class: Any) -> FastAPI:
        app = FastAPI()

        @app.post("/items")
        async def add(item: Item) -> None: ...

        app.get("/stream", response_class=response_class)(yielding(Item))
        return app

    assert "Item" in build(StreamingResponse).openapi()["components"]["schemas"]
    ours, theirs = twins(build)
    assert ours == theirs
    assert {"Item-Input", "Item-Output"} <= ours["components"]["schemas"].keys()


def test_models_of_one_name() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()

        @app.get("/items")
        async def items() -> Item:
            raise NotImplementedError

        app.get("/stream", response_class=response_class)(yielding(OtherItem))
        app.get("/parts", response_class=response_class)(yielding(OtherPart))
        return app

    assert "Item" in build(StreamingResponse).openapi()["components"]["schemas"]
    ours, theirs = twins(build)
    assert ours == theirs
    assert "Item" not in ours["components"]["schemas"]


async def asynchronous(limit: int = 3):
    """The doc string is the description."""
    yield


def synchronous(limit: int = 3):
    yield


class Called:
    async def __call__(self, limit: int = 3):
        yield


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return functools.wraps(wrapper)(functools.partial(wrapper))


@pytest.mark.parametrize(
    "annotation",
    [
        AsyncIterable[Item],
        AsyncIterator[Item],
        AsyncGenerator[Item, None],
        Iterable[Item],
        Iterator[Item],
        Generator[Item, None, None],
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "endpoint",
    [
        asynchronous,
        synchronous,
        Called(),
        functools.partial(asynchronous, limit=1),
        decorated(asynchronous),
        decorated(synchronous),
        functools.partial(decorated(synchronous).func, limit=1),
    ],
    ids=["async", "sync", "object", "partial", "decorated async", "decorated sync", "partial of decorated"],
)
def test_every_kind_of_generator(endpoint: Any, annotation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if annotation is not None:
        for function in (asynchronous, synchronous, Called.__call__):
            monkeypatch.setitem(function.__annotations__, "return", annotation)

    def build(response_class: Any) -> FastAPI:
        app = FastAPI()
        app.get("/", response_class=response_class, name="stream")(endpoint)
        return app

    ours, theirs = twins(build)
    assert ours == theirs
    assert ("required" in item_schema(ours)) == (annotation is not None)


def test_an_annotation_that_is_a_string() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()

        async def stream():
            yield

        stream.__annotations__["return"] = "AsyncIterable[Item]"
        app.get("/", response_class=response_class)(stream)
        return app

    ours, theirs = twins(build)
    assert ours == theirs
    assert "Item" in ours["components"]["schemas"]


def test_an_annotation_that_only_type_checkers_can_read_is_none() -> None:
    async def stream():
        yield

    stream.__annotations__["return"] = "AsyncIterable[Unknown]"
    app = FastAPI()
    app.get("/", response_class=EventSourceResponse, response_model=None)(stream)
    assert item_schema(described(app)) == item_schema(described(stream_of(ServerSentEvent)))


def test_the_untyped_schema_is_fastapis() -> None:
    app = FastAPI()

    @app.get("/", response_class=fastapi.sse.EventSourceResponse)
    async def theirs() -> AsyncIterable[fastapi.sse.ServerSentEvent]:
        yield fastapi.sse.ServerSentEvent()

    expected = item_schema(app.openapi())
    assert "required" not in expected
    assert item_schema(described(stream_of(ServerSentEvent))) == expected
    unannotated = FastAPI()

    @unannotated.get("/", response_class=EventSourceResponse)
    async def ours():
        yield

    assert item_schema(described(unannotated)) == expected


def test_a_server_sent_event_beside_plain_items_says_nothing_of_them() -> None:
    assert item_schema(described(stream_of(Item | ServerSentEvent))) == item_schema(described(stream_of(Item)))


def included(response_class: Any) -> FastAPI:
    """An app with all that path operations are configured by."""
    app = FastAPI(
        title="Everything",
        version="3",
        description="…",
        openapi_tags=[{"name": "a"}],
        servers=[{"url": "/v1"}],
        generate_unique_id_function=lambda route: f"id-{route.path_format}-{route.name}",
    )

    @app.webhooks.post("hook")
    async def hook(item: Annotated[OtherItem, Body()]) -> Box[Item]:
        raise NotImplementedError

    key = APIKeyHeader(name="x-key")
    callbacks = APIRouter()

    @callbacks.post("{$request.body.url}")
    async def called(point: Point) -> Item:
        raise NotImplementedError

    inner = APIRouter(prefix="/inner", tags=["b"], default_response_class=response_class)

    @inner.get("/{id}/stream")
    async def default_class(id: int, verbose: bool = False) -> AsyncIterable[Item]:
        yield Item(id=id)

    @inner.post("/stream", response_class=response_class, status_code=201, operation_id="custom", deprecated=True)
    async def posted(part: Part) -> AsyncIterable[Part]:
        yield part

    outer = APIRouter(prefix="/outer", responses={404: {"model": Part}}, dependencies=[Depends(key)])
    outer.include_router(inner, prefix="/again", responses={400: {"description": "Bad"}}, callbacks=callbacks.routes)

    @outer.api_route("/many", methods=["GET"], response_class=response_class, summary="Many")
    def many() -> Iterable[Point]:
        yield Point(1)

    @outer.get("/hidden", response_class=response_class, include_in_schema=False)
    async def hidden() -> AsyncIterable[Tree]:
        yield Tree()

    app.include_router(outer)
    app.include_router(inner, prefix="/twice")
    app.include_router(inner, prefix="/never", include_in_schema=False)
    mounted = FastAPI()
    mounted.get("/stream", response_class=response_class)(yielding(Options))
    app.mount("/mounted", mounted)
    app.mount("/asgi", lambda scope, receive, send: None)
    app.add_route("/starlette", lambda request: None)
    app.add_api_websocket_route("/socket", lambda socket: None)
    return app


@keeps_items
@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")  # of the callbacks, which have several parents
def test_included_routers_and_every_option() -> None:
    ours, theirs = twins(included)
    assert ours == theirs
    assert {path for path in ours["paths"] if "/stream" in path} == {
        "/outer/again/inner/{id}/stream",
        "/outer/again/inner/stream",
        "/twice/inner/{id}/stream",
        "/twice/inner/stream",
    }
    assert "Tree" not in ours["components"]["schemas"]


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
def test_included_routers_in_every_version_of_fastapi() -> None:
    document = described(included(EventSourceResponse))
    for prefix in ("/outer/again/inner", "/twice/inner"):
        schema = item_schema(document, f"{prefix}/{{id}}/stream")
        payload = resolve(document, schema["properties"]["data"]["contentSchema"]["$ref"])
        assert payload["title"] == "An item"
        schema = item_schema(document, f"{prefix}/stream", "post", "201")
        assert schema["properties"]["data"]["contentSchema"]["$ref"].split("/")[-1] in {"Part", "Part-Output"}
    assert document["paths"]["/outer/many"]["get"]["summary"] == "Many"
    assert item_schema(document, "/outer/many")["properties"]["data"]["contentSchema"] == reference("Point")
    assert not any("hidden" in path or "never" in path for path in document["paths"])


def test_callbacks_and_webhooks_are_left_alone() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()
        callbacks = APIRouter()
        callbacks.get("{$request.query.url}", name="call", response_class=EventSourceResponse)(yielding(Item))
        app.webhooks.get("hook", response_class=EventSourceResponse)(yielding(Item))
        app.get("/", response_class=response_class, callbacks=callbacks.routes)(yielding(int))
        return app

    before = build(StreamingResponse).openapi()
    after = described(build(EventSourceResponse))
    assert after["webhooks"] == before["webhooks"]
    assert after["paths"]["/"]["get"]["callbacks"] == before["paths"]["/"]["get"]["callbacks"]


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
def test_several_methods() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()
        app.api_route("/", methods=["GET", "POST", "HEAD"], response_class=response_class, operation_id="x")(
            yielding(Item)
        )
        return app

    ours, theirs = twins(build)
    assert ours == theirs
    app = FastAPI()
    app.api_route("/", methods=["GET", "PUT"], response_class=EventSourceResponse, operation_id="x")(
        yielding(Opened | Tick)
    )
    document = described(app)
    assert item_schema(document) == item_schema(document, method="put")
    assert item_schema(document) is not item_schema(document, method="put")


def test_a_duplicate_operation_id_is_warned_of_once() -> None:
    app = FastAPI()
    for path in ("/a", "/b"):
        app.get(path, response_class=EventSourceResponse, operation_id="same")(yielding(Opened))
    document_streams(app)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app.openapi()
    assert ["Duplicate Operation ID same" in str(warning.message) for warning in caught] == [True]


def test_of_two_routes_with_one_path_and_method_the_last_is_documented() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()
        app.get("/a", response_class=response_class, operation_id="1")(yielding(Item))
        app.get("/a", response_class=response_class, operation_id="2")(yielding(Part))
        app.get("/b", response_class=response_class, operation_id="3")(yielding(Cat))
        app.get("/b", operation_id="4")(lambda: None)
        return app

    ours, theirs = twins(build)
    assert ours == theirs
    app = FastAPI()
    for number, event in enumerate([Opened, Tick, Closed]):
        app.get("/", response_class=EventSourceResponse, operation_id=str(number))(yielding(event))
    app.get("/theirs", response_class=EventSourceResponse, operation_id="ours")(yielding(Opened))
    app.get("/theirs", response_class=fastapi.sse.EventSourceResponse)(yielding(Item))
    document = described(app)
    assert item_schema(document) == item_schema(described(stream_of(Closed)))
    assert item_schema(document, "/theirs")["properties"]["event"] == {"type": "string"}


def test_what_is_hidden_leaves_no_trace() -> None:
    app = FastAPI()
    app.get("/", include_in_schema=False, response_class=EventSourceResponse)(yielding(Opened | Closed))
    app.get("/plain", include_in_schema=False, response_class=EventSourceResponse)(yielding(Item))
    before = json.loads(json.dumps(app.openapi()))
    assert described(app) == before
    app.get("/shown", response_class=EventSourceResponse)(yielding(Tick))
    app.openapi_schema = None
    document = check(app.openapi())
    assert list(document["paths"]) == ["/shown"]
    assert "components" not in document


@keeps_items
def test_a_route_class_of_ones_own() -> None:
    class Route(APIRoute):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.more = 1

    def build(response_class: Any) -> FastAPI:
        app = FastAPI()
        router = APIRouter(route_class=Route)
        router.get("/stream", response_class=response_class)(yielding(Item))
        app.include_router(router)
        return app

    ours, theirs = twins(build)
    assert ours == theirs


def test_a_response_class_for_the_whole_app() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI(default_response_class=response_class)
        app.get("/stream")(yielding(Item))
        router = APIRouter()
        router.get("/included")(yielding(Part))
        app.include_router(router)
        return app

    ours, theirs = twins(build)
    assert ours["paths"]["/stream"] == theirs["paths"]["/stream"]
    assert item_schema(ours, "/included")["required"] == ["data"]


def test_a_subclass_as_response_class_and_its_status() -> None:
    class Slow(EventSourceResponse):
        ping_interval = 60.0

    class Created(EventSourceResponse):
        def __init__(self, content: Any, status_code: int = 201, **options: Any) -> None:
            super().__init__(content, status_code, **options)

    app = FastAPI()
    app.get("/slow", response_class=Slow)(yielding(Opened))
    app.get("/created", response_class=Created)(yielding(Opened))
    document = described(app)
    assert item_schema(document, "/slow") == item_schema(document, "/created", status="201")
    assert item_schema(document, "/slow")["properties"]["event"]["const"] == "opened"


def test_what_is_no_stream_of_ours_stays_as_it_is() -> None:
    app = FastAPI()

    @app.get("/returned", response_class=EventSourceResponse)
    async def returned():
        return EventSourceResponse([])

    @app.get("/fastapi", response_class=fastapi.sse.EventSourceResponse)
    async def theirs() -> AsyncIterable[Item]:
        yield Item(id=1)

    @app.get("/lines")
    async def lines() -> AsyncIterable[Item]:
        yield Item(id=1)

    before = json.loads(json.dumps(app.openapi()))
    assert described(app) == before


# -- the user's own words ---------------------------------------------------------------------------------------------

OWN_WORDS = [
    {"responses": {200: {"description": "A stream of items"}}},
    {"responses": {200: {"content": {"text/event-stream": {"example": "data: 1\n\n"}}}}},
    {"responses": {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}},
    {"responses": {200: {"content": {"text/event-stream": {"itemSchema": {"description": "One of them"}}}}}},
    {"responses": {200: {"content": {"application/json": {"schema": {"type": "array"}}}}}},
    {"responses": {200: {"model": Part}, 404: {"model": Computed}, "default": {"description": "Else"}}},
    {"responses": {206: {"content": {"text/event-stream": {"itemSchema": {"type": "object"}}}}}},
    {"openapi_extra": {"x-more": 1, "responses": {"200": {"headers": {"x-a": {"schema": {"type": "string"}}}}}}},
    {"openapi_extra": {"responses": {"200": {"content": {"text/event-stream": {"itemSchema": {"title": "Mine"}}}}}}},
    {"status_code": 202, "response_description": "Mine", "responses": {"2XX": {"description": "Any"}}},
    {"status_code": 204},
]


@pytest.mark.parametrize("words", OWN_WORDS, ids=str)
def test_own_words_beside_plain_items(words: dict[str, Any]) -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()
        app.get("/", response_class=response_class, **words)(yielding(Item))
        return app

    ours, theirs = twins(build)
    assert ours == theirs


@pytest.mark.parametrize("words", OWN_WORDS, ids=str)
def test_own_words_beside_typed_events(words: dict[str, Any]) -> None:
    typed = described(stream_of(Opened | Tick, **words))["paths"]["/"]["get"]
    plain = described(stream_of(Item, **words))["paths"]["/"]["get"]
    untyped = described(stream_of(ServerSentEvent, **words))["paths"]["/"]["get"]
    status = str(words.get("status_code", 200))
    if status == "204":
        assert typed == plain == untyped
        return
    schemas = [
        operation["responses"][status]["content"]["text/event-stream"].pop("itemSchema")
        for operation in (typed, plain, untyped)
    ]
    assert typed == plain == untyped
    says = {key: value for key, value in schemas[2].items() if key in ("title", "description")}
    assert schemas[0] == {**item_schema(described(stream_of(Opened | Tick))), **says}


def test_an_item_schema_of_ones_own_wins() -> None:
    def extra(schema: Any) -> Any:
        return {"responses": {"200": {"content": {"text/event-stream": {"itemSchema": schema}}}}}

    own = {"oneOf": [{"type": "null"}]}
    assert item_schema(described(stream_of(Opened | Tick, openapi_extra=extra(own)))) == own
    own = {"properties": {"data": {"maxLength": 5}}}
    merged = item_schema(described(stream_of(Opened | Tick, openapi_extra=extra(own))))
    assert merged["properties"]["data"]["maxLength"] == 5
    assert len(merged["oneOf"]) == 2
    own = {"properties": {"id": {"pattern": "^[0-9]+$"}}}
    merged = item_schema(described(stream_of(Opened, openapi_extra=extra(own))))
    assert merged["properties"]["id"] == {"type": "string", "pattern": "^[0-9]+$"}
    assert merged["properties"]["event"] == {"type": "string", "const": "opened"}
    assert merged["required"] == ["data", "event"]


# -- typed events -----------------------------------------------------------------------------------------------------


def event_schema(name: str, payload: Any) -> Any:
    return {
        "type": "object",
        "properties": {
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": payload},
            "event": {"type": "string", "const": name},
            "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
        "required": ["data", "event"],
    }


def reference(name: str) -> Any:
    return {"$ref": f"#/components/schemas/{name}"}


def test_one_typed_event() -> None:
    document = described(stream_of(Opened))
    assert item_schema(document) == event_schema("opened", reference("Item"))
    assert document["components"]["schemas"].keys() == {"Item", "Part", "Colour"}
    assert document["components"]["schemas"]["Part"]["properties"].keys() == {"partName", "colour"}
    assert item_schema(described(stream_of(Opened | ServerSentEvent))) == item_schema(document)


def test_a_union_of_typed_events() -> None:
    document = described(stream_of(Opened | Closed | Tick))
    assert item_schema(document) == {
        "oneOf": [
            event_schema("opened", reference("Item")),
            event_schema("item-closed", reference("Box_Part_")),
            event_schema("tick", {"type": "integer", "minimum": 0, "description": "Seconds since the start."}),
        ]
    }
    assert document["openapi"] == "3.1.0"
    assert document["components"]["schemas"].keys() == {"Item", "Part", "Colour", "Box_Part_"}


def test_typed_events_and_plain_items() -> None:
    schema = item_schema(described(stream_of(Opened | int | Tick | str)))
    opened, tick, plain = schema.pop("oneOf")
    assert schema == {}
    assert opened == event_schema("opened", reference("Item"))
    assert tick["properties"]["event"]["const"] == "tick"
    event = plain["properties"].pop("event")
    expected = item_schema(described(stream_of(int | str)))
    assert expected["properties"].pop("event") == {"type": "string"}
    del expected["properties"]["data"]["contentSchema"]["title"]  # it is made from the id of the operation
    assert plain == expected
    assert event == {"type": "string", "not": {"enum": ["opened", "tick"]}}


def test_two_classes_of_one_name() -> None:
    schema = item_schema(described(stream_of(Boxed[int] | Boxed[str] | Tick)))
    payloads = {"anyOf": [reference("Box_int_"), reference("Box_str_")]}
    assert schema["oneOf"][0] == event_schema("boxed", payloads)
    assert len(schema["oneOf"]) == 2


def test_payloads_are_described_as_they_are_sent() -> None:
    app = FastAPI()

    @app.post("/items")
    async def add(item: Item) -> Computed:
        raise NotImplementedError

    app.get("/stream", response_class=EventSourceResponse)(yielding(Opened | Measured))
    document = described(app)
    opened, measured = item_schema(document, "/stream")["oneOf"]
    assert opened["properties"]["data"]["contentSchema"] == reference("Item-Output")
    assert document["components"]["schemas"]["Item-Output"]["properties"]["price"]["type"] == "string"
    assert document["paths"]["/items"]["post"]["requestBody"]["content"]["application/json"]["schema"] == reference(
        "Item-Input"
    )
    assert measured["properties"]["data"]["contentSchema"] == reference("Computed")
    assert "area" in document["components"]["schemas"]["Computed"]["properties"]


@pytest.mark.skipif(FASTAPI < (0, 165), reason="an older FastAPI looks for computed fields at the top of a type only")
def test_computed_fields_in_joined_schemas() -> None:
    app = FastAPI(separate_input_output_schemas=False)
    app.get("/", response_class=EventSourceResponse)(yielding(Measured | Tick))
    assert "area" in described(app)["components"]["schemas"]["Computed"]["properties"]


def test_payloads_of_every_type() -> None:
    class Aliased(Event[int]):
        data: int = Field(5, alias="number", title="A number", examples=[1])

    app = FastAPI()
    for number, item in enumerate(PLAIN_TYPES):
        event = types.new_class(f"Event{number}", (Event[item],))
        app.get(f"/{number}", response_class=EventSourceResponse)(yielding(event | Aliased))
    document = described(app)
    plain = FastAPI()
    for number, item in enumerate(PLAIN_TYPES):
        plain.get(f"/{number}", response_class=EventSourceResponse)(yielding(item))
    expected = described(plain)
    assert document["components"] == expected["components"]
    for number in range(len(PLAIN_TYPES)):
        event, aliased = item_schema(document, f"/{number}")["oneOf"]
        assert event["properties"]["event"] == {"type": "string", "const": f"event{number}"}
        theirs = item_schema(expected, f"/{number}")["properties"]["data"]["contentSchema"]
        ours = event["properties"]["data"]["contentSchema"]
        assert {**ours, "title": None} == {**theirs, "title": None}
        assert aliased["properties"]["data"]["contentSchema"]["type"] == "integer"
        assert aliased["properties"]["data"]["contentSchema"]["title"] == "A number"


def test_typed_events_in_included_routers_with_models_of_one_name() -> None:
    class Changed(Event[OtherItem]):
        pass

    app = FastAPI()
    router = APIRouter(prefix="/b")
    app.get("/a", response_class=EventSourceResponse)(yielding(Opened | Tick))
    router.get("/c", response_class=EventSourceResponse)(yielding(Opened | Changed))
    app.include_router(router)
    document = described(app)
    first, _ = item_schema(document, "/a")["oneOf"]
    opened, changed = item_schema(document, "/b/c")["oneOf"]
    assert first == opened
    names = [form["properties"]["data"]["contentSchema"]["$ref"].split("/")[-1] for form in (opened, changed)]
    assert "id" in document["components"]["schemas"][names[0]]["properties"]
    assert "title" in document["components"]["schemas"][names[1]]["properties"]


STREAMED = [
    (Opened, [Opened.create(Item(id=1, parts=[Part(partName="a")]), id="7", retry=10)]),
    (Opened | Tick | Measured, [Opened.create(Item(id=1)), Tick.create(3), Measured.create(Computed(side=2))]),
    (Tick | Item | None, [Tick.create(0, id="a"), Item(id=2), None, Item(id=2)]),
    (Boxed[int] | Boxed[str], [Boxed[int].create(Box[int](content=1)), Boxed[str].create(Box[str](content="1"))]),
    (Item, [Item(id=2)]),
    (ServerSentEvent, [ServerSentEvent(event="a", raw_data="1"), ServerSentEvent("c")]),
]


@pytest.mark.parametrize(("item", "values"), STREAMED, ids=lambda value: str(value)[:40])
def test_what_is_sent_fits_its_description(item: Any, values: list[Any]) -> None:
    document = described(stream_of(item))
    whole = item_schema(document)
    forms = whole.get("oneOf", [whole])
    encode = StreamItems.of(yielding(item)).encoder()
    for value in values:
        block = encode(value)
        (event,) = EventDecoder().feed(block)
        fields: dict[str, Any] = {"data": event.data}
        if block.startswith(b"event"):
            fields["event"] = event.event
        if b"\nid:" in block:
            fields["id"] = event.id
        assert fits(document, whole, fields)
        assert not fits(document, whole, {**fields, "retry": -1})
        (form,) = [form for form in forms if fits(document, form, fields)]
        assert fits(document, form["properties"]["data"].get("contentSchema", {}), json.loads(event.data))


def fits(document: dict[str, Any], schema: dict[str, Any], instance: Any) -> bool:
    return jsonschema.Draft202012Validator({"components": document.get("components"), **schema}).is_valid(instance)


# -- app.openapi ------------------------------------------------------------------------------------------------------


def test_before_and_after_the_routes() -> None:
    late, early = FastAPI(), FastAPI()
    document_streams(early)
    router = APIRouter()
    for app in (early, late):
        app.get("/", response_class=EventSourceResponse)(yielding(Opened))
        app.include_router(router)
    router.get("/later", response_class=EventSourceResponse)(yielding(Item))
    if FASTAPI < (0, 137):
        early.include_router(router)
        late.include_router(router)
    assert check(early.openapi()) == described(late)
    assert item_schema(early.openapi(), "/later")["required"] == ["data"]


def test_twice_is_once() -> None:
    app = stream_of(Opened | Tick)
    document_streams(app)
    once = app.openapi
    document_streams(app)
    assert app.openapi is once


def test_the_document_is_made_once_and_cached_where_fastapi_does(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(tidings.fastapi, "get_openapi", lambda **options: calls.append(1) or get_openapi(**options))
    app = stream_of(Opened)
    document = described(app)
    assert app.openapi_schema is document
    made = len(calls)
    assert app.openapi() is document
    assert len(calls) == made
    app.openapi_schema["info"]["title"] = "Changed"
    assert app.openapi()["info"]["title"] == "Changed"
    app.openapi_schema = None
    again = app.openapi()
    assert again is not document
    assert item_schema(again) == item_schema(document)


@pytest.mark.skipif(FASTAPI < (0, 137), reason="an older FastAPI never makes its document anew")
def test_a_route_added_after_the_document_was_made() -> None:
    app = stream_of(Opened)
    described(app)
    app.get("/more", response_class=EventSourceResponse)(yielding(Tick))
    assert item_schema(check(app.openapi()), "/more")["properties"]["event"]["const"] == "tick"


def test_a_document_made_before() -> None:
    app = stream_of(Item)
    app.openapi()
    assert item_schema(described(app))["required"] == ["data"]


def test_an_app_without_streams_is_left_alone() -> None:
    app = FastAPI()

    @app.get("/")
    async def index() -> Item:
        raise NotImplementedError

    before = app.openapi()
    assert described(app) is before


def test_an_openapi_of_ones_own_as_fastapi_documents_it() -> None:
    def build(response_class: Any) -> FastAPI:
        app = FastAPI()

        @app.post("/items")
        async def add(item: Item) -> None: ...

        @app.webhooks.post("hook")
        async def hook(tree: OtherItem) -> None: ...

        app.get("/stream", response_class=response_class)(yielding(Item))

        def custom_openapi() -> dict[str, Any]:
            if app.openapi_schema:
                return app.openapi_schema
            schema = get_openapi(title="Custom", version="2.5.0", routes=app.routes, servers=[{"url": "/v2"}])
            schema["info"]["x-logo"] = {"url": "logo.png"}
            app.openapi_schema = schema
            return app.openapi_schema

        app.openapi = custom_openapi
        return app

    ours, theirs = twins(build)
    assert ours == theirs
    assert ours["info"]["x-logo"] == {"url": "logo.png"}
    assert "webhooks" not in ours


def test_an_openapi_method_of_a_subclass() -> None:
    class App(FastAPI):
        def openapi(self) -> dict[str, Any]:
            schema = super().openapi()
            schema["x-more"] = True
            return schema

    app = App()
    app.get("/", response_class=EventSourceResponse)(yielding(Opened))
    document = described(app)
    assert document["x-more"] is True
    assert item_schema(document) == item_schema(described(stream_of(Opened)))


def test_an_openapi_of_ones_own_that_changes_paths_and_models() -> None:
    app = FastAPI()

    @app.get("/items")
    async def items() -> Item:
        raise NotImplementedError

    class Changed(Event[OtherItem]):
        pass

    app.get("/renamed", response_class=EventSourceResponse)(yielding(Item))

    class Nested(Event[Box[Computed]]):
        pass

    app.get("/changes", response_class=EventSourceResponse)(yielding(Changed | Tick | Nested | Closed))
    example = {"content": {"text/event-stream": {"example": "data: 1", "x-kept": 1}}}
    app.get("/example", response_class=EventSourceResponse, responses={200: example})(yielding(Item))
    app.get("/own", response_class=EventSourceResponse)(yielding(Opened | Closed))
    app.get("/secret", response_class=EventSourceResponse)(yielding(Tree))
    app.get("/odd", response_class=EventSourceResponse)(yielding(Item))
    generated = app.openapi

    def custom_openapi() -> dict[str, Any]:
        schema = json.loads(json.dumps(generated()))
        schema["components"]["schemas"]["Item"]["example"] = {"id": 1}
        schema["components"]["schemas"]["Part"]["example"] = {"partName": "a"}
        schema["paths"]["/hand-made"] = {
            "get": {
                "responses": {
                    "200": {"description": "", "content": {"application/json": {"schema": reference("Item")}}}
                }
            }
        }
        schema["paths"]["/items"]["get"]["summary"] = "Custom"
        own = schema["paths"]["/own"]["get"]["responses"]["200"]["content"]["text/event-stream"]
        own["itemSchema"] = {"type": "object"}
        del schema["paths"]["/secret"]
        del schema["paths"]["/example"]["get"]["responses"]["200"]["content"]["text/event-stream"]["example"]
        schema["paths"]["/odd"]["get"]["responses"]["200"] = {"description": "Nothing"}
        return schema

    app.openapi = custom_openapi
    document = described(app)
    assert document["paths"]["/items"]["get"]["summary"] == "Custom"
    assert document["components"]["schemas"]["Item"]["example"] == {"id": 1}
    assert document["components"]["schemas"]["Part"]["example"] == {"partName": "a"}
    example = document["paths"]["/example"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert example.keys() == {"itemSchema", "x-kept"}
    assert document["paths"]["/odd"]["get"]["responses"]["200"] == {"description": "Nothing"}
    assert item_schema(document, "/own") == {"type": "object"}
    assert "Tree" not in document["components"]["schemas"]
    changed, tick, nested, _ = item_schema(document, "/changes")["oneOf"]
    assert nested["properties"]["data"]["contentSchema"] == reference("Box_Computed_")
    assert "title" in resolve(document, changed["properties"]["data"]["contentSchema"]["$ref"])["properties"]
    assert tick["properties"]["event"]["const"] == "tick"
    assert item_schema(document, "/renamed")["required"] == ["data"]
    assert check(app.openapi()) == document  # made anew at each call


def test_an_openapi_of_ones_own_over_the_described_one() -> None:
    app = stream_of(Opened | Tick)
    document_streams(app)
    inner = app.openapi

    def custom_openapi() -> dict[str, Any]:
        return {**inner(), "x-more": True}

    app.openapi = custom_openapi
    document = described(app)
    assert document["x-more"] is True
    assert document["paths"] == described(stream_of(Opened | Tick))["paths"]


def test_threads_wait_for_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    app = stream_of(Opened | Closed | Tick)
    document_streams(app)
    seen: list[dict[str, Any]] = []
    other = threading.Thread(target=lambda: seen.append(app.openapi()))
    calls = []

    def slow(**options: Any) -> dict[str, Any]:
        if not calls:
            other.start()
        calls.append(threading.current_thread())
        return get_openapi(**options)

    monkeypatch.setattr(tidings.fastapi, "get_openapi", slow)
    document = app.openapi()
    other.join()
    assert seen == [document]
    assert set(calls) == {threading.current_thread()}


def test_documented_streams_run_as_before() -> None:
    """The routes that FastAPI documents in their place are copies: the app's own are as they were."""
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def stream() -> AsyncIterable[Opened]:
        yield Opened.create(Item(id=1))

    (route,) = [route for route in app.routes if isinstance(route, APIRoute)]
    before = dict(vars(route))
    described(app)
    assert vars(route) == before
    assert get(app, "/").body == b'event: opened\ndata: {"id":1,"price":"1","parts":[],"at":null}\n\n'


def test_the_document_is_served() -> None:
    app = stream_of(Opened)
    document_streams(app)
    assert json.loads(get(app, "/openapi.json").body) == described(stream_of(Opened))


def test_what_fastapi_makes_its_documents_from() -> None:
    """The attributes that FastAPI documents its own streams by; `_taken_for_own` sets them on copies of our routes."""
    app = FastAPI()
    app.get("/", response_class=fastapi.sse.EventSourceResponse)(yielding(Item))
    app.get("/lines")(yielding(Item))
    stream, lines = [route for route in app.routes if isinstance(route, APIRoute)]
    assert stream.is_sse_stream is True
    assert lines.is_sse_stream is False
    assert stream.stream_item_field is not None
    if FASTAPI >= (0, 138):
        router = APIRouter()
        router.get("/included", response_class=EventSourceResponse)(yielding(Item))
        app.include_router(router)
        (*_, view) = routing.iter_route_contexts(app.routes)
        assert isinstance(view.original_route, APIRoute)
        assert view.is_sse_stream is False
        assert dataclasses.is_dataclass(view)


# -- LastEventId ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Answer:
    status: int
    body: bytes


def get(app: FastAPI, path: str, query: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Any] = []

    async def run() -> None:
        gone = asyncio.Event()
        requests = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if requests:
                return requests.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        receiver: Receive = receive
        sender: Send = send
        await app(scope, receiver, sender)

    asyncio.run(run())
    return Answer(sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]))


def resuming() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def last(last_event_id: LastEventId) -> Any:
        return last_event_id

    return app


@pytest.mark.parametrize(
    ("query", "header", "expected"),
    [
        (b"", None, None),
        (b"", b"7", "7"),
        (b"last_event_id=a", None, "a"),
        (b"lastEventId=b", None, "b"),
        (b"last_event_id=a&lastEventId=b", None, "a"),
        (b"last_event_id=a", b"7", "7"),
        (b"lastEventId=b", b"7", "7"),
        (b"last_event_id=", b"", None),
        (b"last_event_id=a", b"", "a"),
        (b"last_event_id=&lastEventId=b", None, "b"),
        (b"last_event_id=%C3%BC", None, "ü"),
        (b"", "ü-✓".encode(), "ü-✓"),
        (b"", "ü".encode("latin-1"), "ü"),
        (b"", b"a b:c", "a b:c"),
    ],
)
def test_last_event_id(query: bytes, header: bytes | None, expected: str | None) -> None:
    headers = () if header is None else ((b"last-event-id", header),)
    answer = get(resuming(), "/", query, headers)
    assert answer.status == 200
    assert json.loads(answer.body) == expected


def test_last_event_id_in_the_document() -> None:
    document = check(resuming().openapi())
    parameters = document["paths"]["/"]["get"]["parameters"]
    assert [(parameter["in"], parameter["name"]) for parameter in parameters] == [
        ("query", "last_event_id"),
        ("query", "lastEventId"),
        ("header", "Last-Event-ID"),
    ]
    assert all(parameter["required"] is False and parameter["description"] for parameter in parameters)


def test_last_event_id_of_a_stream() -> None:
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def stream(last_event_id: LastEventId, more: Annotated[int, Header()] = 1) -> AsyncIterable[str]:
        yield str(last_event_id)

    assert get(app, "/", headers=((b"last-event-id", b"41"),)).body == b'data: "41"\n\n'
    parameters = described(app)["paths"]["/"]["get"]["parameters"]
    assert len(parameters) == 4


# -- without FastAPI --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["fastapi", "fastapi.sse"])
def test_a_missing_fastapi_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import tidings.fastapi"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: tidings.fastapi needs FastAPI 0.135 or newer: ")
    assert "pip install 'tidings[fastapi]'" in result.stderr


def test_tidings_itself_loads_no_fastapi() -> None:
    code = "import sys, tidings; assert not any(name.split('.')[0] == 'fastapi' for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
