"""What both event sources are: their options, checked, where they stand, and what is theirs."""

from __future__ import annotations

import inspect
import math
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from tidings.client.http import Request, shown
from tidings.client.reconnect import Answer, Position, reconnecting
from tidings.wire.decoder import ReceivedEvent
from tidings.wire.event import check_id

__all__ = ["Headers", "Source"]

Headers = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""To send beside our own; or a function that returns them."""


class Source:
    """An event source, but for its driving: sending, reading and waiting.

    See `AsyncEventSource` for the arguments.
    """

    _is_async: ClassVar[bool]

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Headers | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | str | None = None,
        last_event_id: str | None = None,
        client: Any = None,
        retry: float = 1.0,
        max_attempts: int | None = 10,
        read_timeout: float | None = None,
        max_event_size: int = 1_048_576,
        on_open: Callable[[Any], object] | None = None,
        on_reconnect: Callable[[Exception | None, float], object] | None = None,
    ) -> None:
        if not callable(headers):
            _check_headers(headers)
        elif inspect.iscoroutinefunction(headers) and not self._is_async:
            raise TypeError("'headers' must be a plain function here: an async one is for AsyncEventSource")
        if isinstance(retry, bool) or not isinstance(retry, int | float) or not (math.isfinite(retry) and retry >= 0):
            raise ValueError(f"'retry' must be a number of seconds from 0, not {retry!r}")
        if max_attempts is not None:
            _check_count("max_attempts", max_attempts, " or None")
        _check_count("max_event_size", max_event_size)
        if last_event_id is not None and not isinstance(last_event_id, str):
            raise TypeError(f"'last_event_id' must be a str, not {type(last_event_id).__name__}")
        check_id(last_event_id)
        _check_utf8("last_event_id", last_event_id or "")
        if client is not None and inspect.iscoroutinefunction(getattr(client, "send", None)) is not self._is_async:
            kind = "AsyncClient" if self._is_async else "Client"
            raise TypeError(f"'client' must be an httpx2.{kind} or httpx.{kind}, not {type(client).__name__}")
        self._request = Request.of(url, method, params, json, content, read_timeout, has_client=client is not None)
        self._headers = headers
        self._on_open = on_open
        self._on_reconnect = on_reconnect

        self._position = Position(last_event_id or "", float(retry))
        self._steps = reconnecting(
            self._position,
            url=shown(self._request.url),
            max_attempts=max_attempts,
            max_event_size=max_event_size,
            clock=time.monotonic,
            random=random.random,
        )
        self._answer: Answer = None  # to the step before
        self._events: Iterator[ReceivedEvent] = iter(())  # decoded, to be handed out

        self._client = client
        self._owns_client = client is None
        self._response: Any = None
        self._chunks: Any = None
        self._busy = threading.Lock()  # held by who does a step
        self._closed = threading.Event()

    @property
    def last_event_id(self) -> str:
        """Of the last event handed out: who keeps it can go on from there with another source. "" before any."""
        return self._position.last_event_id

    @property
    def retry(self) -> float:
        """Seconds before it connects again when the stream has ended, as the server said last."""
        return self._position.retry

    @property
    def state(self) -> Literal["connecting", "open", "closed"]:
        """Connecting also before the first attempt and between two; closed once there will be no other."""
        if self._closed.is_set():
            return "closed"
        return "open" if self._position.open else "connecting"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self._request.url)} {self.state}>"

    def _build_request(self, own_headers: Mapping[str, str | bytes], headers: object) -> Any:
        return self._request.build(self._client, own_headers, _check_headers(headers))


def _check_headers(headers: object) -> Mapping[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"'headers' must be a mapping or a function that returns one, not {type(headers).__name__}")
    return headers


def _check_utf8(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!r} can't be encoded as UTF-8: {error}") from None


def _check_count(name: str, value: object, alternative: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name!r} must be an integer from 1{alternative}, not {value!r}")
