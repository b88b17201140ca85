"""What a publisher gives, to what is stored: checked and encoded before anything else happens."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tidings.broker.entry import Draft, Kind
from tidings.events import Event, StreamItems, has_data
from tidings.wire.encoder import encode, encode_json
from tidings.wire.event import ServerSentEvent

__all__ = ["check_channel", "check_size", "draft_of"]

_CHANNEL_BYTES = 255

_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")

_EVENTS = (Event, ServerSentEvent)

_END = b"\n"
"""The empty line behind an event."""

_encode_item = StreamItems().encoder()


def check_channel(channel: str, argument: str = "channel") -> str:
    """Return `channel` if it can be a channel's name; messages call it `argument`.

    Raises:
        TypeError: it is no `str`.
        ValueError: it isn't 1 to 255 bytes of UTF-8 without control characters.
    """
    if not isinstance(channel, str):
        raise TypeError(f"'{argument}' must be a str, not {type(channel).__name__}")
    try:
        size = len(channel.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"'{argument}' can't be encoded as UTF-8: {error}") from error
    if not 1 <= size <= _CHANNEL_BYTES:
        raise ValueError(f"'{argument}' must be 1 to {_CHANNEL_BYTES} bytes of UTF-8, not {size}: {channel[:80]!r}")
    if _CONTROL_CHARACTER.search(channel):
        raise ValueError(f"'{argument}' must not contain control characters: {channel[:80]!r}")
    return channel


def check_size(draft: Draft, most: int | None) -> None:
    """Raise `ValueError` for an event of more than `most` bytes."""
    size = len(draft.head) + len(draft.tail)
    if most is not None and size > most:
        raise ValueError(f"the event has {size} bytes, more than max_event_size={most}")


def draft_of(data: Any, *, event: str | None, raw_data: str | None) -> Draft:
    """Encode what is to be published.

    Raises:
        TypeError, ValueError: it is no event that can be published; the message names the argument.
    """
    if isinstance(data, _EVENTS):
        if event is not None or raw_data is not None:
            given = "event" if event is not None else "raw_data"
            raise ValueError(f"'{given}' can't be given beside a {type(data).__name__}, which has its own")
        if data.id is not None:
            raise ValueError(f"the 'id' of a published event is the broker's: leave it out (it is {data.id!r})")
        if not has_data(data):
            raise ValueError("an event without data can't be published: clients would not dispatch it")
        return _draft_of_event(data)
    if raw_data is None and event is None:  # as the tokens of an answer are
        return Draft(Kind.JSON, b"data: %b\n" % encode_json(data), _END)
    if raw_data is None and data is None:
        return _draft(ServerSentEvent(raw_data="null", event=event), Kind.JSON, None)
    kind = Kind.JSON if raw_data is None else Kind.RAW
    return _draft(ServerSentEvent(data, raw_data=raw_data, event=event), kind, None)


def _draft_of_event(event: Event[Any] | ServerSentEvent) -> Draft:
    if isinstance(event, Event):
        return _draft(event.model_copy(update={"retry": None}), Kind.JSON, event.retry)
    kind = Kind.JSON if event.raw_data is None else Kind.RAW
    return _draft(replace(event, retry=None), kind, event.retry)


def _draft(event: Event[Any] | ServerSentEvent, kind: Kind, retry: int | None) -> Draft:
    head = _encode_item(event)[: -len(b"\n")]
    return Draft(kind, head, _END if retry is None else encode(ServerSentEvent(retry=retry)))
