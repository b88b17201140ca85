"""Dependencies and middlewares around a stream."""

import asyncio
import contextvars
import gzip
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from tests.asgi import Connection, app_of, fetch
from tidings import EventSourceResponse
from tidings.stream.loop import LoopState

pytestmark = pytest.mark.anyio

lock: contextvars.ContextVar[str] = contextvars.ContextVar("lock", default="open")


class Notes(list[str]):
    """A dependency with `yield` that notes when it is opened and closed."""

    async def chart(self) -> AsyncIterator[str]:
        lock.set("shut")
        self.append("chart opened")
        try:
            yield "chart"
        finally:
            self.append("chart closed")

    def lamp(self) -> Iterator[str]:
        self.append("lamp lit")
        yield "lamp"
        self.append("lamp out")


# -- dependencies -----------------------------------------------------------------------------------------------------


async def test_a_dependency_with_yield_is_open_until_the_stream_has_ended() -> None:
    notes = Notes()

    async def endpoint(
        chart: Annotated[str, Depends(notes.chart)], lamp: Annotated[str, Depends(notes.lamp)]
    ) -> AsyncIterable[str]:
        try:
            yield chart
            notes.append("between")
            await asyncio.sleep(0.001)
            yield lamp
        finally:
            notes.append("source closed")

    client = await fetch(app_of(endpoint))
    assert client.body == b'data: "chart"\n\ndata: "lamp"\n\n'
    assert notes == ["chart opened", "lamp lit", "between", "source closed", "lamp out", "chart closed"]


async def test_a_dependency_is_closed_after_the_source_when_the_client_leaves() -> None:
    notes = Notes()

    async def endpoint(chart: Annotated[str, Depends(notes.chart)]) -> AsyncIterable[str]:
        try:
            yield chart
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            notes.append("source closed")

    async with Connection(app_of(endpoint)) as client:
        await client.until(b"chart")
    assert notes == ["chart opened", "source closed", "chart closed"]


async def test_a_dependency_is_closed_after_a_source_that_failed_and_sees_what_it_raised() -> None:
    seen: list[str] = []

    async def chart() -> AsyncIterator[str]:
        try:
            yield "chart"
        except LookupError as error:
            seen.append(repr(error))
            raise
        finally:
            seen.append("chart closed")

    async def endpoint(chart: Annotated[str, Depends(chart)]) -> AsyncIterable[str]:
        yield chart
        raise LookupError("torn")

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(LookupError):
            await client.end()
    assert seen == ["LookupError('torn')", "chart closed"]


async def test_a_dependency_of_the_function_is_closed_before_the_stream_and_one_of_the_request_after_it() -> None:
    notes = Notes()

    async def endpoint(
        chart: Annotated[str, Depends(notes.chart, scope="request")],
        lamp: Annotated[str, Depends(notes.lamp, scope="function")],
    ) -> AsyncIterable[str]:
        notes.append("streaming")
        yield chart + lamp

    await fetch(app_of(endpoint))
    assert notes == ["chart opened", "lamp lit", "lamp out", "streaming", "chart closed"]


@pytest.mark.parametrize("sync", [False, True])
async def test_context_variables_of_a_dependency_are_seen_in_the_stream(sync: bool) -> None:
    notes = Notes()

    async def endpoint(chart: Annotated[str, Depends(notes.chart)]) -> AsyncIterable[str]:
        yield lock.get()
        await asyncio.sleep(0.001)
        yield lock.get()

    def sync_endpoint(chart: Annotated[str, Depends(notes.chart)]) -> Iterator[str]:
        yield lock.get()
        yield lock.get()

    client = await fetch(app_of(sync_endpoint if sync else endpoint))
    assert client.body == b'data: "shut"\n\ndata: "shut"\n\n'


async def test_a_background_task_runs_after_the_source_and_when_the_client_left_too() -> None:
    notes = Notes()

    async def endpoint(background: BackgroundTasks) -> AsyncIterable[str]:
        background.add_task(notes.append, "logged")
        try:
            yield "begun"
            await asyncio.Event().wait()
        finally:
            notes.append("source closed")

    async with Connection(app_of(endpoint)) as client:
        await client.until(b"begun")
    assert notes == ["source closed", "logged"]


# -- middlewares ------------------------------------------------------------------------------------------------------


def base_http(app: Any) -> Any:
    async def pass_through(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch=pass_through)


def cors(app: Any) -> Any:
    return CORSMiddleware(app, allow_origins=["*"])


def gzipped(app: Any) -> Any:
    return GZipMiddleware(app, minimum_size=1)


def all_of_them(app: Any) -> Any:
    return base_http(gzipped(cors(base_http(app))))


each_middleware = pytest.mark.parametrize("middleware", [base_http, cors, gzipped, all_of_them])

HEADERS = {"origin": "http://pilot.example", "accept-encoding": "gzip"}


class Watched:
    """An application whose sources note their end."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.app = FastAPI()
        self.app.get("/three", response_class=EventSourceResponse)(self.three)
        self.app.get("/idle", response_class=EventSourceResponse)(self.idle)
        self.app.get("/idle-at-first", response_class=EventSourceResponse)(self.idle_at_first)
        self.app.get("/restless", response_class=EventSourceResponse)(self.restless)
        self.app.get("/fails", response_class=EventSourceResponse)(self.fails)
        self.app.get("/missing", response_class=EventSourceResponse)(self.missing)
        self.app.get("/page")(self.page)

    async def three(self) -> AsyncIterable[str]:
        for _ in range(3):
            yield "knot " * 20
            await asyncio.sleep(0.001)

    async def idle(self) -> AsyncIterable[str]:
        try:
            yield "begun"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.closed.append("idle")

    async def idle_at_first(self) -> AsyncIterable[str]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            self.closed.append("idle at first")

    async def restless(self) -> AsyncIterable[str]:
        try:
            while True:
                yield "wave"
        finally:
            self.closed.append("restless")

    async def fails(self) -> AsyncIterable[str]:
        yield "begun"
        raise LookupError("sprung a leak")

    async def missing(self) -> AsyncIterable[str]:
        await asyncio.sleep(0.001)
        raise HTTPException(404, "not on the chart")
        yield ""

    async def page(self) -> str:
        return "knot " * 100


@each_middleware
async def test_a_stream_is_the_same_behind_a_middleware(middleware: Any) -> None:
    watched = Watched()
    plain = await fetch(watched.app, "/three")
    client = await fetch(middleware(watched.app), "/three", headers=HEADERS)
    assert client.body == plain.body
    assert client.complete
    assert "content-encoding" not in client.headers
    assert {name: client.headers[name] for name in plain.headers} == plain.headers


async def test_the_middlewares_of_these_tests_do_their_work() -> None:
    client = await fetch(all_of_them(Watched().app), "/page", headers=HEADERS)
    assert client.headers["access-control-allow-origin"] == "*"
    assert gzip.decompress(client.body) == b'"' + b"knot " * 100 + b'"'


@each_middleware
async def test_items_arrive_at_once_behind_a_middleware(middleware: Any) -> None:
    async with Connection(middleware(Watched().app), "/idle", headers=HEADERS) as client:
        await client.until(b'data: "begun"\n\n')


@each_middleware
@pytest.mark.parametrize("path", ["/idle", "/restless"])
async def test_a_client_that_leaves_is_noticed_behind_a_middleware(middleware: Any, path: str) -> None:
    watched = Watched()
    async with Connection(middleware(watched.app), path, headers=HEADERS) as client:
        await client.until(b"data: ")
    assert watched.closed == [path[1:]]


@each_middleware
@pytest.mark.parametrize("path", ["/idle", "/restless"])
async def test_a_client_that_leaves_without_reading_is_noticed_behind_a_middleware(middleware: Any, path: str) -> None:
    watched = Watched()
    async with Connection(middleware(watched.app), path, headers=HEADERS) as client:
        await client.until(b"data: ")
        client.stop_reading()
        client.disconnect()
        await client.end()
    assert watched.closed == [path[1:]]


@each_middleware
async def test_a_client_that_leaves_before_the_start_is_no_error_behind_a_middleware(middleware: Any) -> None:
    class Patient(EventSourceResponse):
        start_delay = None

    watched = Watched()
    app = app_of(watched.idle_at_first, response_class=Patient)
    connection = Connection(middleware(app), headers=HEADERS)
    async with connection:
        for _ in range(20):
            await asyncio.sleep(0)
        connection.disconnect()
        await connection.end()
    assert watched.closed == ["idle at first"]


@each_middleware
async def test_an_exception_before_the_first_item_has_its_status_behind_a_middleware(middleware: Any) -> None:
    client = await fetch(middleware(Watched().app), "/missing", headers={"origin": "http://pilot.example"})
    assert (client.status, client.body) == (404, b'{"detail":"not on the chart"}')


@each_middleware
async def test_an_exception_after_the_start_goes_up_through_a_middleware(middleware: Any) -> None:
    async with Connection(middleware(Watched().app), "/fails", headers=HEADERS) as client:
        with pytest.raises(LookupError, match="sprung a leak"):
            await client.end()
    assert client.status == 200
    assert client.body == b'data: "begun"\n\n'


@each_middleware
@pytest.mark.parametrize("path", ["/idle", "/idle-at-first", "/restless"])
async def test_a_shutdown_ends_a_stream_cleanly_behind_a_middleware(middleware: Any, path: str) -> None:
    watched = Watched()
    async with Connection(middleware(watched.app), path, headers=HEADERS) as client:
        await client.until(lambda: client.body)
        LoopState.current().shutdown.begin()
        await client.end()
    assert client.complete
    assert b"retry: " in client.body
    assert len(watched.closed) == 1
