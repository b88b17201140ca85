"""What a stream can be made of and where it can stand, on plain FastAPI applications."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, Field
from starlette.responses import Response as StarletteResponse

from tests.asgi import Connection, app_of, fetch
from tidings import EventSourceResponse, ServerSentEvent
from tidings.errors import ItemError

pytestmark = pytest.mark.anyio


class Ship(BaseModel):
    name: str
    cargo: str | None = None


@dataclass
class Buoy:
    number: int
    colour: str


FLEET = [Ship(name="Alma", cargo="grain"), Ship(name="Bente")]
FLEET_ON_THE_WIRE = b'data: {"name":"Alma","cargo":"grain"}\n\ndata: {"name":"Bente","cargo":null}\n\n'


# -- generators and their annotations ---------------------------------------------------------------------------------


async def fleet_async() -> AsyncIterable[Ship]:
    for ship in FLEET:
        yield ship


async def fleet_async_iterator() -> AsyncIterator[Ship]:
    for ship in FLEET:
        yield ship


async def fleet_async_generator() -> AsyncGenerator[Ship, None]:
    for ship in FLEET:
        yield ship


async def fleet_async_bare():
    for ship in FLEET:
        yield ship


def fleet_sync() -> Iterable[Ship]:
    yield from FLEET


def fleet_sync_iterator() -> Iterator[Ship]:
    yield from FLEET


def fleet_sync_generator() -> Generator[Ship, None, None]:
    yield from FLEET


def fleet_sync_bare():
    yield from FLEET


@pytest.mark.parametrize(
    "endpoint",
    [
        fleet_async,
        fleet_async_iterator,
        fleet_async_generator,
        fleet_async_bare,
        fleet_sync,
        fleet_sync_iterator,
        fleet_sync_generator,
        fleet_sync_bare,
    ],
)
async def test_async_and_sync_generators_with_any_annotation_and_without_one(endpoint: Any) -> None:
    client = await fetch(app_of(endpoint))
    assert client.status == 200
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }
    assert client.body == FLEET_ON_THE_WIRE
    assert client.complete


async def test_items_are_validated_by_the_annotation() -> None:
    async def endpoint() -> AsyncIterable[Ship]:
        yield {"name": "Clara"}
        yield Buoy(1, "red")

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(ItemError, match="Ship"):
            await client.end()
    assert client.body == b'data: {"name":"Clara","cargo":null}\n\n'
    assert not client.complete


async def test_without_an_annotation_every_kind_of_item_is_sent_as_json() -> None:
    async def endpoint():
        yield Ship(name="Dora")
        yield Buoy(4, "green")
        yield {"wind": [3, 4.5]}
        yield "fog / Nebel für alle"
        yield 7
        yield 1.5
        yield True
        yield None
        yield ServerSentEvent(data="dusk", event="light", id="9")
        yield ServerSentEvent(raw_data="[CLOSED]")

    assert (await fetch(app_of(endpoint))).body.decode() == (
        'data: {"name":"Dora","cargo":null}\n\n'
        'data: {"number":4,"colour":"green"}\n\n'
        'data: {"wind":[3,4.5]}\n\n'
        'data: "fog / Nebel für alle"\n\n'
        "data: 7\n\n"
        "data: 1.5\n\n"
        "data: true\n\n"
        "data: null\n\n"
        'event: light\ndata: "dusk"\nid: 9\n\n'
        "data: [CLOSED]\n\n"
    )


@pytest.mark.parametrize(
    ("item_type", "item", "data"),
    [
        (Buoy, Buoy(2, "white"), '{"number":2,"colour":"white"}'),
        (dict[str, int], {"depth": "12"}, '{"depth":12}'),
        (str, "ebb", '"ebb"'),
        (int, 3, "3"),
        (float | None, None, "null"),
        (Ship | Buoy, Ship(name="Emil"), '{"name":"Emil","cargo":null}'),
        (list[Ship], [Ship(name="Frieda")], '[{"name":"Frieda","cargo":null}]'),
        (Annotated[int, Field(gt=0)], 5, "5"),
    ],
)
async def test_items_of_every_annotated_type(item_type: Any, item: Any, data: str) -> None:
    async def endpoint() -> AsyncIterable[item_type]:
        yield item

    assert (await fetch(app_of(endpoint))).body.decode() == f"data: {data}\n\n"


async def test_a_server_sent_event_passes_in_a_stream_of_plain_items() -> None:
    async def endpoint() -> AsyncIterable[Ship]:
        yield Ship(name="Gerda")
        yield ServerSentEvent(comment="end of the watch")
        yield ServerSentEvent(data={"anything": 1}, event="note")

    assert (await fetch(app_of(endpoint))).body == (
        b'data: {"name":"Gerda","cargo":null}\n\n: end of the watch\n\nevent: note\ndata: {"anything":1}\n\n'
    )


async def test_the_fields_of_a_server_sent_event() -> None:
    async def endpoint() -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent(comment="arrivals")
        for number, ship in enumerate(FLEET, start=1):
            yield ServerSentEvent(data=ship, event="arrival", id=str(number), retry=4000)
        yield ServerSentEvent(raw_data="two lines\nof the log")

    client = await fetch(app_of(endpoint))
    assert client.body.startswith(b": arrivals\n\nevent: arrival\ndata: ")
    assert [(event.event, event.id, event.data) for event in client.events] == [
        ("arrival", "1", '{"name":"Alma","cargo":"grain"}'),
        ("arrival", "2", '{"name":"Bente","cargo":null}'),
        ("message", "2", "two lines\nof the log"),
    ]
    assert client.body.count(b"retry: 4000\n") == 2


async def test_data_is_json_and_raw_data_is_not() -> None:
    async def endpoint() -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent(data="all hands")
        yield ServerSentEvent(raw_data="all hands")

    assert (await fetch(app_of(endpoint))).body == b'data: "all hands"\n\ndata: all hands\n\n'


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event": "a\nb"}, "SSE 'event' must be a single line"),
        ({"id": "a\rb"}, "SSE 'id' must be a single line"),
        ({"id": "a\0b"}, "null"),
        ({"retry": -1}, "retry"),
        ({"retry": 1.5}, "retry"),
        ({"data": 1, "raw_data": "1"}, "Cannot set both 'data' and 'raw_data'"),
    ],
)
async def test_a_field_that_the_format_can_not_hold_is_an_error_and_not_on_the_wire(fields: Any, message: str) -> None:
    async def endpoint() -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent(data="before")
        yield ServerSentEvent(**fields)

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(ValueError, match=message):
            await client.end()
    assert client.body == b'data: "before"\n\n'


async def test_what_json_can_not_carry_is_an_error_that_names_the_field() -> None:
    async def endpoint():
        yield {"before": 1}
        yield {"half": "written", "lock": object()}

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(ItemError, match="'data'"):
            await client.end()
    assert client.body == b'data: {"before":1}\n\n'


# -- routes -----------------------------------------------------------------------------------------------------------


async def test_included_routers_nested_and_with_prefixes() -> None:
    inner = APIRouter(prefix="/fleet")
    inner.get("/ships", response_class=EventSourceResponse)(fleet_async)
    inner.get("/ships-sync", response_class=EventSourceResponse)(fleet_sync)
    outer = APIRouter(prefix="/harbour")
    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, prefix="/v1")
    for path in ("/v1/harbour/fleet/ships", "/v1/harbour/fleet/ships-sync"):
        assert (await fetch(app, path)).body == FLEET_ON_THE_WIRE


async def test_a_router_whose_default_response_class_is_ours() -> None:
    router = APIRouter(default_response_class=EventSourceResponse)
    router.get("/ships")(fleet_async)
    app = FastAPI()
    app.include_router(router)
    client = await fetch(app, "/ships")
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.body == FLEET_ON_THE_WIRE


async def test_an_item_that_does_not_fit_is_found_on_an_included_router_too() -> None:
    async def endpoint() -> AsyncIterable[Ship]:
        yield {"title": "not a ship"}

    router = APIRouter(prefix="/inner")
    router.get("/", response_class=EventSourceResponse)(endpoint)
    app = FastAPI()
    app.include_router(router, prefix="/outer")
    async with Connection(app, "/outer/inner/") as client:
        with pytest.raises(ItemError):
            await client.end()
    assert client.status == 500
    assert b"title" not in client.body


async def test_the_dependencies_of_a_router_run_before_the_stream() -> None:
    async def pilot(pilot: Annotated[str | None, Header()] = None) -> None:
        if pilot is None:
            raise HTTPException(401, "no pilot on board")

    router = APIRouter(dependencies=[Depends(pilot)])
    router.get("/ships", response_class=EventSourceResponse)(fleet_async)
    app = FastAPI()
    app.include_router(router)
    refused = await fetch(app, "/ships")
    assert (refused.status, json.loads(refused.body)) == (401, {"detail": "no pilot on board"})
    assert (await fetch(app, "/ships", headers={"pilot": "Hein"})).body == FLEET_ON_THE_WIRE


async def test_a_mounted_application() -> None:
    app = FastAPI()
    app.mount("/harbour", app_of(fleet_async))
    assert (await fetch(app, "/harbour/")).body == FLEET_ON_THE_WIRE


async def test_resuming_after_the_last_event_id() -> None:
    async def endpoint(last_event_id: Annotated[int | None, Header()] = None) -> AsyncIterable[ServerSentEvent]:
        first = 0 if last_event_id is None else last_event_id + 1
        for number in range(first, 4):
            yield ServerSentEvent(data=f"wave {number}", id=str(number))

    app = app_of(endpoint)
    assert [event.id for event in (await fetch(app)).events] == ["0", "1", "2", "3"]
    resumed = await fetch(app, headers={"Last-Event-ID": "1"})
    assert [event.id for event in resumed.events] == ["2", "3"]


async def test_a_last_event_id_that_is_no_number_is_a_422_that_names_the_header() -> None:
    async def endpoint(
        last_event_id: Annotated[int | None, Header(alias="Last-Event-ID")] = None,
    ) -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent(data=last_event_id)

    refused = await fetch(app_of(endpoint), headers={"Last-Event-ID": "north"})
    assert refused.status == 422
    assert refused.headers["content-type"] == "application/json"
    assert json.loads(refused.body)["detail"][0]["loc"] == ["header", "Last-Event-ID"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method(method: str) -> None:
    assert (await fetch(app_of(fleet_async, method), method=method)).body == FLEET_ON_THE_WIRE


async def test_a_body_that_is_answered_word_by_word() -> None:
    class Order(BaseModel):
        text: str

    async def endpoint(order: Order) -> AsyncIterable[ServerSentEvent]:
        for word in order.text.split():
            await asyncio.sleep(0)
            yield ServerSentEvent(data={"word": word}, event="word")
        yield ServerSentEvent(raw_data="[OVER]", event="over")

    app = app_of(endpoint, "POST")
    json_type = {"content-type": "application/json"}
    client = await fetch(app, method="POST", headers=json_type, body=b'{"text": "hoist the sails"}')
    assert [event.data for event in client.events] == [
        '{"word":"hoist"}',
        '{"word":"the"}',
        '{"word":"sails"}',
        "[OVER]",
    ]
    assert client.events[-1].event == "over"
    assert (await fetch(app, method="POST", headers=json_type, body=b"{}")).status == 422


async def test_a_generator_behind_a_decorator_a_partial_and_an_object_that_is_called() -> None:
    def logged(function: Any) -> Any:
        @wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            async for item in function(*args, **kwargs):
                yield item

        return wrapper

    async def depths(fathoms: int = 1, suffix: str = "m") -> AsyncIterable[dict[str, int]]:
        yield {suffix: str(fathoms)}

    class Sounder:
        async def __call__(self, fathoms: int = 2) -> AsyncIterable[dict[str, int]]:
            yield {"m": str(fathoms)}

    class SyncSounder:
        def __call__(self) -> Iterable[dict[str, int]]:
            yield {"m": "8"}

    # Each turns the text into a number: the annotation was found.
    assert (await fetch(app_of(logged(depths)))).body == b'data: {"m":1}\n\n'
    assert (await fetch(app_of(partial(depths, suffix="ft")))).body == b'data: {"ft":1}\n\n'
    assert (await fetch(app_of(Sounder()), "/?fathoms=3")).body == b'data: {"m":3}\n\n'
    assert (await fetch(app_of(SyncSounder()))).body == b'data: {"m":8}\n\n'


async def test_an_endpoint_that_is_a_method() -> None:
    class Harbour:
        async def ships(self) -> AsyncIterable[Ship]:
            for ship in FLEET:
                yield ship

    assert (await fetch(app_of(Harbour().ships))).body == FLEET_ON_THE_WIRE


async def test_an_endpoint_with_our_class_that_does_not_yield_is_told_to() -> None:
    async def endpoint() -> dict[str, int]:
        return {"forgot": 1}

    async with Connection(app_of(endpoint, response_model=None)) as client:
        with pytest.raises(TypeError, match="not a stream of items"):
            await client.end()
    assert client.status == 500


# -- what the decorator and dependencies say --------------------------------------------------------------------------


async def test_options_of_the_decorator_that_concern_serialization_are_honoured() -> None:
    class Berth(BaseModel):
        number: int
        depth: float | None = None
        length: float = Field(default=90.0, alias="lengthOverAll")

    async def endpoint() -> AsyncIterable[Berth]:
        yield Berth(number=1)

    async def body(**options: Any) -> str:
        return (await fetch(app_of(endpoint, **options))).body.decode().removeprefix("data: ").rstrip()

    assert await body() == '{"number":1,"depth":null,"lengthOverAll":90.0}'
    assert await body(response_model_exclude_none=True) == '{"number":1,"lengthOverAll":90.0}'
    assert await body(response_model_by_alias=False) == '{"number":1,"depth":null,"length":90.0}'
    assert await body(response_model_exclude_defaults=True) == '{"number":1}'
    assert await body(response_model_exclude_unset=True) == '{"number":1}'
    assert await body(response_model_include={"number"}) == '{"number":1}'
    assert await body(response_model_exclude={"length"}) == '{"number":1,"depth":null}'


async def test_the_status_code_of_the_decorator() -> None:
    client = await fetch(app_of(fleet_async, "POST", status_code=201), method="POST")
    assert (client.status, client.body) == (201, FLEET_ON_THE_WIRE)


async def test_headers_that_a_dependency_sets_replace_ours_and_are_never_doubled() -> None:
    def voyage(response: Response) -> None:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Voyage"] = "12"
        response.set_cookie("berth", "7")
        response.set_cookie("quay", "north")

    client = await fetch(app_of(fleet_async, dependencies=[Depends(voyage)]))
    names = [name for name, _ in client.header_list]
    assert client.headers["cache-control"] == "no-store"
    assert names.count("cache-control") == names.count("x-accel-buffering") == names.count("content-type") == 1
    assert client.headers["x-voyage"] == "12"
    assert names.count("set-cookie") == 2


async def test_a_status_that_a_dependency_sets() -> None:
    def accepted(response: Response) -> None:
        response.status_code = 202

    assert (await fetch(app_of(fleet_async, dependencies=[Depends(accepted)]))).status == 202


async def test_a_background_task_runs_after_the_stream() -> None:
    notes: list[str] = []

    async def endpoint(background: BackgroundTasks) -> AsyncIterable[str]:
        background.add_task(notes.append, "logbook written")
        yield "last entry"
        notes.append("stream ended")

    client = await fetch(app_of(endpoint))
    assert client.complete
    assert notes == ["stream ended", "logbook written"]


async def test_a_subclass_configures_all_of_its_streams() -> None:
    class Brief(EventSourceResponse):
        max_events = 2
        retry = 700

    async def endpoint():
        while True:
            yield "gull"

    client = await fetch(app_of(endpoint, response_class=Brief))
    assert client.body == b'retry: 700\n\ndata: "gull"\n\ndata: "gull"\n\n'
    assert client.complete


async def test_returned_from_an_endpoint_that_does_not_yield() -> None:
    app = FastAPI()

    async def catches() -> AsyncIterator[Any]:
        yield "herring"
        yield Ship(name="Ida")

    @app.get("/async", response_class=EventSourceResponse)
    async def from_async(name: str = "") -> EventSourceResponse:
        return EventSourceResponse(catches(), status_code=203, headers={"X-Catch": name or "none"}, max_events=1)

    @app.get("/sync")
    def from_sync() -> StarletteResponse:
        return EventSourceResponse(iter(["cod", "plaice"]))

    client = await fetch(app, "/async?name=monday")
    assert (client.status, client.headers["x-catch"], client.body) == (203, "monday", b'data: "herring"\n\n')
    assert (await fetch(app, "/sync")).body == b'data: "cod"\n\ndata: "plaice"\n\n'
