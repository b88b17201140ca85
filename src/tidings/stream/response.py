"""The response, for FastAPI, Starlette and any ASGI server."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, TypedDict, Unpack
from weakref import finalize

from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from tidings.events import ItemEncoder, StreamItems, yields
from tidings.sources.content import check_content, close_source, open_source
from tidings.sources.threaded import ThreadedSource, ThreadLimitReached
from tidings.stream.ending import Ending
from tidings.stream.endpoint import endpoint_generator
from tidings.stream.expiry import check_not_past, is_moment, run_until
from tidings.stream.feeder import Feeder
from tidings.stream.frame_feeder import FrameFeeder
from tidings.stream.held import warn_of_held_dependencies
from tidings.stream.limit import StreamLimit, too_many_streams
from tidings.stream.loop import LoopState
from tidings.stream.metrics import figures_of
from tidings.stream.pump import Limits, Pump
from tidings.wire.event import check_retry
from tidings.wire.frames import FrameSource

__all__ = ["EventSourceResponse", "Options"]

logger = logging.getLogger("tidings.stream")

_HEADERS = (
    # RFC 9111 §5.2.2.4: a cache must not reuse the stream without asking; the standard's own advice for event streams.
    (b"cache-control", b"no-cache"),
    # nginx, and what learned from it, passes each write on at once.
    (b"x-accel-buffering", b"no"),
)

_CONTENT_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")

_OURS = (_CONTENT_TYPE[0], *(name for name, _ in _HEADERS))


class Options(TypedDict, total=False):
    """The options of a stream; see `EventSourceResponse`."""

    ping_interval: float | None
    retry: int | None
    start_delay: float | None
    send_timeout: float | None
    cleanup_timeout: float | None
    max_events: int | None
    max_duration: float | tuple[float, float] | None
    expires_at: datetime | float | None
    stream_limit: StreamLimit | None


class EventSourceResponse(Response):
    """A response that streams server-sent events (WHATWG HTML §9.2).

    Use it as the `response_class` of a path operation that yields, return it from any endpoint of FastAPI or Starlette,
    or call it as an ASGI application.

    Each option is an argument, and a class attribute that a subclass sets for all of its streams. Times are in seconds.

    Args:
        content: the items: an async or sync iterator or generator, a list or a tuple. Plain items are sent as the JSON
            `data` of an event, `ServerSentEvent` and `tidings.Event` as they are. A sync iterator runs in a thread of
            its own.
        status_code: of the response.
        headers: more headers; they replace those of an event stream where the names are the same.
        background: runs after the stream has ended, unless it failed.
        ping_interval: silence after which a comment is sent to keep the connection alive; 0 or None: never.
        retry: milliseconds, sent first: how long clients wait before they reconnect.
        start_delay: how long the head of the response waits for the first item. What the source raises before, or an
            item that doesn't fit, becomes a response with its own status. None: as long as it takes.
        send_timeout: how long a client may take nothing before its connection is dropped. None: for ever.
        cleanup_timeout: how long the source may take to close when the stream ends before it. None: as long as it
            takes.
        max_events: events with data after which the stream ends.
        max_duration: time after which the stream ends. Two, as in `(1200, 1800)`: some time between them, drawn for
            each stream, so that many that began together don't end together.
        expires_at: when the stream ends: an aware `datetime`, or POSIX seconds as in the `exp` of a token. If that is
            past already, the answer is 401.
        stream_limit: counts this stream with others; if there are too many, the answer is 503.

    Attributes:
        max_sync_streams: how many sync iterators may be streamed in this process at once; beyond it the answer is 503.
        ending: how the stream ended; None before.

    Raises:
        TypeError: `content` can't be iterated, or an option is unknown.
        ValueError: an option is out of range.
    """

    media_type = "text/event-stream"

    ping_interval: float | None = 15.0
    retry: int | None = None
    start_delay: float | None = 0.1
    send_timeout: float | None = 30.0
    cleanup_timeout: float | None = 5.0
    max_events: int | None = None
    max_duration: float | tuple[float, float] | None = None
    expires_at: datetime | float | None = None
    stream_limit: StreamLimit | None = None

    max_sync_streams: ClassVar[int] = 512

    _give_back: Callable[[], None] | None = None
    """Gives the place of this stream back, if it has one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _CHECKS.keys() & vars(cls).keys():
            _check_option(name, vars(cls)[name])

    def __init__(
        self,
        content: AsyncIterable[Any] | Iterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_content(content)
        for name, value in options.items():
            _check_option(name, value)
            setattr(self, name, value)
        self._content: Any = content
        self.status_code = status_code
        self.background = background
        self.ending: Ending | None = None
        self.init_headers(headers)
        given = {name for name, _ in self.raw_headers}
        # One content type for all streams: a response is held as long as its stream.
        self.raw_headers = [_CONTENT_TYPE if header == _CONTENT_TYPE else header for header in self.raw_headers] + [
            header for header in _HEADERS if header[0] not in given
        ]

    @property
    def headers(self) -> MutableHeaders:
        """The headers, to be read and changed; made for each caller, and not held as long as the stream."""
        return MutableHeaders(raw=self.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to an ASGI connection; returns when the stream has ended and its source is closed."""
        if scope["type"] != "http":
            raise RuntimeError(f"an EventSourceResponse answers HTTP requests, not {scope['type']!r}")
        if self._content is None:
            raise RuntimeError("an EventSourceResponse streams once: its content is used up")
        pump: Pump | None = None
        try:
            # What only the start needs isn't here: this is held as long as the stream.
            pump = await self._start(scope, receive, send)
            if pump is not None:
                self.ending = await (pump.run() if self.expires_at is None else run_until(self.expires_at, pump))
        except HTTPException as error:
            self.ending = Ending.FAILED
            if (pump is not None and pump.started) or "starlette.exception_handlers" in scope:
                raise
            # No framework around this response would turn it into one.
            await _error_response(error)(scope, receive, send)
            return
        except BaseException:
            self.ending = Ending.FAILED
            raise
        finally:
            if self._give_back is not None:
                self._give_back()
        if self.background is not None and self.ending is not None:  # a HEAD has none
            await self.background()

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> Pump | None:
        """Make the pump; None if the answer is another one, which is sent then."""
        begun = asyncio.get_running_loop().time()
        # Taken from the response, so that FastAPI's wrapper around it is freed before the stream, not after.
        content, self._content = endpoint_generator(self._content), None
        source = open_source(content)
        if self.expires_at is not None or self.stream_limit is not None:
            await self._admit(source, scope)
        follows = not isinstance(source, FrameSource) or await source.open()
        if scope["method"] == "HEAD":
            # RFC 9110 §9.3.2: the status and the headers that a GET would get, and no content. A generator, which
            # would have to begin for that, has not begun.
            await close_source(source)
            await _send_empty(self._head() if follows else self._no_content(), send)
            return None
        if not follows:
            self.ending = Ending.EXHAUSTED
            await _send_empty(self._no_content(), send)
            return None
        warn_of_held_dependencies(scope)
        return await self._prepare(source, begun, scope, receive, send)

    async def _admit(self, source: AsyncIterator[Any], scope: Scope) -> None:
        """See whether this stream may begin; the source is closed if not."""
        try:
            if self.expires_at is not None:
                check_not_past(self.expires_at)
            if self.stream_limit is not None:
                self._give_back = self.stream_limit.take(scope)
        except BaseException:
            await close_source(source)
            raise

    async def _prepare(
        self, source: AsyncIterator[Any], begun: float, scope: Scope, receive: Receive, send: Send
    ) -> Pump:
        """Make the pump; the source is closed if that fails."""
        try:
            if isinstance(source, FrameSource):
                return self._prepare_frames(source, begun, scope, receive, send)
            encode = _encoder_of(scope.get("route"))
            if isinstance(source, ThreadedSource):
                source.reserve(self.max_sync_streams, LoopState.current().serve_thread)
        except BaseException as error:
            await close_source(source)
            if isinstance(error, ThreadLimitReached):
                raise too_many_streams() from None
            raise
        feeder = Feeder(source, encode, self.max_events)
        return Pump(feeder, self._head(), self._limits(self.start_delay), receive, send, figures_of(scope), begun)

    def _prepare_frames(self, source: FrameSource, begun: float, scope: Scope, receive: Receive, send: Send) -> Pump:
        if self.expires_at is not None:
            check_not_past(self.expires_at)  # once more: a guard may have been asked for long
        limits = self._limits(start_delay=0)  # it is open: there is no status to wait for
        # One by one only if they are to be counted.
        feeder = FrameFeeder(source) if self.max_events is None else Feeder(source, _encode_anything, self.max_events)
        pump = Pump(feeder, self._head(), limits, receive, send, figures_of(scope), begun)
        pump.listen_to(source)
        return pump

    def _limits(self, start_delay: float | None) -> Limits:
        return _shared(
            Limits(
                ping_interval=self.ping_interval,
                retry=self.retry,
                start_delay=start_delay,
                send_timeout=self.send_timeout,
                cleanup_timeout=self.cleanup_timeout,
                max_events=self.max_events,
                max_duration=_drawn(self.max_duration),
            )
        )

    def _head(self) -> dict[str, Any]:
        return {"type": "http.response.start", "status": self.status_code, "headers": self._headers_once()}

    def _no_content(self) -> dict[str, Any]:
        """Tells the client not to come back: "HTTP 204 No Content" stops an `EventSource` (WHATWG HTML §9.2.3)."""
        headers = [header for header in self._headers_once() if header[0] != b"content-type"]
        return {"type": "http.response.start", "status": 204, "headers": headers}

    def _headers_once(self) -> list[tuple[bytes, bytes]]:
        """The headers, without those of ours that were set again: FastAPI adds what a dependency sets behind them."""
        raw = self.raw_headers
        for name in _OURS:
            same = [index for index, header in enumerate(raw) if header[0] == name]
            if len(same) > 1:
                raw = [header for index, header in enumerate(raw) if index != same[0]]
        return list(raw)


@lru_cache(maxsize=128)
def _shared(limits: Limits) -> Limits:
    """The same object for streams with the same options: idle ones are many, and each byte of them counts."""
    return limits


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _positive(value: Any) -> bool:
    return _seconds(value) and value > 0


def _duration(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and all(map(_positive, value)) and value[0] <= value[1]
    return _positive(value)


def _drawn(duration: float | tuple[float, float] | None) -> float | None:
    return random.uniform(*duration) if isinstance(duration, tuple) else duration  # noqa: S311 - no secret


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "ping_interval": (_seconds, "seconds, 0 or None for never"),
    "start_delay": (_seconds, "seconds, or None"),
    "send_timeout": (_positive, "positive seconds, or None"),
    "cleanup_timeout": (_positive, "positive seconds, or None"),
    "max_events": (_count, "a positive integer, or None"),
    "max_duration": (_duration, "positive seconds, two of them from short to long, or None"),
    "expires_at": (is_moment, "an aware datetime or POSIX seconds, or None"),
    "stream_limit": (lambda value: isinstance(value, StreamLimit), "a StreamLimit, or None"),
    "retry": (lambda value: check_retry(value) is not None, "milliseconds, or None"),
}


def _check_option(name: str, value: Any) -> None:
    if name not in _CHECKS:
        raise TypeError(f"unknown option {name!r}: a stream has {', '.join(_CHECKS)}")
    fits, expected = _CHECKS[name]
    if value is not None and not fits(value):
        raise ValueError(f"{name!r} must be {expected}, not {value!r}")


async def _send_empty(head: dict[str, Any], send: Send) -> None:
    await send(head)
    await send({"type": "http.response.body", "body": b""})


def _error_response(error: HTTPException) -> Response:
    if error.status_code in {204, 304}:  # RFC 9110 §6.4.1: these have no content
        return Response(status_code=error.status_code, headers=error.headers)
    return PlainTextResponse(error.detail, error.status_code, error.headers)


_encode_anything = StreamItems().encoder()
_encoders: dict[int, ItemEncoder] = {}  # by the identity of the route: routes are compared by value, and not hashable


def _encoder_of(route: Any) -> ItemEncoder:
    """How to encode what the route's endpoint yields, by its return annotation; built once for each route."""
    endpoint = getattr(route, "endpoint", None)
    if endpoint is None:
        return _encode_anything
    encoder = _encoders.get(id(route))
    if encoder is None:
        encoder = _build_encoder(route, endpoint) if yields(endpoint) else _encode_anything
        _encoders[id(route)] = encoder
        finalize(route, _encoders.pop, id(route), None).atexit = False
    return encoder


def _build_encoder(route: Any, endpoint: Callable[..., Any]) -> ItemEncoder:
    try:
        items = StreamItems.of(endpoint)
    except NameError as error:
        # Common where linters move imports that only annotations use behind TYPE_CHECKING.
        name = getattr(endpoint, "__qualname__", endpoint)  # a partial has none
        logger.warning("the items of %s are not validated: %s in its return annotation", name, error)
        return _encode_anything
    return items.encoder(_dump_options(route))


def _dump_options(route: Any) -> dict[str, Any]:
    """What FastAPI's decorator says of the serialization of a response, for the keyword arguments of Pydantic."""
    options = {
        name: getattr(route, f"response_model_{name}", None)
        for name in ("include", "exclude", "exclude_unset", "exclude_defaults", "exclude_none")
    }
    if getattr(route, "response_model_by_alias", True) is False:
        options["by_alias"] = False
    # Pydantic's own defaults are left out: each keyword costs time for each item.
    return {name: value for name, value in options.items() if value or name == "by_alias"}
