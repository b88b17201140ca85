"""The event source for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping
from typing import Any, Self, TypeVar, overload

import anyio

from tidings.client.http import head_of, lost_connection, new_async_client
from tidings.client.reconnect import INTERRUPTED, Answer, Connect, Deliver, Lost, Opened, Read, Reconnecting, Wait
from tidings.client.source import Source
from tidings.client.typed import AsyncTypedEvents, EventTypes
from tidings.events import Event
from tidings.wire.decoder import ReceivedEvent

__all__ = ["AsyncEventSource"]

E = TypeVar("E", bound=Event[Any])


class AsyncEventSource(Source):
    """Reads an event stream, connects again when it breaks off, and resumes (WHATWG HTML §9.2).

    An async context manager and an async iterator of `ReceivedEvent`. It connects with the first event that is asked
    for. Leaving a loop and entering another goes on with the next event. Where a wait for an event is cancelled, by
    `asyncio.timeout` for example, the connection is dropped, and the next wait connects again and resumes. It ends when
    the server answers with 204, or with `aclose`.

    Args:
        url: with http or https; relative only to the base URL of a client of your own.
        method: of the request; its body is sent again with each attempt.
        headers: to send beside our own, which they replace. Or a function that returns them, plain or async, called
            before each attempt: that is the place of a token that expires.
        params: for the query, added to those in the URL.
        json: the body, as JSON; Pydantic models, too.
        content: the body as it is.
        last_event_id: where to go on; sent as `Last-Event-ID`.
        client: an `httpx2.AsyncClient` or `httpx.AsyncClient` of your own, with its auth, proxies and timeouts. It
            isn't closed.
        retry: seconds before it connects again, until the server says otherwise. They double with each failure in a
            row up to 30 s, and are multiplied by a random 1 to 1.5.
        max_attempts: failures in a row after which it gives up, None: never.
        read_timeout: seconds without a byte after which it connects again, None: it waits as long as it takes.
        max_event_size: bytes that an unfinished event may hold.
        on_open: called with the response each time a stream opens.
        on_reconnect: called each time it will connect again, with the error, None if the stream just ended, and the
            delay in seconds.

    Raises:
        TypeError, ValueError: at once, an argument is wrong.
        ConnectionFailed: from iterating, as the others: `max_attempts` attempts in a row failed.
        ContentTypeError: the server sent something else than an event stream.
        EventTooLarge: an event outgrew `max_event_size`.
        StatusError: the server answered with a status on which nobody should come again: every one but 200, 204, the
            redirects, which are followed, and 429, 502, 503 and 504, which are tried again after the delay and not
            before their `Retry-After`.

    What is no lost connection, such as a redirect without end, is raised as the client raises it. After an error it is
    closed.
    """

    _is_async = True
    _scope: anyio.CancelScope | None = None  # around the step under way

    @overload
    def typed(self, events: type[E], *, strict: bool = False) -> AsyncTypedEvents[E]: ...
    @overload
    def typed(self, events: Any, *, strict: bool = False) -> AsyncTypedEvents[Any]: ...
    def typed(self, events: Any, *, strict: bool = False) -> AsyncTypedEvents[Any]:
        """Iterate typed events instead: each is the one of these classes that has its name.

        Args:
            events: one class of typed events, or a union: `Opened | Closed`.
            strict: whether an event of another name is an error; else it is skipped.

        Raises:
            TypeError, ValueError: at once, `events` is something else, or two have the same name.
            UnknownEvent: from iterating, as the next.
            pydantic.ValidationError: the data of an event doesn't fit its class.
        """
        return AsyncTypedEvents(self, EventTypes(events, strict))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        while True:
            for event in self._events:
                self._position.last_event_id = event.id
                return event
            await self._advance()

    async def aclose(self) -> None:
        """Drop the connection and connect no more. Who waits for an event, in another task, sees the end."""
        self._closed.set()
        self._events = iter(())
        if self._scope is None:
            await self._release()
        else:
            self._scope.cancel()  # it releases everything at its end

    async def _advance(self) -> None:
        """Do the next step."""
        if self._closed.is_set():
            raise StopAsyncIteration
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another task is waiting for an event of this source: give each task its own")
        try:
            with anyio.CancelScope() as self._scope:
                step = self._steps.send(self._answer)
                self._answer = INTERRUPTED
                self._answer = await self._do(step)
        except StopIteration:
            self._closed.set()
        except Exception:
            self._closed.set()
            raise
        finally:
            self._scope = None
            self._busy.release()
            if self._closed.is_set():
                await self._release()

    async def _do(self, step: object) -> Answer:
        match step:
            case Read():
                return await self._read()
            case Deliver(events):
                self._events = iter(events)
            case Connect(headers):
                return await self._connect(headers)
            case Opened():
                if self._on_open is not None:
                    self._on_open(self._response)
            case Reconnecting(error, delay):
                await self._drop()
                if self._on_reconnect is not None:
                    self._on_reconnect(error, delay)
            case Wait(seconds):
                await anyio.sleep(seconds)
        return None

    async def _connect(self, own_headers: Mapping[str, str | bytes]) -> Answer:
        if self._client is None:
            self._client = new_async_client()
        headers = self._headers() if callable(self._headers) else self._headers
        if inspect.isawaitable(headers):
            headers = await headers
        request = self._build_request(own_headers, headers)
        try:
            self._response = await self._client.send(request, stream=True, follow_redirects=True)
        except Exception as error:
            if not lost_connection(error):
                raise
            return Lost(error)
        self._chunks = self._response.aiter_bytes()
        return head_of(self._response)

    async def _read(self) -> Answer:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            return Lost()
        except Exception as error:
            if not lost_connection(error):
                raise
            return Lost(error)

    async def _drop(self) -> None:
        """Leave the response."""
        response, self._response, self._chunks = self._response, None, None
        if response is not None:
            await _undisturbed(response.aclose())

    async def _release(self) -> None:
        """Leave everything that is ours."""
        await self._drop()
        self._steps.close()
        client, self._client = self._client, None
        if client is not None and self._owns_client:
            await _undisturbed(client.aclose())


async def _undisturbed(closing: Coroutine[Any, Any, None]) -> None:
    """Wait until something is closed, cancelled or not: a connection closed by half keeps its place in the pool.

    In a task of its own, as a shielded scope keeps off other scopes alone, and not `asyncio.timeout` or `Task.cancel`.
    """
    task = asyncio.create_task(closing)
    with anyio.CancelScope(shield=True):
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
