"""One way to read for all kinds of event sources, so that each test of their behaviour is written once."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Self

import httpx
import httpx2

from tests.client.misbehaving import PATIENCE
from tidings.client import AsyncEventSource, EventSource
from tidings.wire import ReceivedEvent

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that talk to no TLS: without it each of them loads every certificate of the system."""


class Reading(ABC):
    """An event source, read step by step.

    Attributes:
        source: the event source.
        opened: the status of each response that `on_open` was called with.
        reconnects: what `on_reconnect` was called with.
    """

    client_class: ClassVar[Any] = None
    """Of the client that is given to the source, None: it makes its own."""

    library: ClassVar[Any] = httpx2
    is_async: ClassVar[bool]

    def __init__(self, url: str, *, client: Any = None, **options: Any) -> None:
        self.opened: list[int] = []
        self.reconnects: list[tuple[Exception | None, float]] = []
        self._own_client = client is None
        self.client = self.make_client() if client is None else client
        options = {
            "retry": 0.001,
            "on_open": lambda response: self.opened.append(response.status_code),
            "on_reconnect": lambda error, delay: self.reconnects.append((error, delay)),
            **options,
        }
        self.source = self.make_source(url, client=self.client, **options)

    @classmethod
    def make_client(cls, **options: Any) -> Any:
        """A client that the source is to use."""
        return None if cls.client_class is None else cls.client_class(verify=NO_TLS, **options)

    @abstractmethod
    def make_source(self, url: str, **options: Any) -> Any: ...

    @abstractmethod
    def next(self, source: Any = None) -> Any:
        """The next event of the source, or of what iterates it; `StopIteration` at the end."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def close_client(self) -> None: ...

    def take(self, count: int) -> list[ReceivedEvent]:
        return [self.next() for _ in range(count)]

    def rest(self, source: Any = None) -> list[Any]:
        """All that comes until the end."""
        events = []
        while True:
            try:
                events.append(self.next(source))
            except StopIteration:
                return events

    def data(self) -> list[str]:
        """The data of all that comes until the end."""
        return [event.data for event in self.rest()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
        if self._own_client and self.client is not None:
            assert not self.client.is_closed, "a caller's client is the caller's"
            self.close_client()


class SyncReading(Reading):
    is_async = False

    def make_source(self, url: str, **options: Any) -> EventSource:
        return EventSource(url, **options)

    def next(self, source: Any = None) -> Any:
        return next(source or self.source)

    def close(self) -> None:
        self.source.close()

    def close_client(self) -> None:
        self.client.close()


class AsyncReading(Reading):
    is_async = True

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        super().__init__(url, **options)

    def make_source(self, url: str, **options: Any) -> AsyncEventSource:
        return AsyncEventSource(url, **options)

    def next(self, source: Any = None) -> Any:
        try:
            return self._run(anext(source or self.source))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._run(self.source.aclose())

    def close_client(self) -> None:
        self._run(self.client.aclose())

    def _run(self, step: Awaitable[Any]) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(PATIENCE):
                return await step

        return self._runner.run(within())

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)

            async def leftovers() -> set[asyncio.Task[Any]]:
                tasks: set[Any] = set()
                for _ in range(20):  # httpx leaves generators to the garbage collector, which closes them in tasks
                    tasks = asyncio.all_tasks() - {asyncio.current_task()}
                    if not tasks:
                        break
                    await asyncio.sleep(0)
                return tasks

            assert not self._runner.run(leftovers())
        finally:
            self._runner.close()


class Httpx2Async(AsyncReading):
    client_class = httpx2.AsyncClient


class HttpxAsync(AsyncReading):
    client_class = httpx.AsyncClient
    library = httpx


class Httpx2Sync(SyncReading):
    client_class = httpx2.Client


class HttpxSync(SyncReading):
    client_class = httpx.Client
    library = httpx


KINDS: dict[str, type[Reading]] = {
    "async": AsyncReading,
    "sync": SyncReading,
    "async-httpx2": Httpx2Async,
    "sync-httpx2": Httpx2Sync,
    "async-httpx": HttpxAsync,
    "sync-httpx": HttpxSync,
}

Read = Callable[..., Reading]
