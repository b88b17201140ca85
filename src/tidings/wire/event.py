"""One event as a server sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ServerSentEvent", "check_event", "check_id", "check_retry"]


def check_event(event: str | None) -> str | None:
    """Return `event` if it can be an event's name; raise `TypeError` or `ValueError` if not."""
    if event is None:
        return None
    if not isinstance(event, str):
        raise TypeError(f"SSE 'event' must be a str, not {type(event).__name__}")
    _check_line("event", event)
    return event


def check_id(id: str | int | None) -> str | None:
    """Return `id` as text if it can be an event's id; raise `TypeError` or `ValueError` if not."""
    if id is None:
        return None
    if isinstance(id, int) and not isinstance(id, bool):
        return str(id)
    if not isinstance(id, str):
        raise TypeError(f"SSE 'id' must be a str or an int, not {type(id).__name__}: convert it with str()")
    _check_line("id", id)
    # "If the field value does not contain U+0000 NULL, then set the last event ID buffer": with one, clients drop it.
    if "\0" in id:
        raise ValueError("SSE 'id' must not contain null characters")
    return id


def check_retry(retry: int | None) -> int | None:
    """Return `retry` if it is a number of milliseconds that clients accept; raise `ValueError` if not."""
    if retry is None:
        return None
    if not isinstance(retry, int) or isinstance(retry, bool) or retry < 0:
        raise ValueError(f"SSE 'retry' must be a non-negative integer of milliseconds, not {retry!r}")
    return retry


def _check_line(field: str, value: str) -> None:
    if "\n" in value or "\r" in value:
        raise ValueError(f"SSE '{field}' must be a single line: remove the line break from {value[:80]!r}")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event with every field of the format (WHATWG HTML §9.2.5).

    Args:
        data: any value that JSON can carry, Pydantic models and dataclasses included. It is always JSON-encoded:
            `"hello"` goes out as `data: "hello"`. None means no data; JSON's null is `raw_data="null"`.
        raw_data: text that goes out as it is, one `data:` line for each of its lines.
        event: the name that the browser dispatches the event under; one line. None: "message".
        id: what a client that reconnects sends back as `Last-Event-ID`; one line without U+0000. An int is
            taken as its decimal text.
        retry: milliseconds that a client waits before it reconnects.
        comment: text that clients ignore, one `: ` line for each of its lines.

    Raises:
        ValueError: both `data` and `raw_data` are given, `event` or `id` holds a line break, `id` a null
            character, or `retry` is not a non-negative integer.
        TypeError: `event`, `id`, `raw_data` or `comment` is of another type.
    """

    data: Any = None
    raw_data: str | None = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def __init__(
        self,
        data: Any = None,
        raw_data: str | None = None,
        event: str | None = None,
        id: str | int | None = None,
        retry: int | None = None,
        comment: str | None = None,
    ) -> None:
        if raw_data is not None:
            if data is not None:
                raise ValueError(
                    "Cannot set both 'data' and 'raw_data': 'data' is JSON-encoded, 'raw_data' is sent as it is"
                )
            if not isinstance(raw_data, str):
                raise TypeError(f"SSE 'raw_data' must be a str, not {type(raw_data).__name__}: use 'data' for JSON")
        if comment is not None and not isinstance(comment, str):
            raise TypeError(f"SSE 'comment' must be a str, not {type(comment).__name__}")
        _set_data(self, data)
        _set_raw_data(self, raw_data)
        _set_event(self, None if event is None else check_event(event))
        _set_id(self, None if id is None else check_id(id))
        _set_retry(self, None if retry is None else check_retry(retry))
        _set_comment(self, comment)


# A frozen dataclass sets its fields through object.__setattr__, which looks each one up by name; the slots' own
# descriptors take half the time, and one of these objects is made for every event of many streams.
_set_data, _set_raw_data, _set_event, _set_id, _set_retry, _set_comment = (
    vars(ServerSentEvent)[_field].__set__ for _field in ("data", "raw_data", "event", "id", "retry", "comment")
)
