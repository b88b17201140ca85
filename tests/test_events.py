import asyncio
import functools
import math
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NewType, Optional, Self, TypeVar, Union

import pytest
from aiostream import stream
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from typing_extensions import TypeAliasType, TypedDict  # Pydantic takes typing's TypedDict from Python 3.12 on

from tidings import Event, ServerSentEvent, with_ids
from tidings.errors import ItemError
from tidings.events import StreamItems, has_data
from tidings.wire import encode

X = TypeVar("X")


class Vessel(BaseModel):
    name: str
    tonnage: int = 0
    call_sign: str | None = Field(default=None, serialization_alias="callSign")


class Arrived(Event[Vessel]):
    pass


class Left(Event[Vessel]):
    pass


class Tide(Event[float], name="tide-level"):
    pass


class Update(Event[list[X]], Generic[X]):
    pass


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("Echo", "echo"),
        ("ReverseEcho", "reverse_echo"),
        ("HTTPError", "http_error"),
        ("HTTP", "http"),
        ("ParseHTTPHeader", "parse_http_header"),
        ("TickV2", "tick_v2"),
        ("Tick2Tock", "tick2_tock"),
        ("already_snake", "already_snake"),
        ("lower", "lower"),
        ("A", "a"),
        ("AB", "ab"),
        ("ABCd", "ab_cd"),
        ("_Private", "_private"),
    ],
)
def test_an_event_goes_by_its_class_name_in_snake_case(class_name: str, name: str):
    made = types.new_class(class_name, (Event[int],))

    assert made.event_name == name
    assert StreamItems().encoder()(made.create(1)) == f"event: {name}\ndata: 1\n\n".encode()


def test_a_name_may_be_given():
    assert Tide.event_name == "tide-level"
    assert StreamItems().encoder()(Tide.create(1.5)) == b"event: tide-level\ndata: 1.5\n\n"


def test_a_subclass_of_a_named_event_goes_by_its_own_name():
    class SpringTide(Tide):
        pass

    class NeapTide(Tide, name="neap"):
        pass

    assert (SpringTide.event_name, NeapTide.event_name, Tide.event_name) == ("spring_tide", "neap", "tide-level")


def test_a_name_may_hold_anything_but_a_line_break():
    class Odd(Event[int], name="é: b\u2028"):
        pass

    assert StreamItems().encoder()(Odd.create(1)) == "event: é: b\u2028\ndata: 1\n\n".encode()


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\r\n"], ids=repr)
def test_a_line_break_in_a_name_is_refused(name: str):
    with pytest.raises(ValueError, match="SSE 'event' must be a single line"):
        types.new_class("Broken", (Event[int],), {"name": name})


def test_a_name_that_is_empty_is_refused():
    with pytest.raises(ValueError, match="the name of Nameless must not be empty"):
        types.new_class("Nameless", (Event[int],), {"name": ""})


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="SSE 'event' must be a str, not int"):
        types.new_class("Numbered", (Event[int],), {"name": 5})


# -- building ---------------------------------------------------------------------------------------------------------


def test_an_event_is_built_around_its_payload():
    event = Arrived.create(Vessel(name="Ada"), id="a1", retry=100)

    assert event.data == Vessel(name="Ada")
    assert (event.id, event.retry) == ("a1", 100)
    assert event == Arrived(data=Vessel(name="Ada"), id="a1", retry=100)
    assert type(event) is Arrived


def test_an_event_has_neither_id_nor_retry_by_default():
    event = Tide.create(0.5)

    assert (event.id, event.retry) == (None, None)


def test_the_payload_is_validated():
    assert Arrived.create({"name": "Ada", "tonnage": "12"}).data == Vessel(name="Ada", tonnage=12)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="tonnage"):
        Arrived.create({"name": "Ada", "tonnage": "heavy"})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="data"):
        Arrived()


@pytest.mark.parametrize("kind", [Event, Event[int], Event[list[X]]], ids=str)
@pytest.mark.parametrize(
    "build",
    [
        lambda kind: kind(data=1),
        lambda kind: kind.create(1),
        lambda kind: kind.model_validate({"data": 1}),
        lambda kind: TypeAdapter(kind).validate_python({"data": 1}),
    ],
    ids=["by its class", "by create", "by model_validate", "by an adapter"],
)
def test_an_event_that_is_not_subclassed_can_not_be_built(kind: Any, build: Callable[[Any], Any]):
    with pytest.raises(TypeError, match="has no name: subclass it"):
        build(kind)


def test_an_event_can_not_be_changed():
    event = Tide.create(0.5)

    with pytest.raises(ValidationError, match="frozen"):
        event.id = "1"


@pytest.mark.parametrize("id", ["a\nb", "a\r", "\r\n", "a\0", "\0"], ids=repr)
def test_an_id_that_the_format_has_no_room_for_is_refused(id: str):
    with pytest.raises(ValidationError, match="SSE 'id' must"):
        Tide.create(0.5, id=id)


@pytest.mark.parametrize("id", [1.5, True, b"1"], ids=repr)
def test_an_id_of_another_type_is_refused(id: Any):
    with pytest.raises((TypeError, ValueError), match="SSE 'id' must be a str or an int"):
        Tide.create(0.5, id=id)


@pytest.mark.parametrize("retry", [-1, 1.0, 2.5, "100", True], ids=repr)
def test_a_retry_that_is_no_whole_number_of_milliseconds_is_refused(retry: Any):
    with pytest.raises(ValidationError, match="SSE 'retry' must be a non-negative integer"):
        Tide.create(0.5, retry=retry)


def test_an_int_is_taken_as_the_text_of_an_id():
    assert Tide.create(0.5, id=0).id == "0"
    assert Tide(data=0.5, id=12).id == "12"  # type: ignore[arg-type]


def test_an_id_may_be_empty_and_a_retry_zero():
    assert StreamItems().encoder()(Tide.create(1, id="", retry=0)) == (
        b"event: tide-level\ndata: 1.0\nid: \nretry: 0\n\n"
    )


def test_a_generic_event_keeps_its_name_with_every_argument():
    assert Update.event_name == Update[int].event_name == Update[str].event_name == "update"
    assert Update[int].create(["1", 2]).data == [1, 2]  # type: ignore[list-item]
    with pytest.raises(ValidationError):
        Update[int].create(["one"])  # type: ignore[list-item]


def test_a_generic_event_may_be_given_a_name():
    class Batch(Event[list[X]], Generic[X], name="batch-v2"):
        pass

    assert Batch[int].event_name == "batch-v2"


def test_a_subclass_of_a_generic_event_has_its_own_name():
    class Soundings(Update[float]):
        pass

    assert Soundings.event_name == "soundings"
    assert Soundings.create([1]).data == [1.0]


def test_the_payload_may_be_of_any_type():
    class Mixed(Event[int | Vessel | None]):
        pass

    assert Mixed.create(None).data is None
    assert StreamItems().encoder()(Mixed.create(None)) == b"event: mixed\ndata: null\n\n"
    assert StreamItems().encoder()(Mixed.create(Vessel(name="Ada"))).startswith(b'event: mixed\ndata: {"name":"Ada"')


def test_the_payload_of_an_event_is_parsed_by_its_adapter():
    assert Arrived.payload_adapter().validate_json('{"name": "Ada"}') == Vessel(name="Ada")
    assert Update[int].payload_adapter().validate_json("[1]") == [1]
    assert Arrived.payload_adapter() is Arrived.payload_adapter()


def test_a_subclass_has_a_payload_adapter_of_its_own():
    class Ferry(Vessel):
        seats: int

    class FerryArrived(Arrived):
        data: Ferry

    assert Arrived.payload_adapter().validate_python({"name": "Ada"}) == Vessel(name="Ada")
    with pytest.raises(ValidationError, match="seats"):
        FerryArrived.payload_adapter().validate_python({"name": "Ada"})


def test_the_payload_keeps_what_its_field_says():
    class Depth(Event[float]):
        data: Annotated[float, Field(ge=0), PlainSerializer(lambda metres: f"{metres} m")]

    with pytest.raises(ValidationError):
        Depth.create(-1)
    assert StreamItems().encoder()(Depth.create(2)) == b'event: depth\ndata: "2.0 m"\n\n'


# -- annotations ------------------------------------------------------------------------------------------------------

ANYTHING = StreamItems()


def plain(item: Any) -> StreamItems:
    return StreamItems(plain=item, anything=False)


def events(*kinds: Any, plain: Any = None) -> StreamItems:
    return StreamItems(events=kinds, plain=plain, anything=False)


Movement = TypeAliasType("Movement", Arrived | Left)
Counts = TypeAliasType("Counts", list[int])
Items = TypeAliasType("Items", AsyncIterable[Arrived])
Metres = NewType("Metres", float)


@pytest.mark.parametrize(
    ("annotation", "items"),
    [
        # Every kind of stream.
        (AsyncIterable[Vessel], plain(Vessel)),
        (AsyncIterator[Vessel], plain(Vessel)),
        (AsyncGenerator[Vessel, None], plain(Vessel)),
        (AsyncGenerator[Vessel, str], plain(Vessel)),
        (Iterable[Vessel], plain(Vessel)),
        (Iterator[Vessel], plain(Vessel)),
        (Generator[Vessel, None, None], plain(Vessel)),
        (Generator[Vessel, str, int], plain(Vessel)),
        (typing.AsyncIterable[Vessel], plain(Vessel)),
        (typing.AsyncIterator[Vessel], plain(Vessel)),
        (typing.AsyncGenerator[Vessel, None], plain(Vessel)),
        (typing.Iterable[Vessel], plain(Vessel)),
        (typing.Iterator[Vessel], plain(Vessel)),
        (typing.Generator[Vessel, None, None], plain(Vessel)),
        (Annotated[AsyncIterable[Vessel], "as they come"], plain(Vessel)),
        (Items, events(Arrived)),
        # Plain items.
        (AsyncIterable[int], plain(int)),
        (AsyncIterable[dict[str, list[int]]], plain(dict[str, list[int]])),
        (AsyncIterable[int | str], plain(int | str)),
        (AsyncIterable[Union[int, str]], plain(Union[int, str])),  # noqa: UP007
        (AsyncIterable[Optional[Vessel]], plain(Optional[Vessel])),  # noqa: UP045
        (AsyncIterable[None], plain(types.NoneType)),
        (AsyncIterable[Annotated[int, "positive"]], plain(Annotated[int, "positive"])),
        (AsyncIterable[Literal["a", "b"]], plain(Literal["a", "b"])),
        (AsyncIterable[object], plain(object)),
        (AsyncIterable[Metres], plain(Metres)),
        (AsyncIterable[Counts], plain(Counts)),
        (AsyncIterable[list[Arrived]], plain(list[Arrived])),
        (AsyncIterable[type[Arrived]], plain(type[Arrived])),
        # Typed events.
        (AsyncIterable[Arrived], events(Arrived)),
        (AsyncIterable[Arrived | Left], events(Arrived, Left)),
        (AsyncIterable[Left | Arrived], events(Left, Arrived)),
        (AsyncIterable[Union[Arrived, Left]], events(Arrived, Left)),  # noqa: UP007
        (AsyncIterable[Union[Arrived, Union[Left, Tide]]], events(Arrived, Left, Tide)),  # noqa: UP007
        (AsyncIterable[Annotated[Arrived | Left, "moves"] | Tide], events(Arrived, Left, Tide)),
        (AsyncIterable[Annotated[Arrived, "a move"]], events(Arrived)),
        (AsyncIterable[Annotated[Arrived, "a move"] | Left], events(Arrived, Left)),
        (AsyncIterable[Movement], events(Arrived, Left)),
        (AsyncIterable[Movement | Tide], events(Arrived, Left, Tide)),
        (AsyncIterable[Annotated[Movement, "moves"]], events(Arrived, Left)),
        (AsyncIterable[Update[int]], events(Update[int])),
        (AsyncIterable[Update[int] | Update[str]], events(Update[int], Update[str])),
        # Both.
        (AsyncIterable[Arrived | int], events(Arrived, plain=int)),
        (AsyncIterable[int | Arrived | None], events(Arrived, plain=Optional[int])),  # noqa: UP045
        (AsyncIterable[Arrived | Annotated[int, "few"]], events(Arrived, plain=Annotated[int, "few"])),
        (AsyncIterable[Arrived | Counts], events(Arrived, plain=Counts)),
        # A ServerSentEvent passes in every stream, so it says nothing of the others.
        (AsyncIterable[ServerSentEvent | int], plain(int)),
        (AsyncIterable[ServerSentEvent | Arrived], events(Arrived)),
        (AsyncIterable[ServerSentEvent | Arrived | int], events(Arrived, plain=int)),
        # Anything.
        (None, ANYTHING),
        (AsyncIterable[ServerSentEvent], ANYTHING),
        (Iterator[ServerSentEvent], ANYTHING),
        (AsyncIterable[Annotated[ServerSentEvent, "raw"]], ANYTHING),
        (AsyncIterable[Any], StreamItems(plain=Any)),
        (AsyncIterable[Annotated[Any, "what comes"]], StreamItems(plain=Any)),
        (AsyncIterable[Arrived | Any], ANYTHING),
        (AsyncIterable[X], ANYTHING),  # type: ignore[valid-type]
        (AsyncIterable[X | int], ANYTHING),  # type: ignore[valid-type]
        (AsyncIterable, ANYTHING),
        (typing.AsyncIterable, ANYTHING),
        (typing.Iterator, ANYTHING),
        (Any, ANYTHING),
        (int, ANYTHING),
        (Vessel, ANYTHING),
        (list[Vessel], ANYTHING),
        (AsyncIterable[int] | None, ANYTHING),
    ],
    ids=lambda value: "" if isinstance(value, StreamItems) else str(value),
)
def test_an_annotation_says_what_a_stream_carries(annotation: Any, items: StreamItems):
    def endpoint() -> annotation: ...

    assert StreamItems.of_annotation(annotation) == items
    assert StreamItems.of(endpoint) == items


@pytest.mark.parametrize("item", [Event, Event[int], Arrived | Event[int], Annotated[Event[int], "odd"]], ids=str)
def test_an_event_without_a_name_can_not_be_carried(item: Any):
    with pytest.raises(TypeError, match=r"a stream can't carry Event(\[int\])?: subclass it"):
        StreamItems.of_annotation(AsyncIterable[item])


def test_an_endpoint_without_annotation_carries_anything():
    def endpoint(): ...

    assert StreamItems.of(endpoint) == ANYTHING
    assert StreamItems.of(lambda: None) == ANYTHING


def test_an_annotation_may_be_a_string():
    def endpoint() -> "AsyncIterable[Arrived | Left]": ...

    assert StreamItems.of(endpoint) == events(Arrived, Left)


def test_an_annotation_may_have_a_string_inside():
    def endpoint() -> AsyncIterable["Arrived | Left"]: ...

    def old_style() -> typing.AsyncIterable["Arrived"]: ...

    def in_a_union() -> AsyncIterable[Union["Arrived", "Left"]]: ...

    assert StreamItems.of(endpoint) == events(Arrived, Left)
    assert StreamItems.of(old_style) == events(Arrived)
    assert StreamItems.of(in_a_union) == events(Arrived, Left)


POSTPONED = """
from __future__ import annotations
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Annotated
from tests.test_events import Arrived, Left, Vessel
if TYPE_CHECKING:
    from nowhere import Session

async def moves(session: Session) -> AsyncIterable[Arrived | Left]:
    yield

async def vessels() -> AsyncIterable[Annotated[Vessel, "all"]]:
    yield

async def nothing():
    yield

async def lost(session: Session) -> AsyncIterable[Session]:
    yield
"""


def postponed() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(POSTPONED.replace("tests.test_events", __name__), namespace)
    return namespace


def test_annotations_may_be_postponed():
    module = postponed()

    assert StreamItems.of(module["vessels"]) == plain(Annotated[Vessel, "all"])
    assert StreamItems.of(module["nothing"]) == ANYTHING


def test_parameters_may_name_what_exists_for_type_checkers_alone():
    assert StreamItems.of(postponed()["moves"]) == events(Arrived, Left)


def test_a_return_annotation_that_can_not_be_found_is_a_name_error():
    with pytest.raises(NameError, match="Session"):
        StreamItems.of(postponed()["lost"])


def arrivals() -> AsyncIterable[Arrived]: ...


def arrivals_by_string() -> "AsyncIterable[Arrived]": ...


def logged(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(endpoint)
    def wrapper(*args: Any) -> Any:
        return endpoint(*args)

    return wrapper


class Endpoint:
    def __call__(self) -> "AsyncIterable[Arrived]": ...

    def method(self) -> "AsyncIterable[Arrived]": ...

    @classmethod
    def of_the_class(cls) -> "AsyncIterable[Arrived]": ...

    @staticmethod
    def of_none() -> "AsyncIterable[Arrived]": ...

    @logged
    def wrapped(self) -> "AsyncIterable[Arrived]": ...


@dataclass
class EndpointWithFields:
    harbour: str

    def __call__(self) -> AsyncIterable[Arrived]: ...


@pytest.mark.parametrize(
    "endpoint",
    [
        functools.partial(arrivals),
        functools.partial(functools.partial(arrivals_by_string, 1), 2),
        logged(arrivals),
        logged(logged(arrivals_by_string)),
        functools.partial(logged(arrivals)),
        logged(functools.partial(arrivals)),
        functools.update_wrapper(functools.partial(arrivals), arrivals),
        functools.cache(arrivals),
        Endpoint(),
        functools.partial(Endpoint()),
        Endpoint().method,
        Endpoint().of_the_class,
        Endpoint().of_none,
        Endpoint().wrapped,
        EndpointWithFields("north"),
    ],
    ids=lambda endpoint: type(endpoint).__name__,
)
def test_the_annotation_is_found_behind_wrappers_and_objects(endpoint: Callable[..., Any]):
    assert StreamItems.of(endpoint) == events(Arrived)


# -- encoding plain items ---------------------------------------------------------------------------------------------


@dataclass
class Buoy:
    number: int
    light: str | None = None


class Sounding(TypedDict):
    depth: float


class Weather(Enum):
    CALM = "calm"


class ByAttributes(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    number: int


class VesselInside(BaseModel):
    vessel: Vessel


class Row:
    """As an ORM's row: attributes, no mapping."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __repr__(self) -> str:
        return f"Row({self.__dict__})"


def encoder_of(item: Any, **dump: Any) -> Callable[[Any], bytes]:
    return StreamItems.of_annotation(AsyncIterable[item]).encoder(dump)


@pytest.mark.parametrize(
    ("item_type", "item", "data"),
    [
        (int, 5, "5"),
        (int, "5", "5"),
        (str, "ahoy", '"ahoy"'),
        (str, "", '""'),
        (str, "a\nb\u2028", '"a\\nb\u2028"'),
        (bool, False, "false"),
        (float, math.nan, "null"),
        (list[float], [math.inf, 1], "[null,1.0]"),
        (None, None, "null"),
        (int | None, None, "null"),
        (object, {"a": 1}, '{"a":1}'),
        (bytes, b"abc", '"abc"'),
        (Decimal, Decimal("1.10"), '"1.10"'),
        (datetime, datetime(2024, 2, 29, tzinfo=UTC), '"2024-02-29T00:00:00Z"'),
        (Weather, Weather.CALM, '"calm"'),
        (Weather, "calm", '"calm"'),
        (Literal["a"], "a", '"a"'),
        (Metres, 2, "2.0"),
        (Counts, ["1"], "[1]"),
        (list[X], [1, "a"], '[1,"a"]'),
        (dict[str, int], {"a": "1"}, '{"a":1}'),
        (tuple[int, str], [1, "a"], '[1,"a"]'),
        (Sounding, {"depth": 1}, '{"depth":1.0}'),
        (Buoy, Buoy(4), '{"number":4,"light":null}'),
        (Buoy, {"number": "4"}, '{"number":4,"light":null}'),
        (Vessel, Vessel(name="Ada"), '{"name":"Ada","tonnage":0,"callSign":null}'),
        (Vessel, {"name": "Ada", "unknown": 1}, '{"name":"Ada","tonnage":0,"callSign":null}'),
        (Vessel, Row(name="Ada", tonnage=2, call_sign="X"), '{"name":"Ada","tonnage":2,"callSign":"X"}'),
        (ByAttributes, Row(number=4), '{"number":4}'),
        (VesselInside, Row(vessel=Row(name="Ada")), '{"vessel":{"name":"Ada","tonnage":0,"callSign":null}}'),
        (Annotated[int, PlainSerializer(hex)], 255, '"0xff"'),
        (int | Vessel, {"name": "Ada"}, '{"name":"Ada","tonnage":0,"callSign":null}'),
    ],
    ids=repr,
)
def test_a_plain_item_is_validated_and_serialized_by_its_annotation(item_type: Any, item: Any, data: str):
    assert encoder_of(item_type)(item) == f"data: {data}\n\n".encode()


def test_a_field_that_the_annotation_does_not_have_is_not_sent():
    class VesselWithSecret(Vessel):
        secret: str = "treasure"

    block = encoder_of(Vessel)(VesselWithSecret(name="Ada"))

    assert block == b'data: {"name":"Ada","tonnage":0,"callSign":null}\n\n'


@pytest.mark.parametrize(
    ("dump", "data"),
    [
        ({"exclude_none": True}, b'{"name":"Ada","tonnage":0}'),
        ({"exclude_unset": True}, b'{"name":"Ada"}'),
        ({"exclude_defaults": True}, b'{"name":"Ada"}'),
        ({"include": {"name"}}, b'{"name":"Ada"}'),
        ({"exclude": {"name"}}, b'{"tonnage":0,"callSign":null}'),
        ({"by_alias": False}, b'{"name":"Ada","tonnage":0,"call_sign":null}'),
    ],
    ids=str,
)
def test_plain_items_are_dumped_as_told(dump: dict[str, Any], data: bytes):
    assert encoder_of(Vessel, **dump)(Vessel(name="Ada")) == b"data: " + data + b"\n\n"


@pytest.mark.parametrize(
    ("item_type", "item"),
    [
        (int, "five"),
        (int, None),
        (Vessel, {"tonnage": 1}),
        (Vessel, "Ada"),
        (Vessel, Row(tonnage=1)),
        (Vessel, 5),
        (Buoy, {"light": "red"}),
        (Sounding, {}),
        (Weather, "storm"),
        (Annotated[int, Field(gt=0)], 0),
        (int | Vessel, []),
    ],
    ids=repr,
)
def test_an_item_that_does_not_fit_is_an_error_that_names_the_annotation(item_type: Any, item: Any):
    with pytest.raises(ItemError, match="an item doesn't fit the stream's annotation") as caught:
        encoder_of(item_type)(item)

    assert isinstance(caught.value.__cause__, ValidationError)


@pytest.mark.parametrize(
    ("item_type", "item"),
    [(str, "\ud800"), (object, object()), (bytes, b"\xff"), (Vessel, Vessel.model_construct(name=object()))],
    ids=["a lone surrogate", "an object", "bytes that are no UTF-8", "a model built without validation"],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_an_item_that_json_can_not_carry_is_an_error(item_type: Any, item: Any):
    with pytest.raises(ItemError):
        encoder_of(item_type)(item)


class Trusting(BaseModel):
    number: int


class Revalidating(Trusting, revalidate_instances="always"):
    pass


class RevalidatingSubclasses(Trusting, revalidate_instances="subclass-instances"):
    pass


class Deferred(Trusting, defer_build=True):
    pass


class Positive(Trusting):
    @model_validator(mode="after")
    def check(self) -> Self:
        if not isinstance(self.number, int):
            raise ValueError("it was changed")
        return self


class Checked(Trusting):
    @model_validator(mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        if isinstance(value, Trusting) and not isinstance(value.number, int):
            raise ValueError("it was changed")
        return value


class Tree(Trusting):
    children: list["Tree"] = []


class Wrapped(RootModel[int]):
    pass


class WrappedRevalidating(RootModel[int]):
    model_config = ConfigDict(revalidate_instances="always")


@pytest.mark.parametrize(
    "model",
    [Trusting, Deferred, Revalidating, RevalidatingSubclasses, Positive, Checked, Tree, Wrapped, WrappedRevalidating],
)
@pytest.mark.parametrize("of_subclass", [False, True], ids=["of the model", "of a subclass"])
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_model_that_was_changed_is_sent_if_pydantic_takes_it(model: type[BaseModel], of_subclass: bool):
    fields = dict.fromkeys(model.model_fields, 1) | ({"children": []} if model is Tree else {})
    item = (type("Subclass", (model,), {}) if of_subclass else model).model_construct(**fields)
    item.__dict__[next(iter(fields))] = "no number"
    encode_item = encoder_of(model)
    try:
        valid = TypeAdapter(model).validate_python(item)
    except ValidationError:
        with pytest.raises(ItemError, match="an item doesn't fit the stream's annotation"):
            encode_item(item)
    else:
        assert encode_item(item) == b"data: " + TypeAdapter(model).dump_json(valid) + b"\n\n"


def test_validators_of_a_model_see_each_item():
    seen: list[Any] = []

    class Watched(Trusting):
        @model_validator(mode="after")
        def watch(self) -> Self:
            seen.append(self)
            return self

    item = Watched(number=1)
    seen.clear()
    encoder_of(Watched)(item)
    assert seen == [item]


def test_an_item_type_that_pydantic_does_not_know_is_a_type_error():
    with pytest.raises(TypeError, match="a stream can't carry Row"):
        encoder_of(Row)


@pytest.mark.parametrize("item_type", [int, Vessel, object, int | None], ids=str)
def test_events_pass_in_a_stream_of_plain_items(item_type: Any):
    encode_item = encoder_of(item_type)

    assert encode_item(ServerSentEvent(raw_data="a", id=1)) == b"data: a\nid: 1\n\n"
    assert encode_item(ServerSentEvent(comment="hi")) == b": hi\n\n"
    assert encode_item(Tide.create(1)) == b"event: tide-level\ndata: 1.0\n\n"


# -- encoding anything ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "block"),
    [
        (None, b"data: null\n\n"),
        ("a\nb", b'data: "a\\nb"\n\n'),
        ({"a": math.nan}, b'data: {"a":null}\n\n'),
        (Buoy(4), b'data: {"number":4,"light":null}\n\n'),
        (Vessel(name="Ada"), b'data: {"name":"Ada","tonnage":0,"callSign":null}\n\n'),
        ([Vessel(name="Ada")], b'data: [{"name":"Ada","tonnage":0,"callSign":null}]\n\n'),
        (ServerSentEvent(data="a", event="b"), b'event: b\ndata: "a"\n\n'),
        (ServerSentEvent(comment="a"), b": a\n\n"),
        (ServerSentEvent(), b"\n"),
        (Tide.create(math.inf), b"event: tide-level\ndata: null\n\n"),
        (Tide.create(1, id=7, retry=9), b"event: tide-level\ndata: 1.0\nid: 7\nretry: 9\n\n"),
        (Tide.create(1, retry=9), b"event: tide-level\ndata: 1.0\nretry: 9\n\n"),
        (
            Arrived.create(Vessel(name="Ada"), id="é"),
            'event: arrived\ndata: {"name":"Ada","tonnage":0,"callSign":null}\nid: é\n\n'.encode(),
        ),
        (Update[int].create([1, 2]), b"event: update\ndata: [1,2]\n\n"),
    ],
    ids=repr,
)
def test_anything_goes_out_without_an_annotation(item: Any, block: bytes):
    assert ANYTHING.encoder()(item) == block
    assert encoder_of(ServerSentEvent)(item) == block


def test_items_of_any_number_of_types_go_out():
    encode_item = ANYTHING.encoder()

    for number in range(1_200):
        kind = type(f"Text{number}", (str,), {})
        assert encode_item(kind(number)) == f'data: "{number}"\n\n'.encode()
    assert encode_item(Tide.create(1)) == b"event: tide-level\ndata: 1.0\n\n"


def test_what_json_can_not_carry_is_an_error_without_an_annotation_too():
    with pytest.raises(ItemError, match="SSE 'data' can't be encoded as JSON"):
        ANYTHING.encoder()(object())


# -- encoding typed events --------------------------------------------------------------------------------------------


def test_the_events_of_an_annotation_pass():
    encode_item = encoder_of(Arrived | Tide)

    assert encode_item(Tide.create(1)) == b"event: tide-level\ndata: 1.0\n\n"
    assert encode_item(Arrived.create(Vessel(name="Ada"), id=1)).startswith(b"event: arrived\ndata: {")


def test_a_subclass_of_an_event_passes_under_its_own_name():
    class SpringTide(Tide):
        pass

    assert encoder_of(Tide)(SpringTide.create(1)) == b"event: spring_tide\ndata: 1.0\n\n"


def test_a_server_sent_event_passes_in_a_stream_of_typed_events():
    event = ServerSentEvent(raw_data="a", comment="b")

    assert encoder_of(Arrived | Left)(event) == encode(event)


@pytest.mark.parametrize("item", [Tide.create(1), None, {"name": "Ada"}, Vessel(name="Ada"), 5], ids=repr)
def test_another_item_in_a_stream_of_typed_events_is_an_error(item: Any):
    with pytest.raises(ItemError, match=rf"{type(item).__name__} doesn't fit the stream's annotation Arrived \| Left"):
        encoder_of(Arrived | Left)(item)


def test_an_event_of_another_argument_is_an_error():
    encode_item = encoder_of(Update[int])

    assert encode_item(Update[int].create([1])) == b"event: update\ndata: [1]\n\n"
    with pytest.raises(ItemError):
        encode_item(Update[str].create(["a"]))


def test_typed_events_and_plain_items_go_side_by_side():
    encode_item = encoder_of(Arrived | int)

    assert encode_item(Arrived.create(Vessel(name="Ada"))).startswith(b"event: arrived\n")
    assert encode_item("5") == b"data: 5\n\n"
    assert encode_item(ServerSentEvent(event="x")) == b"event: x\n\n"
    with pytest.raises(ItemError, match="annotation int"):
        encode_item("five")
    with pytest.raises(ItemError, match="Tide doesn't fit the stream's annotation"):
        encode_item(Tide.create(1))


def test_a_payload_that_json_can_not_carry_is_an_error():
    class Anything(Event[Any]):
        pass

    with pytest.raises(ItemError, match="SSE 'data' can't be encoded as JSON"):
        encoder_of(Anything)(Anything.create(object()))


def test_an_id_that_utf8_can_not_carry_is_an_error_that_names_it():
    with pytest.raises(ItemError, match="SSE 'id'"):
        encoder_of(Tide)(Tide.create(1, id="\ud800"))


# -- what has data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [None, 0, "", [], Tide.create(0), ServerSentEvent(data=0), ServerSentEvent(data=""), ServerSentEvent(raw_data="")],
    ids=repr,
)
def test_an_item_with_data_is_dispatched(item: Any):
    assert has_data(item)


@pytest.mark.parametrize(
    "item",
    [ServerSentEvent(), ServerSentEvent(comment="a"), ServerSentEvent(id=1), ServerSentEvent(event="a", retry=1)],
    ids=repr,
)
def test_an_event_without_data_is_not_dispatched(item: Any):
    assert not has_data(item)


# -- ids --------------------------------------------------------------------------------------------------------------


class Source:
    """Items, and whether their source was closed."""

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.closed = False

    async def stream(self) -> AsyncGenerator[Any, None]:
        try:
            for item in self.items:
                await asyncio.sleep(0)
                yield item
        finally:
            self.closed = True

    def steps(self) -> Generator[Any, None, None]:
        try:
            yield from self.items
        finally:
            self.closed = True


class AsyncOnly:
    """An async iterator that is no generator: there is nothing to close."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)

    def __aiter__(self) -> "AsyncOnly":
        return self

    async def __anext__(self) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration


def collect(source: AsyncIterable[Any]) -> list[Any]:
    async def run() -> list[Any]:
        return [item async for item in source]

    return asyncio.run(run())


def numbered(*items: Any, start: int = 0) -> list[Any]:
    """What becomes of these items, which is the same for both kinds of source."""
    from_async = collect(with_ids(Source(*items).stream(), start=start))
    from_sync = list(with_ids(Source(*items).steps(), start=start))
    assert from_async == from_sync
    return from_async


def test_plain_items_are_wrapped_and_numbered_from_zero():
    assert numbered("a", {"b": 1}, Vessel(name="Ada")) == [
        ServerSentEvent(data="a", id="0"),
        ServerSentEvent(data={"b": 1}, id="1"),
        ServerSentEvent(data=Vessel(name="Ada"), id="2"),
    ]


def test_numbers_start_where_they_are_told():
    assert [event.id for event in numbered("a", "b", start=41)] == ["41", "42"]


def test_numbers_continue_after_the_last_event_id():
    assert [event.id for event in numbered("a", start=int("7") + 1)] == ["8"]


def test_none_is_null_and_counts():
    first, second = numbered(None, 1)

    assert first == ServerSentEvent(raw_data="null", id="0")
    assert encode(first) == b"data: null\nid: 0\n\n"
    assert second.id == "1"


def test_falsy_items_count():
    assert [event.id for event in numbered(0, "", [], False)] == ["0", "1", "2", "3"]


def test_events_are_copied_with_their_other_fields():
    sent = ServerSentEvent(raw_data="a", event="b", retry=3, comment="c")

    assert numbered(sent) == [ServerSentEvent(raw_data="a", event="b", retry=3, comment="c", id="0")]
    assert sent.id is None


def test_typed_events_are_copied_and_keep_their_class():
    sent = Arrived.create(Vessel(name="Ada"), retry=5)

    [event] = numbered(sent)

    assert type(event) is Arrived
    assert event == Arrived.create(Vessel(name="Ada"), id="0", retry=5)
    assert sent.id is None


def test_events_with_an_id_keep_it_and_leave_the_count_alone():
    items = ["a", ServerSentEvent(data="b", id="own"), Tide.create(1, id="tide"), ServerSentEvent(data="c", id=""), "d"]

    assert [event.id for event in numbered(*items)] == ["0", "own", "tide", "", "1"]


def test_an_event_with_an_id_is_passed_as_it_is():
    sent = ServerSentEvent(data="b", id="own")

    assert numbered(sent)[0] is sent


def test_events_without_data_stay_without_an_id():
    items = [ServerSentEvent(comment="hi"), "a", ServerSentEvent(retry=5), ServerSentEvent(event="x"), "b"]

    assert [event.id for event in numbered(*items)] == [None, "0", None, None, "1"]


def test_nothing_is_numbered_in_an_empty_stream():
    assert numbered() == []


def test_the_source_is_closed_at_its_end():
    source = Source(1)
    assert len(collect(with_ids(source.stream()))) == 1
    assert source.closed

    source = Source(1)
    assert len(list(with_ids(source.steps()))) == 1
    assert source.closed


def test_the_source_is_closed_with_the_stream():
    source = Source(1, 2, 3)

    async def leave_early() -> None:
        async with aclosing(with_ids(source.stream())) as events:
            await anext(events)
            assert not source.closed
        assert source.closed  # before the block was left, not whenever the garbage is collected

    asyncio.run(leave_early())


def test_a_sync_source_is_closed_with_the_stream():
    source = Source(1, 2, 3)
    steps = source.steps()  # referred to from here too, so that it isn't closed as garbage
    events = with_ids(steps)
    next(events)
    assert not source.closed

    events.close()

    assert source.closed


def test_an_error_of_the_source_passes():
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more")

    def failing_sync() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        collect(with_ids(failing()))
    with pytest.raises(LookupError, match="no more"):
        list(with_ids(failing_sync()))


def test_a_source_may_be_any_iterable():
    assert [event.id for event in with_ids(["a", "b"])] == ["0", "1"]
    assert [event.id for event in with_ids(range(2), start=5)] == ["5", "6"]
    assert [event.id for event in with_ids(map(str, (1, 2)))] == ["0", "1"]
    assert [event.id for event in collect(with_ids(AsyncOnly("a", "b")))] == ["0", "1"]


def test_two_streams_number_for_themselves():
    first, second = with_ids(["a", "b"]), with_ids(["c"])

    assert [next(first).id, next(second).id, next(first).id] == ["0", "0", "1"]


def test_merged_streams_of_aiostream_are_numbered():
    first, second = Source("a", "b"), Source("c")

    events = collect(with_ids(stream.merge(first.stream(), second.stream())))

    assert sorted(event.data for event in events) == ["a", "b", "c"]
    assert [event.id for event in events] == ["0", "1", "2"]
    assert first.closed
    assert second.closed


def test_numbered_streams_are_merged_with_their_own_ids():
    async def run() -> list[ServerSentEvent]:
        merged = stream.merge(with_ids(Source("a", "b").stream(), start=10), with_ids(Source("c").stream()))
        async with merged.stream() as events:
            return [event async for event in events]

    events = asyncio.run(run())

    assert sorted((event.data, event.id) for event in events) == [("a", "10"), ("b", "11"), ("c", "0")]


def test_a_stream_of_aiostream_is_closed_with_the_numbered_one():
    source = Source(1, 2, 3)

    async def leave_early() -> None:
        async with aclosing(with_ids(stream.map(source.stream(), str))) as events:
            assert await anext(events) == ServerSentEvent(data="1", id="0")
        assert source.closed

    asyncio.run(leave_early())


async def numbers() -> AsyncIterator[int]:
    yield 1


def numbers_sync() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("source", [numbers, numbers_sync], ids=["async", "sync"])
def test_a_generator_function_that_was_not_called_is_a_type_error(source: Any):
    with pytest.raises(TypeError, match=r"not function: call it, with_ids\(source\(\)\)"):
        with_ids(source)


@pytest.mark.parametrize("source", [5, None, object()], ids=["an int", "None", "an object"])
def test_a_source_that_can_not_be_iterated_is_a_type_error(source: Any):
    with pytest.raises(TypeError, match=r"with_ids\(\) takes an iterable of items, not \w+$"):
        with_ids(source)
