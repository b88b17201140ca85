"""Typed events, and the items of a stream by its annotation: validated, encoded, described.

An endpoint's return annotation says what its stream carries: `AsyncIterable[Quote]` plain items, each the JSON `data`
of an unnamed event; `AsyncIterable[Opened | Closed]` typed events, each with the name of its class; anything, without
one.
"""

from __future__ import annotations

import functools
import inspect
import re
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
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar, overload

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError

from tidings.errors import ItemError
from tidings.wire.encoder import encode, encode_json, unsendable
from tidings.wire.event import ServerSentEvent, check_event, check_id, check_retry
from tidings.wire.frames import Frames

__all__ = ["Event", "ItemEncoder", "StreamItems", "has_data", "item_schema", "payload_types", "with_ids", "yields"]

T = TypeVar("T")

_Encode = Callable[[Any], bytes]
"""An item of a stream to its block of bytes; `ItemError` for one that doesn't fit."""

_CountEvents = Callable[[Any], int]
"""An item of a stream to the number of its events with data."""


class Event(BaseModel, Generic[T]):
    """A server-sent event whose class says its name and the type of its data.

    `class Opened(Event[Ticket])` is sent under the name `opened`: the class name in snake case, or what
    `class Opened(Event[Ticket], name="ticket-opened")` says.

    Attributes:
        event_name: the name on the wire, of each subclass.
        data: the payload, validated, sent as JSON.
        id: what a client that reconnects sends back as `Last-Event-ID`; an int is taken as its decimal text.
        retry: milliseconds that a client waits before it reconnects.

    Raises:
        TypeError: `Event` itself, or `Event[T]`, is built: only a subclass has a name; or `id` is of another type.
        pydantic.ValidationError: (a `ValueError`) `data`, `id` or `retry` doesn't fit.
    """

    model_config = ConfigDict(frozen=True)

    event_name: ClassVar[str]

    data: T
    id: Annotated[str | None, BeforeValidator(check_id)] = None
    retry: Annotated[int | None, BeforeValidator(check_retry)] = None

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if name is not None:
            if not name:
                raise ValueError(f"the name of {cls.__name__} must not be empty: browsers dispatch it as 'message'")
            check_event(name)
            cls.event_name = name
        elif cls.__pydantic_generic_metadata__["origin"] is None:  # Opened[int] goes by the name of Opened
            cls.event_name = _snake_case(cls.__name__)

    def __init__(self, **fields: Any) -> None:
        if not hasattr(type(self), "event_name"):
            raise TypeError(f"{type(self).__name__} has no name: subclass it, as in `class Opened(Event[Ticket])`")
        super().__init__(**fields)

    @classmethod
    def create(cls, payload: T, *, id: str | int | None = None, retry: int | None = None) -> Self:
        """Build an event around its payload."""
        return cls(data=payload, id=id, retry=retry)

    @classmethod
    def payload_adapter(cls) -> TypeAdapter[Any]:
        """Pydantic's adapter for the type of `data`."""
        adapter: TypeAdapter[Any] | None = cls.__dict__.get("_payload_adapter")
        if adapter is None:
            field = cls.model_fields["data"]
            adapter = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
            cls._payload_adapter = adapter
        return adapter

    _payload_adapter: ClassVar[TypeAdapter[Any]]


def _snake_case(name: str) -> str:
    """`ReverseEcho` → `reverse_echo`, `HTTPError` → `http_error`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def has_data(item: Any) -> bool:
    """Whether clients dispatch this item: an event without data only sets fields, or is a comment."""
    return not isinstance(item, ServerSentEvent) or item.data is not None or item.raw_data is not None


# -- what an annotation says ------------------------------------------------------------------------------------------

_IN_EVERY_STREAM = (ServerSentEvent, Frames)
"""What an endpoint may yield whatever its annotation says."""

_STREAMS = (AsyncIterable, AsyncIterator, AsyncGenerator, Iterable, Iterator, Generator)


@dataclass(frozen=True, slots=True)
class StreamItems:
    """The items of a stream.

    Attributes:
        events: the typed events it may carry, in the order of its annotation.
        plain: the type of its plain items; None if it has none, or if its annotation says nothing of them.
        anything: whether items of every kind may be yielded.
    """

    events: tuple[type[Event[Any]], ...] = ()
    plain: Any = None
    anything: bool = True

    @classmethod
    def of(cls, endpoint: Callable[..., Any]) -> StreamItems:
        """What the return annotation of a generator function says.

        Raises:
            NameError: the annotation is a string, and what it names can't be found at run time.
            TypeError: its item type is none that Pydantic knows.
        """
        return cls.of_annotation(_return_annotation(endpoint))

    @classmethod
    def of_annotation(cls, annotation: Any) -> StreamItems:
        """What `AsyncIterable[Item]` and its like say."""
        stream = _bare(annotation)
        arguments = typing.get_args(stream)
        if typing.get_origin(stream) not in _STREAMS or not arguments:
            return cls()
        return cls._of_item(arguments[0])

    @classmethod
    def _of_item(cls, item: Any) -> StreamItems:
        if _bare(item) is Any:
            return cls(plain=Any)  # FastAPI describes it as data of any form, and not as any event
        item = types.NoneType if item is None else item
        members = list(_members(item))
        events = tuple(member for member in members if _is_a(member, Event))
        # What passes in every stream says nothing of the other members.
        plain = [member for member in members if not _is_a(member, (Event, *_IN_EVERY_STREAM))]
        if any(member is Any or isinstance(member, TypeVar) for member in plain) or not (plain or events):
            return cls()
        for event in events:
            if not hasattr(event, "event_name"):
                raise TypeError(f"a stream can't carry {event.__name__}: subclass it, its name is the event's")
        if len(plain) == len(members):
            return cls(plain=item, anything=False)  # as it was written, with its Annotated[…]
        return cls(events=events, plain=typing.Union[tuple(plain)] if plain else None, anything=False)  # noqa: UP007

    def encoder(self, dump: Mapping[str, Any] = types.MappingProxyType({})) -> ItemEncoder:
        """How to encode its items; `dump` holds keyword arguments for Pydantic's `to_json` of plain items."""
        if self.anything:
            choose_plain: _ChooseEncode | None = _encode_anything
        else:
            choose_plain = None if self.plain is None else _plain_encoder(self.plain, dump)
        return ItemEncoder(self.events, choose_plain)


def _bare(annotation: Any) -> Any:
    """What it stands for, behind `Annotated[…]` and the names that `type X = …` gives."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif typing.get_origin(annotation) is None and hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        else:
            return annotation


def _members(item: Any) -> Iterator[Any]:
    """The members of a union, however it is nested, annotated and named; plain ones as they were written."""
    bare = _bare(item)
    if _is_union(bare):
        for member in typing.get_args(bare):
            yield from _members(member)
    elif _is_a(bare, (Event, *_IN_EVERY_STREAM)) or bare is Any:
        yield bare
    else:
        yield item


def _is_union(item: Any) -> bool:
    return typing.get_origin(item) in (typing.Union, types.UnionType)


def _is_a(item: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(item, type) and issubclass(item, kinds)


def yields(endpoint: Any) -> bool:
    """Whether an endpoint is a generator function as FastAPI sees it: it, or what it wraps, or its `__call__`."""
    while endpoint is not None:
        for function in (endpoint, endpoint.__call__):
            if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
                return True
        inner = endpoint.func if isinstance(endpoint, functools.partial) else None
        endpoint = getattr(endpoint, "__wrapped__", inner)
    return False


def _return_annotation(endpoint: Callable[..., Any]) -> Any:
    function = _function(endpoint)
    # Only the return annotation: the others may name what exists for type checkers alone.
    annotations = {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if name == "return"}
    holder = types.SimpleNamespace(__annotations__=annotations)
    hints = typing.get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)
    return hints.get("return")


def _function(endpoint: Callable[..., Any]) -> Any:
    """What was written with `def`, behind decorators, `functools.partial` and an object's `__call__`."""
    function: Any = endpoint
    while True:
        if hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, functools.partial):
            function = function.func
        elif inspect.isroutine(function):
            return function
        else:
            function = function.__call__


# -- encoding ---------------------------------------------------------------------------------------------------------


_ChooseEncode = Callable[[type], _Encode]

_MOST_TYPES = 1_000
"""Types of items that an encoder remembers: there are programs that make classes as they go."""


class ItemEncoder:
    """Encodes the items of a stream; made by `StreamItems.encoder`.

    It goes by the exact type of an item: asking whether it is an instance of a Pydantic model would cost as much as
    encoding it.
    """

    __slots__ = ("_choose_plain", "_events", "_known")

    def __init__(self, events: tuple[type[Event[Any]], ...], choose_plain: _ChooseEncode | None) -> None:
        self._events = events  # that may be yielded; all, if there are none
        self._choose_plain = choose_plain  # None: no plain item may be
        self._known: dict[type, tuple[_Encode, _CountEvents | None]] = {}

    def __call__(self, item: Any) -> bytes:
        """An item to its block of bytes; `ItemError` for one that doesn't fit."""
        return self.of(type(item))[0](item)

    def of(self, kind: type) -> tuple[_Encode, _CountEvents | None]:
        """How items of just this type are encoded, and how their events are counted; None: each is one with data."""
        found = self._known.get(kind)
        if found is None:
            found = self._choose(kind)
            if len(self._known) < _MOST_TYPES:
                self._known[kind] = found
        return found

    def _choose(self, kind: type) -> tuple[_Encode, _CountEvents | None]:
        if issubclass(kind, ServerSentEvent):
            return encode, has_data
        if issubclass(kind, Frames):
            return attrgetter("frame"), attrgetter("events")
        if issubclass(kind, Event):
            fits = not self._events or issubclass(kind, self._events)
            return _event_encoder(kind) if fits else self._refuse, None
        return self._refuse if self._choose_plain is None else self._choose_plain(kind), None

    def _refuse(self, item: Any) -> bytes:
        expected = " | ".join(event.__name__ for event in self._events)
        raise ItemError(f"an item of type {type(item).__name__} doesn't fit the stream's annotation {expected}")


def _encode_anything(_kind: type) -> _Encode:
    return _encode_json_item


def _encode_json_item(item: Any) -> bytes:
    return b"data: %b\n\n" % encode_json(item)


def _event_encoder(kind: type[Event[Any]]) -> _Encode:
    head = f"event: {kind.event_name}\ndata: ".encode()
    to_json = kind.payload_adapter().serializer.to_json

    def encode_event(event: Event[Any]) -> bytes:
        try:
            data = to_json(event.data, by_alias=True)
        except (PydanticSerializationError, UnicodeError, RecursionError) as error:
            raise unsendable(error) from error
        if event.id is None and event.retry is None:
            return head + data + b"\n\n"
        return head + data + b"\n" + encode(ServerSentEvent(id=event.id, retry=event.retry))

    return encode_event


def _plain_encoder(item_type: Any, dump: Mapping[str, Any]) -> _ChooseEncode:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(item_type)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise TypeError(f"a stream can't carry {_name(item_type)}: {error}") from error
    # What TypeAdapter's own methods call, without their keyword arguments for each item.
    validate = adapter.validator.validate_python
    to_json: Callable[..., bytes] = adapter.serializer.to_json
    if dump:
        options = {"by_alias": True, **dump}
        with_options = to_json

        def to_json(value: Any, *, by_alias: bool) -> bytes:  # noqa: ARG001 - options say it
            return with_options(value, **options)

    def encode_valid(item: Any) -> bytes:
        try:
            # The keyword is written here, and not in a dict of options, because that takes a third less time.
            return b"data: %b\n\n" % to_json(item, by_alias=True)
        except (PydanticSerializationError, UnicodeError, RecursionError) as error:
            raise unsendable(error) from error

    def encode_plain(item: Any) -> bytes:
        try:
            valid = validate(item, from_attributes=True)
        except ValidationError as error:
            raise ItemError(f"an item doesn't fit the stream's annotation {_name(item_type)}: {error}") from error
        return encode_valid(valid)

    trusted = _trusted(adapter)
    return lambda kind: encode_valid if kind is trusted else encode_plain


def _trusted(adapter: TypeAdapter[Any]) -> type | None:
    """The model whose instances Pydantic takes as valid without a look at their fields, if it is one of these."""
    schema: Any = adapter.core_schema
    if schema["type"] != "model":  # also if it has validators of its own, which see instances, too
        return None
    revalidates = schema.get("revalidate_instances") or schema.get("config", {}).get("revalidate_instances") or "never"
    trusted: type = schema["cls"]
    return trusted if revalidates == "never" else None


def _name(item_type: Any) -> str:
    return item_type.__name__ if isinstance(item_type, type) else str(item_type)


# -- ids --------------------------------------------------------------------------------------------------------------


@overload
def with_ids(source: AsyncIterable[Any], start: int = 0) -> AsyncGenerator[Any, None]: ...
@overload
def with_ids(source: Iterable[Any], start: int = 0) -> Generator[Any, None, None]: ...
def with_ids(
    source: AsyncIterable[Any] | Iterable[Any], start: int = 0
) -> AsyncGenerator[Any, None] | Generator[Any, None, None]:
    """Number the events of a stream that have no id: `start`, `start + 1`, …

    Plain items are wrapped in a `ServerSentEvent`, typed events copied. Events without data stay without an id. An
    event with an id keeps it, and the count doesn't move. The source is closed with the stream.

    Args:
        source: what the stream yields; async, or sync for a sync stream.
        start: the first id, an integer.

    Raises:
        TypeError: `source` can't be iterated; a generator function must be called first. Or `start` is no integer.
    """
    if not isinstance(start, int) or isinstance(start, bool):
        raise TypeError(f"'start' must be an integer, not {start!r}")
    numbers = _Numbers(start)
    if isinstance(source, AsyncIterable):
        return _numbered_async(source, numbers)
    if isinstance(source, Iterable):
        return _numbered(source, numbers)
    raise TypeError(f"with_ids() takes an iterable of items, not {type(source).__name__}{_call_hint(source)}")


def _call_hint(source: object) -> str:
    return ": call it, with_ids(source())" if callable(source) else ""


async def _numbered_async(source: AsyncIterable[Any], numbers: _Numbers) -> AsyncGenerator[Any, None]:
    iterator: Any = aiter(source)
    async with _held(iterator):
        step = anext(iterator)
        while True:
            try:
                item = await step
            except StopAsyncIteration:
                return
            numbered = numbers.give(item)
            try:
                yield numbered
            except GeneratorExit:
                raise
            except BaseException as thrown:
                if not hasattr(iterator, "athrow"):
                    raise
                step = iterator.athrow(thrown)  # a timeout that the source has open around its `yield` wants to see it
            else:
                step = anext(iterator)


def _held(iterator: Any) -> AbstractAsyncContextManager[Any]:
    """What an iterator is to be iterated in, so that it is closed behind."""
    if hasattr(iterator, "__aenter__"):  # as aiostream's: iterating is allowed inside of it only
        held: AbstractAsyncContextManager[Any] = iterator
        return held
    return aclosing(iterator) if hasattr(iterator, "aclose") else nullcontext()


def _numbered(source: Iterable[Any], numbers: _Numbers) -> Generator[Any, None, None]:
    iterator = iter(source)
    try:
        for item in iterator:
            yield numbers.give(item)
    finally:
        if isinstance(iterator, Generator):
            iterator.close()


class _Numbers:
    def __init__(self, start: int) -> None:
        self._next = start

    def give(self, item: Any) -> Any:
        if isinstance(item, Frames) or not has_data(item):
            return item
        if isinstance(item, ServerSentEvent | Event) and item.id is not None:
            return item
        id = str(self._next)
        self._next += 1
        if isinstance(item, ServerSentEvent):
            return replace(item, id=id)
        if isinstance(item, Event):
            return item.model_copy(update={"id": id})
        return ServerSentEvent(raw_data="null", id=id) if item is None else ServerSentEvent(data=item, id=id)


# -- in OpenAPI -------------------------------------------------------------------------------------------------------
#
# OpenAPI 3.2 describes each event of a stream by an `itemSchema`, an object of the event's fields, and what its `data`
# encodes by `contentMediaType` and `contentSchema` (section 4.14.4, "Special Considerations for Server-Sent Events").


def payload_types(items: StreamItems) -> list[Any]:
    """The types of what `data` holds: of each typed event, then of the plain items, if there are any."""
    fields = [event.model_fields["data"] for event in items.events]
    types: list[Any] = [Annotated[field.annotation, field] for field in fields]
    return types if items.plain is None else [*types, items.plain]


def item_schema(items: StreamItems, payloads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The `itemSchema` of a stream of typed events, plain items beside them or not.

    Args:
        items: what the stream carries.
        payloads: the JSON schemas of its `payload_types`, in their order.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for event, payload in zip(items.events, payloads, strict=False):
        by_name.setdefault(event.event_name, []).append(payload)
    forms = [
        # Boxed[int] | Boxed[str] are two classes of one name, and `oneOf` is no more than one.
        _event_schema(_any_of(schemas), {"type": "string", "const": name}, ["data", "event"])
        for name, schemas in by_name.items()
    ]
    if items.plain is not None:
        # Without the `not` a typed event would be of this form too: contentSchema is not asserted when matching.
        forms.append(_event_schema(payloads[-1], {"type": "string", "not": {"enum": list(by_name)}}, ["data"]))
    return forms[0] if len(forms) == 1 else {"oneOf": forms}


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _event_schema(payload: dict[str, Any], event: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": payload},
            "event": event,
            "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
        "required": required,
    }
