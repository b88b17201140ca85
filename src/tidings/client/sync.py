"""The event source for plain Python, without an event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar, overload

from tidings.client.http import head_of, lost_connection, new_client
from tidings.client.reconnect import INTERRUPTED, Answer, Connect, Deliver, Lost, Opened, Read, Reconnecting, Wait
from tidings.client.source import Source
from tidings.client.typed import EventTypes, TypedEvents
from tidings.events import Event
from tidings.wire.decoder import ReceivedEvent

__all__ = ["EventSource"]

E = TypeVar("E", bound=Event[Any])


class EventSource(Source):
    """As `AsyncEventSource`, to use without an event loop: a context manager and an iterator of `ReceivedEvent`.

    `headers` is a mapping or a plain function, `client` an `httpx2.Client` or `httpx.Client`. One thread may iterate
    at a time.
    """

    _is_async = False

    @overload
    def typed(self, events: type[E], *, strict: bool = False) -> TypedEvents[E]: ...
    @overload
    def typed(self, events: Any, *, strict: bool = False) -> TypedEvents[Any]: ...
    def typed(self, events: Any, *, strict: bool = False) -> TypedEvents[Any]:
        """As `AsyncEventSource.typed`."""
        return TypedEvents(self, EventTypes(events, strict))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedEvent:
        while True:
            for event in self._events:
                self._position.last_event_id = event.id
                return event
            self._advance()

    def close(self) -> None:
        """Drop the connection and connect no more.

        Another thread may call it: who waits to connect again sees the end at once, who waits for an event with the
        next byte, or when `read_timeout` has passed.
        """
        self._closed.set()
        self._release_if_idle()

    def _advance(self) -> None:
        """Do the next step."""
        if self._closed.is_set():
            raise StopIteration
        if not self._busy.acquire(blocking=False):
            if self._closed.is_set():  # meanwhile, by another thread, which still releases everything
                raise StopIteration
            raise RuntimeError("another thread is waiting for an event of this source: give each thread its own")
        try:
            step = self._steps.send(self._answer)
            self._answer = INTERRUPTED
            self._answer = self._do(step)
        except StopIteration:
            self._closed.set()
        except Exception:
            self._closed.set()
            raise
        finally:
            self._busy.release()
            if self._closed.is_set():
                self._release_if_idle()

    def _do(self, step: object) -> Answer:
        match step:
            case Read():
                return self._read()
            case Deliver(events):
                self._events = iter(events)
            case Connect(headers):
                return self._connect(headers)
            case Opened():
                if self._on_open is not None:
                    self._on_open(self._response)
            case Reconnecting(error, delay):
                self._drop()
                if self._on_reconnect is not None:
                    self._on_reconnect(error, delay)
            case Wait(seconds):
                self._closed.wait(seconds)
        return None

    def _connect(self, own_headers: Mapping[str, str | bytes]) -> Answer:
        if self._client is None:
            self._client = new_client()
        headers = self._headers() if callable(self._headers) else self._headers
        request = self._build_request(own_headers, headers)
        try:
            self._response = self._client.send(request, stream=True, follow_redirects=True)
        except Exception as error:
            if not lost_connection(error):
                raise
            return Lost(error)
        self._chunks = self._response.iter_bytes()
        return head_of(self._response)

    def _read(self) -> Answer:
        try:
            return next(self._chunks)  # type: ignore[no-any-return]
        except StopIteration:
            return Lost()
        except Exception as error:
            if not lost_connection(error):
                raise
            return Lost(error)

    def _drop(self) -> None:
        """Leave the response."""
        response, self._response, self._chunks = self._response, None, None
        if response is not None:
            response.close()

    def _release_if_idle(self) -> None:
        """Leave everything that is ours, unless a step is under way: it does so at its end."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._drop()
            self._events = iter(())
            self._steps.close()
            client, self._client = self._client, None
            if client is not None and self._owns_client:
                client.close()
        finally:
            self._busy.release()
