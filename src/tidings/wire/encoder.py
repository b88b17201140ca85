"""Events to bytes."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from tidings.errors import ItemError
from tidings.wire.event import ServerSentEvent

__all__ = ["COMMENT", "PING", "encode", "encode_json", "retry_block", "unsendable"]

COMMENT = b":\n\n"
"""The shortest block: clients ignore it, proxies pass it on."""

PING = b": ping\n\n"
"""What keeps a silent connection alive (WHATWG HTML §9.2.7)."""


def encode(event: ServerSentEvent) -> bytes:
    """Return the block of an event: comment, event, data, id, retry, then the empty line.

    Raises:
        ItemError: (a `ValueError`) JSON can't carry `data`, or a text field holds what UTF-8 can't.
    """
    block = ""
    if event.comment is not None:
        block = _lines(": ", event.comment)
    if event.event is not None:
        block += f"event: {event.event}\n"
    if event.raw_data is not None:
        block += _lines("data: ", event.raw_data)
    tail = ""
    if event.id is not None:
        tail = f"id: {event.id}\n"
    if event.retry is not None:
        tail += f"retry: {event.retry}\n"
    try:
        if event.data is None:
            return f"{block}{tail}\n".encode()
        # Compact JSON holds no line break: they are escaped inside its strings.
        return b"%bdata: %b\n%b\n" % (block.encode(), encode_json(event.data), tail.encode())
    except UnicodeEncodeError as error:
        raise ItemError(f"SSE {_field_of(event)} can't be encoded as UTF-8: {error}") from error


def encode_json(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8, aliases used, non-finite floats as null.

    Raises:
        ItemError: JSON can't carry it.
    """
    try:
        return to_json(value, by_alias=True, inf_nan_mode="null")
    except (PydanticSerializationError, UnicodeError, RecursionError) as error:
        raise unsendable(error) from error


def unsendable(error: Exception) -> ItemError:
    """The error for data that could not be serialized."""
    return ItemError(f"SSE 'data' can't be encoded as JSON: {error}")


def retry_block(milliseconds: int) -> bytes:
    """A block that sets the client's reconnection time and dispatches nothing."""
    return b"retry: %d\n\n" % milliseconds


def _lines(prefix: str, value: str) -> str:
    """`value` with each of its lines behind the prefix. Only CRLF, CR and LF end a line here, so no splitlines()."""
    if "\r" in value:
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in value:
        return f"{prefix}{value}\n"
    return "".join([f"{prefix}{line}\n" for line in value.split("\n")])


def _field_of(event: ServerSentEvent) -> str:
    for field in ("comment", "event", "raw_data", "id"):
        value: str | None = getattr(event, field)
        if value is not None and not _is_utf8(value):
            return f"'{field}'"
    return "'data'"


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
