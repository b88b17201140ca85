"""Every exception of tidings.

    TidingsError
    ├── BrokerClosed        a broker was used before it was opened, or after it was closed
    ├── EventTooLarge       an event to decode outgrew its bound
    ├── ItemError           an item that a stream can't send (also a ValueError)
    ├── PublishError        an event may not be stored
    └── StorageError        a broker's log can't be opened or read

Wrong arguments are Python's own `TypeError` and `ValueError`, raised where the argument is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidings.wire.decoder import ReceivedEvent

__all__ = ["BrokerClosed", "EventTooLarge", "ItemError", "PublishError", "StorageError", "TidingsError"]


class TidingsError(Exception):
    """The base of every exception that tidings defines."""


class BrokerClosed(TidingsError):  # noqa: N818 - the name says what happened
    """A broker was used before it was opened or after it was closed: use it inside of `async with broker`."""


class EventTooLarge(TidingsError):  # noqa: N818 - the name says what happened
    """An unfinished event holds more bytes than `max_event_size`.

    Attributes:
        limit: the bound, in bytes.
        events: the events that the same `feed` completed before the large one.
    """

    def __init__(self, limit: int, events: list[ReceivedEvent]) -> None:
        super().__init__(f"an event is larger than max_event_size={limit} bytes")
        self.limit = limit
        self.events = events


class ItemError(TidingsError, ValueError):
    """A stream yielded an item that doesn't fit its annotation, or that JSON can't carry.

    The item is not sent. Before the response has started this becomes a 500; later the stream ends unclean.
    """


class PublishError(TidingsError):
    """An event could not be stored, or nobody knows whether it was: it may or may not reach subscribers."""


class StorageError(TidingsError):
    """A broker's log can't be opened or read. The message says what is wrong and what would help."""
