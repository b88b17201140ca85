"""How client libraries read an event stream, each through its public API."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import httpx2
import httpx_sse

from tidings.client import AsyncEventSource, EventSource
from tidings.errors import TidingsError
from tidings.wire import EventDecoder

URL = "http://recording/"
HEADERS = {"content-type": "text/event-stream; charset=utf-8"}
MAX_EVENT_SIZE = 16 << 20
ERRORS = (httpx.HTTPError, httpx2.HTTPError, TidingsError)
"""What reading a stream raises where it fails."""

Chunks = Sequence[bytes]


class Event(Protocol):
    @property
    def event(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def id(self) -> str: ...


@dataclass(frozen=True)
class Reader:
    decode: Callable[[Chunks], Iterator[Event]]
    """The events of a response whose body is there, in these chunks: decoding, and hardly anything else."""
    client: Callable[[], Any]
    """The HTTP client that it works with."""
    client_of: Callable[[Chunks], Any]
    """One that gives this response instead of a connection's."""
    async_client: Callable[[], Any]
    stream: Callable[[Any, str], AbstractContextManager[Iterator[Event]]]
    """Of such a client and a URL: the events that come from there."""
    async_stream: Callable[[Any, str], AbstractAsyncContextManager[AsyncIterator[Event]]]


def httpx2_response(chunks: Chunks) -> httpx2.Response:
    return httpx2.Response(200, headers=HEADERS, content=iter(chunks), request=httpx2.Request("GET", URL))


def httpx2_client_of(chunks: Chunks) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2_response(chunks)))


def httpx_response(chunks: Chunks) -> httpx.Response:
    return httpx.Response(200, headers=HEADERS, content=iter(chunks), request=httpx.Request("GET", URL))


def httpx_client_of(chunks: Chunks) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(lambda _: httpx_response(chunks)))


# -- tidings ----------------------------------------------------------------------------------------------------------


def tidings_decode(chunks: Chunks) -> Iterator[Event]:
    decoder = EventDecoder(MAX_EVENT_SIZE)
    for chunk in httpx2_response(chunks).iter_bytes():
        yield from decoder.feed(chunk)


@contextmanager
def tidings_stream(client: httpx2.Client, url: str) -> Iterator[Iterator[Event]]:
    with EventSource(url, client=client) as source:
        yield source


@asynccontextmanager
async def tidings_async_stream(client: httpx2.AsyncClient, url: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with AsyncEventSource(url, client=client) as source:
        yield source


# -- httpx2 -----------------------------------------------------------------------------------------------------------


def httpx2_decode(chunks: Chunks) -> Iterator[Event]:
    return iter(httpx2.EventSource(httpx2_response(chunks), MAX_EVENT_SIZE))


@contextmanager
def httpx2_stream(client: httpx2.Client, url: str) -> Iterator[Iterator[Event]]:
    with client.sse(url) as source:
        yield iter(source)


@asynccontextmanager
async def httpx2_async_stream(client: httpx2.AsyncClient, url: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with client.sse(url) as source:
        yield aiter(source)


# -- httpx-sse --------------------------------------------------------------------------------------------------------


def httpx_sse_decode(chunks: Chunks) -> Iterator[Event]:
    return httpx_sse.EventSource(httpx_response(chunks)).iter_sse()


@contextmanager
def httpx_sse_stream(client: httpx.Client, url: str) -> Iterator[Iterator[Event]]:
    with httpx_sse.connect_sse(client, "GET", url) as source:
        yield source.iter_sse()


@asynccontextmanager
async def httpx_sse_async_stream(client: httpx.AsyncClient, url: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with httpx_sse.aconnect_sse(client, "GET", url) as source:
        yield source.aiter_sse()


TIDINGS = Reader(
    tidings_decode,
    client=httpx2.Client,
    client_of=httpx2_client_of,
    async_client=httpx2.AsyncClient,
    stream=tidings_stream,
    async_stream=tidings_async_stream,
)
HTTPX2 = Reader(
    httpx2_decode,
    client=httpx2.Client,
    client_of=httpx2_client_of,
    async_client=httpx2.AsyncClient,
    stream=httpx2_stream,
    async_stream=httpx2_async_stream,
)
HTTPX_SSE = Reader(
    httpx_sse_decode,
    client=httpx.Client,
    client_of=httpx_client_of,
    async_client=httpx.AsyncClient,
    stream=httpx_sse_stream,
    async_stream=httpx_sse_async_stream,
)
