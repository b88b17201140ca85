"""Every exception of tidings.

    TidingsError
    ├── BackgroundLimit     a process runs as many background streams as it may
    ├── BrokerClosed        a broker was used before it was opened, or after it was closed
    ├── ChannelBusy         a background stream was started in a channel that has one running
    ├── ChannelForbidden    the guard of a subscription let it not read a channel
    ├── ConnectionFailed    a client has tried often enough
    ├── ContentTypeError    what a client was sent is no event stream
    ├── EventTooLarge       an event to decode outgrew its bound
    ├── ItemError           an item that a stream can't send (also a ValueError)
    ├── PublishError        an event may not be stored
    ├── StatusError         a status on which a client doesn't reconnect
    ├── StorageError        a broker's log can't be opened or read
    ├── TicketRefused       a ticket is missing, forged, expired or used
    └── UnknownEvent        an event of a name that a strict client doesn't know (also a ValueError)

Wrong arguments are Python's own `TypeError` and `ValueError`, raised where the argument is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidings.wire.decoder import ReceivedEvent

__all__ = [
    "BackgroundLimit",
    "BrokerClosed",
    "ChannelBusy",
    "ChannelForbidden",
    "ConnectionFailed",
    "ContentTypeError",
    "EventTooLarge",
    "ItemError",
    "PublishError",
    "StatusError",
    "StorageError",
    "TicketRefused",
    "TidingsError",
    "UnknownEvent",
]


class TidingsError(Exception):
    """The base of every exception that tidings defines."""


class BackgroundLimit(TidingsError):  # noqa: N818 - the name says what is reached
    """The broker runs as many background streams as its `max_background` allows; try again later, or raise it."""


class BrokerClosed(TidingsError):  # noqa: N818 - the name says what happened
    """A broker was used before it was opened or after it was closed: use it inside of `async with broker`."""


class ChannelBusy(TidingsError):  # noqa: N818 - the name says what is the matter
    """A background stream is running in this channel, here or in another process: stop it, or wait for its end."""


class ChannelForbidden(TidingsError):  # noqa: N818 - the name says what is the matter
    """The guard of a subscription didn't let it read a channel.

    Attributes:
        channel: which one.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(f"the guard of this subscription doesn't let it read {channel!r}")
        self.channel = channel


class ConnectionFailed(TidingsError):  # noqa: N818 - the name says what happened
    """A client's attempts to connect failed `max_attempts` times in a row; the last one's error is the cause."""


class ContentTypeError(TidingsError):
    """A server answered with 200 and something else than `text/event-stream` (WHATWG HTML §9.2.2: fail)."""


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
    """An event could not be stored, or nobody knows whether it was: it may or may not reach subscribers.

    The same of the end of a channel, and of a claim.
    """


class StatusError(TidingsError):
    """A server answered with a status on which a client doesn't reconnect (WHATWG HTML §9.2.2: fail).

    Attributes:
        status: the HTTP status code.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StorageError(TidingsError):
    """A broker's log can't be opened or read. The message says what is wrong and what would help.

    Attributes:
        temporary: whether it may pass by itself, as when a server is away.
    """

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary


class TicketRefused(TidingsError):  # noqa: N818 - the name says what happened
    """A ticket can't be redeemed.

    Attributes:
        reason: `missing`; `forged`: it is none, or was signed with another secret; `expired`; `used`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the ticket is {reason}")
        self.reason = reason


class UnknownEvent(TidingsError, ValueError):  # noqa: N818 - the name says what happened
    """A server sent an event of a name that none of the expected classes has, to a client that is strict about it."""
