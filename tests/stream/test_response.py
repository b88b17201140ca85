"""The response itself: its options and headers, HEAD, and the three ways to use it."""

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient as FastAPITestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.asgi import Connection, app_of, fetch
from tests.stream import postponed
from tidings import EventSourceResponse
from tidings.errors import ItemError

pytestmark = pytest.mark.anyio


async def three() -> AsyncIterator[int]:
    for number in range(3):
        yield number


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"ping": 3}, {"pinginterval": 3}, {"media_type": "text/plain"}])
def test_an_unknown_option_is_refused_with_the_known_ones(options: Any) -> None:
    with pytest.raises(TypeError, match=r"unknown option .* ping_interval, start_delay"):
        EventSourceResponse([], **options)


BAD_OPTIONS = [
    ("ping_interval", -1),
    ("ping_interval", "15"),
    ("ping_interval", True),
    ("ping_interval", float("nan")),
    ("ping_interval", float("inf")),
    ("start_delay", -0.1),
    ("send_timeout", 0),
    ("cleanup_timeout", 0),
    ("max_events", 0),
    ("max_events", -1),
    ("max_events", 1.0),
    ("max_events", True),
    ("max_duration", 0),
    ("max_duration", float("inf")),
    ("expires_at", "tomorrow"),
    ("stream_limit", 10),
    ("retry", -1),
    ("retry", 1.5),
    ("retry", True),
]


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_an_option_out_of_range_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        EventSourceResponse([], **{name: value})


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_an_option_out_of_range_is_refused_in_a_subclass_when_it_is_defined(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        type("Wrong", (EventSourceResponse,), {name: value})


@pytest.mark.parametrize(
    "name",
    [
        *("ping_interval", "retry", "start_delay", "send_timeout", "cleanup_timeout", "max_events", "max_duration"),
        *("expires_at", "stream_limit"),
    ],
)
async def test_every_option_may_be_none(name: str) -> None:
    assert (await fetch(EventSourceResponse([1], **{name: None}))).body == b"data: 1\n\n"  # type: ignore[arg-type]


def test_the_options_have_the_documented_defaults() -> None:
    response = EventSourceResponse([])
    assert response.ping_interval == 15.0
    assert response.retry is None
    assert response.start_delay == 0.1
    assert response.send_timeout == 30.0
    assert response.cleanup_timeout == 5.0
    assert response.max_events is None
    assert response.max_duration is None
    assert response.expires_at is None
    assert response.stream_limit is None
    assert response.max_sync_streams == 512
    assert response.status_code == 200


async def test_an_argument_goes_before_the_attribute_of_a_subclass() -> None:
    class Two(EventSourceResponse):
        max_events = 2

    assert (await fetch(Two(three()))).body == b"data: 0\n\ndata: 1\n\n"
    assert (await fetch(Two(three(), max_events=1))).body == b"data: 0\n\n"
    assert (await fetch(Two(three(), max_events=None))).body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


# -- headers ----------------------------------------------------------------------------------------------------------


async def test_the_headers_of_an_event_stream() -> None:
    client = await fetch(EventSourceResponse([]))
    assert client.header_list == [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ]


async def test_headers_that_are_given_win_whatever_their_case() -> None:
    headers = {
        "Cache-Control": "no-store",
        "X-ACCEL-BUFFERING": "yes",
        "Content-Type": "text/event-stream",
        "X-Pier": "9",
    }
    client = await fetch(EventSourceResponse([], headers=headers))
    assert sorted(client.header_list) == [
        ("cache-control", "no-store"),
        ("content-type", "text/event-stream"),
        ("x-accel-buffering", "yes"),
        ("x-pier", "9"),
    ]


async def test_headers_and_cookies_can_be_set_on_the_response() -> None:
    response = EventSourceResponse([], status_code=202)
    response.headers["x-pier"] = "9"
    response.headers["cache-control"] = "private"
    response.set_cookie("berth", "7")
    client = await fetch(response)
    assert client.status == 202
    assert client.headers["x-pier"] == "9"
    assert [value for name, value in client.header_list if name == "cache-control"] == ["private"]
    assert client.headers["set-cookie"].startswith("berth=7")


async def test_there_is_no_content_length() -> None:
    assert "content-length" not in (await fetch(EventSourceResponse([1]))).headers


# -- HEAD -------------------------------------------------------------------------------------------------------------


async def test_head_gets_the_headers_and_the_source_never_begins() -> None:
    begun: list[str] = []

    async def source() -> AsyncIterator[int]:
        begun.append("async")
        yield 1

    def sync_source() -> Iterator[int]:
        begun.append("sync")
        yield 1

    for content in (source(), sync_source(), [1]):
        client = await fetch(EventSourceResponse(content, headers={"x-pier": "9"}), method="HEAD")
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.headers["x-pier"] == "9"
        assert client.body == b""
        assert client.complete
    assert begun == []


async def test_head_on_a_route_of_starlette_and_of_fastapi() -> None:
    async def endpoint(_request: Request) -> EventSourceResponse:
        return EventSourceResponse(three())

    async def yields() -> AsyncIterable[int]:
        yield 1

    for app in (Starlette(routes=[Route("/", endpoint)]), app_of(yields, "HEAD")):
        client = await fetch(app, method="HEAD")
        assert (client.status, client.body, client.complete) == (200, b"", True)
        assert client.headers["cache-control"] == "no-cache"


# -- Starlette --------------------------------------------------------------------------------------------------------


async def test_returned_from_endpoints_of_starlette() -> None:
    async def function(request: Request) -> EventSourceResponse:
        return EventSourceResponse(three(), max_events=int(request.query_params.get("n", "9")))

    def sync_function(_request: Request) -> EventSourceResponse:
        return EventSourceResponse(iter([7]))

    class Class(HTTPEndpoint):
        async def get(self, _request: Request) -> EventSourceResponse:
            return EventSourceResponse(three())

    app = Starlette(routes=[Route("/function", function), Route("/sync", sync_function), Route("/class", Class)])
    assert (await fetch(app, "/function?n=2")).body == b"data: 0\n\ndata: 1\n\n"
    assert (await fetch(app, "/sync")).body == b"data: 7\n\n"
    assert (await fetch(app, "/class")).body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_an_annotated_endpoint_of_starlette_that_returns_the_response_takes_any_item() -> None:
    async def endpoint(_request: Request) -> AsyncIterable[int]:
        return EventSourceResponse(["no int"])  # type: ignore[return-value]

    assert (await fetch(Starlette(routes=[Route("/", endpoint)]))).body == b'data: "no int"\n\n'


async def test_an_http_exception_of_a_source_is_handled_by_starlette() -> None:
    async def source() -> AsyncIterator[int]:
        raise HTTPException(409, "berth taken")
        yield 1

    async def endpoint(_request: Request) -> EventSourceResponse:
        return EventSourceResponse(source())

    client = await fetch(Starlette(routes=[Route("/", endpoint)]))
    assert (client.status, client.body) == (409, b"berth taken")


async def test_a_background_task_of_starlette_runs_after_the_stream() -> None:
    notes: list[str] = []
    await fetch(EventSourceResponse([1], background=BackgroundTask(notes.append, "done")))
    assert notes == ["done"]


# -- bare ASGI --------------------------------------------------------------------------------------------------------


async def test_called_as_an_asgi_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventSourceResponse([scope["path"]])(scope, receive, send)

    client = await fetch(app, "/quay")
    assert client.body == b'data: "/quay"\n\n'
    assert client.complete


async def test_an_http_exception_without_a_framework_becomes_a_plain_response() -> None:
    async def source() -> AsyncIterator[int]:
        raise HTTPException(404, "no such quay", headers={"x-chart": "2"})
        yield 1

    client = await fetch(EventSourceResponse(source()))
    assert (client.status, client.body, client.complete) == (404, b"no such quay", True)
    assert client.headers["x-chart"] == "2"
    assert client.headers["content-type"].startswith("text/plain")


async def test_an_http_exception_after_the_start_is_raised() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise HTTPException(404, "too late")

    async with Connection(EventSourceResponse(source())) as client:
        with pytest.raises(HTTPException):
            await client.end()
    assert (client.status, client.body, client.complete) == (200, b"data: 1\n\n", False)


async def test_a_websocket_is_refused() -> None:
    async with Connection(EventSourceResponse([1])) as client:
        client.scope["type"] = "websocket"
        with pytest.raises(RuntimeError, match="HTTP"):
            await client.end()
    assert client.messages == []


# -- test clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_client", [TestClient, FastAPITestClient])
def test_a_test_client_reads_a_stream_that_ends(test_client: Any) -> None:
    async def endpoint() -> AsyncIterable[int]:
        for number in range(3):
            yield number
            await asyncio.sleep(0.001)

    with test_client(app_of(endpoint)) as client:
        response = client.get("/")
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        with client.stream("GET", "/") as response:
            assert [line for line in response.iter_lines() if line] == ["data: 0", "data: 1", "data: 2"]


def test_a_test_client_leaves_an_endless_stream() -> None:
    closed: list[bool] = []

    async def endpoint() -> AsyncIterable[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.001)
        finally:
            closed.append(True)

    with TestClient(app_of(endpoint)) as client, client.stream("GET", "/") as response:
        lines = response.iter_lines()
        assert next(lines) == "data: 1"
    assert closed == [True]


def test_a_test_client_leaves_a_stream_that_is_idle() -> None:
    closed: list[bool] = []

    async def endpoint() -> AsyncIterable[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    with TestClient(app_of(endpoint)) as client, client.stream("GET", "/") as response:
        assert next(response.iter_lines()) == "data: 1"
    assert closed == [True]


# -- annotations that are strings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [postponed.lamps, postponed.lamps_sync, functools.partial(postponed.lamps)])
async def test_annotations_that_are_strings_are_resolved(endpoint: Any) -> None:
    client = await fetch(app_of(endpoint), "/?watts=40")
    assert client.body == b'data: {"watts":40}\n\n'


async def test_an_item_that_does_not_fit_a_string_annotation_is_an_error() -> None:
    async with Connection(app_of(postponed.broken_lamps)) as client:
        with pytest.raises(ItemError, match="Lamp"):
            await client.end()


@pytest.mark.parametrize("endpoint", [postponed.unknown_lamps, functools.partial(postponed.unknown_lamps)])
async def test_an_annotation_that_names_what_is_imported_for_type_checkers_only_is_warned_about_once(
    endpoint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    app.add_api_route("/", endpoint, response_class=EventSourceResponse, response_model=None)
    for _ in range(2):
        assert (await fetch(app)).body == b'data: {"watts":"unchecked"}\n\n'
    [record] = [record for record in caplog.records if record.name == "tidings.stream"]
    assert "not validated" in record.getMessage()
    assert "Decimal" in record.getMessage()


@pytest.mark.anyio
@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_content_has_none_also_without_a_framework(status: int) -> None:
    async def source() -> AsyncIterator[int]:
        raise HTTPException(status)
        yield 1

    done = await fetch(EventSourceResponse(source()))
    assert done.status == status
    assert done.body == b""
    assert done.complete
