"""The life of an event source (WHATWG HTML §9.2): when to connect, what to send, when to wait and when to give up.

There is no input or output here, and time and chance are arguments. `reconnecting` is a generator that yields what is
to be done next, a step; a driver does it and sends back what came of it, an answer:

    step                what the driver does                            what it answers
    Connect             sends the request                               Head, or Lost
    Opened              tells who wants to know                         None
    Read                waits for more of the body                      bytes, or Lost
    Deliver             hands out the events, one by one                None
    Reconnecting        drops the connection, tells who wants to know   None
    Wait                lets that time pass                             None

A driver that was cancelled in the middle of a step answers `INTERRUPTED` when it is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from tidings.errors import ConnectionFailed, ContentTypeError, EventTooLarge, StatusError
from tidings.wire.decoder import EventDecoder, ReceivedEvent

__all__ = [
    "INTERRUPTED",
    "Answer",
    "Connect",
    "Deliver",
    "Head",
    "Interrupted",
    "Lost",
    "Opened",
    "Position",
    "Read",
    "Reconnecting",
    "Step",
    "Wait",
    "reconnecting",
    "retry_after_seconds",
]

_RETRIED: Final = frozenset({429, 502, 503, 504})
"""Statuses that pass: the server, or what stands before it, asks to come again."""

_LONGEST_GROWTH: Final = 30.0
"""Seconds up to which the delay grows with the failures in a row."""

_LONGEST_DELAY: Final = 86_400.0
"""Seconds that a source waits at the most, whatever a server asks for."""


# -- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Send the request, with these headers unless the caller gave his own."""

    headers: Mapping[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Opened:
    """The response is an event stream: it is open."""


@dataclass(frozen=True, slots=True)
class Read:
    """Wait for more of the body."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand out these events."""

    events: Sequence[ReceivedEvent]


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """There is no connection any more; the next attempt follows after `delay` seconds.

    `error` says why, None if the server ended the stream in good order.
    """

    error: Exception | None
    delay: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Let these seconds pass."""

    seconds: float


Step = Connect | Opened | Read | Deliver | Reconnecting | Wait


# -- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """A response has begun. `retry_after` is what its header asks for, in seconds from now."""

    status: int
    content_type: str = ""
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no connection; None: the response came to its end."""

    error: Exception | None = None


class Interrupted:
    """The driver was cancelled before the step was done."""


INTERRUPTED: Final = Interrupted()

Answer = Head | Lost | Interrupted | bytes | None


# -- decisions --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Position:
    """Where a source stands, for its driver to read, and to note the events that it handed out.

    Attributes:
        last_event_id: of the last event handed out, "" before any.
        retry: the reconnection time in seconds.
        open: whether a stream is being received.
    """

    last_event_id: str
    retry: float
    open: bool = False


def reconnecting(
    position: Position,
    *,
    url: str,
    max_attempts: int | None,
    max_event_size: int,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Generator[Step, Answer, None]:
    """What to do next, until the server says that there is no more.

    Args:
        position: where to begin; kept up to date.
        url: for messages.
        max_attempts: failures in a row after which it gives up, None: never.
        max_event_size: of the decoder, in bytes.
        clock: seconds of a clock that never goes back.
        random: evenly from 0 to 1.

    Raises:
        ConnectionFailed: it gave up.
        ContentTypeError: the response is no event stream.
        EventTooLarge: all events before the large one were delivered.
        StatusError: the response has a status on which nobody should come again.
    """
    failures = 0
    while True:
        at_least = 0.0
        answer = yield Connect(_headers(position.last_event_id))
        match answer:
            case Head(status=204):  # "a user agent can be told to stop reconnecting"
                return
            case Head(status=200):
                if answer.content_type.partition(";")[0].strip().lower() != "text/event-stream":
                    raise ContentTypeError(
                        f"{url} sent {answer.content_type or 'no content type'!s}, not text/event-stream"
                    )
                failures = 0
                error = yield from _receive(position, max_event_size)
            case Head(status=status):
                error = StatusError(status, f"{url} answered {_named(status)}")
                if status not in _RETRIED:
                    raise error
                failures += 1
                at_least = answer.retry_after
            case Lost(error=error):
                failures += 1
            case _:
                error = None
        if failures == max_attempts:
            attempts = f"{failures} attempts in a row" if failures > 1 else "the only attempt"
            raise ConnectionFailed(f"can't connect to {url}: {attempts} failed, the last with {error!r}") from error
        position.open = False
        delay = min(max(_delay(position.retry, failures, random()), at_least), _LONGEST_DELAY)
        end = clock() + delay
        yield Reconnecting(error, delay)
        while (left := end - clock()) > 0:  # goes round once more only if the driver was interrupted
            yield Wait(left)


def _receive(position: Position, max_event_size: int) -> Generator[Step, Answer, Exception | None]:
    """Read one response to its end; what ended it is returned, None: nothing did, it was over."""
    # "Discard any incomplete event": each response begins with a new decoder, which knows the last event id.
    decoder = EventDecoder(max_event_size)
    decoder.last_event_id = position.last_event_id
    position.open = True
    yield Opened()
    while True:
        answer = yield Read()
        if not isinstance(answer, bytes):
            return answer.error if isinstance(answer, Lost) else None
        too_large = None
        try:
            events = decoder.feed(answer)
        except EventTooLarge as error:
            events, too_large = error.events, error
        if decoder.retry is not None:
            # Bounded before it is divided: it may have more digits than a float takes.
            position.retry = min(decoder.retry, int(_LONGEST_DELAY) * 1000) / 1000
        if events:
            yield Deliver(events)
        if too_large is not None:
            raise too_large
        # Also an event without data sets the id.
        position.last_event_id = decoder.last_event_id


def _headers(last_event_id: str) -> dict[str, str | bytes]:
    headers: dict[str, str | bytes] = {
        "accept": "text/event-stream",
        "cache-control": "no-store",
        # What compresses a stream often keeps its events back until there is enough to compress.
        "accept-encoding": "identity",
    }
    if last_event_id:
        # Header values have no space around them (RFC 9110 §5.5); Fetch takes it off, too.
        headers["last-event-id"] = last_event_id.strip(" \t").encode()
    return headers


def _delay(retry: float, failures: int, chance: float) -> float:
    """Twice as long with each failure, and never the same for two clients that lost one server."""
    grown = min(retry * 2.0 ** min(failures, 64), _LONGEST_GROWTH)
    return max(grown, retry) * (1 + chance / 2)


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def retry_after_seconds(value: str | None, now: float) -> float:
    """What a `Retry-After` header asks for (RFC 9110 §10.2.3), in seconds from `now`, a Unix time; 0 if nothing."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_DELAY)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    # A date without a zone is one of the obsolete forms, which are in UTC.
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now)
