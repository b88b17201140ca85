"""Typed events from their names: the way back of what a server with typed events sends."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, Generic, Self, TypeVar

from tidings.errors import UnknownEvent
from tidings.events import Event, StreamItems
from tidings.wire.decoder import ReceivedEvent

__all__ = ["AsyncTypedEvents", "EventTypes", "TypedEvents"]

E = TypeVar("E", bound=Event[Any])


class EventTypes:
    """The classes of the events that somebody expects, by their names.

    Args:
        events: one class or a union of them.
        strict: whether an event of another name is an error.

    Raises:
        TypeError: it is something else than classes of typed events.
        ValueError: two of them have the same name.
    """

    def __init__(self, events: Any, strict: bool) -> None:
        items = StreamItems.of_annotation(AsyncIterable[events])
        if not items.events or items.plain is not None or items.anything:
            raise TypeError(
                f"typed() takes one class of typed events or a union of them, as in Opened | Closed: {events!r}"
            )
        self._strict = strict
        self._classes = {kind.event_name: kind for kind in items.events}
        if len(self._classes) < len(items.events):
            raise ValueError(f"of {events!r} two classes have the same name on the wire: which is meant can't be told")

    def read(self, event: ReceivedEvent) -> Event[Any] | None:
        """The typed event; None: it is to be skipped.

        Raises:
            UnknownEvent: none of the classes has this name.
            pydantic.ValidationError: the data doesn't fit the class.
        """
        kind = self._classes.get(event.event)
        if kind is None:
            if self._strict:
                expected = ", ".join(map(repr, self._classes))
                raise UnknownEvent(f"got an event named {event.event!r}; expected are {expected}")
            return None
        payload = kind.payload_adapter().validate_json(event.data)
        # Validated already; and by a second validation not everything remains what it is.
        return kind.model_construct(data=payload, id=event.id or None, retry=None)


class AsyncTypedEvents(Generic[E]):
    """The typed events of an `AsyncEventSource`. The error of one doesn't end them: `anext` goes on behind it."""

    def __init__(self, source: AsyncIterator[ReceivedEvent], types: EventTypes) -> None:
        self._source = source
        self._types = types

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while True:
            event: Any = self._types.read(await anext(self._source))
            if event is not None:
                return event  # type: ignore[no-any-return] # the types were made of E


class TypedEvents(Generic[E]):
    """The typed events of an `EventSource`. The error of one doesn't end them: `next` goes on behind it."""

    def __init__(self, source: Iterator[ReceivedEvent], types: EventTypes) -> None:
        self._source = source
        self._types = types

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        while True:
            event: Any = self._types.read(next(self._source))
            if event is not None:
                return event  # type: ignore[no-any-return] # the types were made of E
