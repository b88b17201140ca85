"""How many streams may be open: a place is taken before the source begins, and given back when it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from starlette.requests import HTTPConnection

from tests.asgi import Connection, app_of, fetch
from tidings import EventSourceResponse
from tidings.stream import Ending, StreamLimit

pytestmark = pytest.mark.anyio


def user(request: HTTPConnection) -> str | None:
    return request.headers.get("user")


async def user_later(request: HTTPConnection) -> str | None:
    return user(request)


async def endless() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


def assert_full(client: Connection) -> None:
    assert client.status == 503
    assert int(client.headers["retry-after"]) > 0
    assert client.complete


async def test_a_stream_too_many_is_503_until_another_one_has_ended() -> None:
    limit = StreamLimit(2)
    async with Connection(EventSourceResponse(endless(), stream_limit=limit)) as one:
        async with Connection(EventSourceResponse(endless(), stream_limit=limit)) as other:
            await one.until(b"1")
            await other.until(b"1")
            assert limit.open == 2
            response = EventSourceResponse(endless(), stream_limit=limit)
            assert_full(await fetch(response))
            assert response.ending is Ending.FAILED
            assert limit.open == 2
        assert limit.open == 1
        assert (await fetch(EventSourceResponse([1], stream_limit=limit))).status == 200
    assert limit.open == 0


async def test_a_key_has_its_own_bound_and_who_has_none_counts_for_the_total_alone() -> None:
    limit = StreamLimit(4, per_key=1, key=user)
    app = app_of(endless, response_class=type("Limited", (EventSourceResponse,), {"stream_limit": limit}))
    ada, bob = {"user": "ada"}, {"user": "bob"}
    async with Connection(app, headers=ada) as one:
        await one.until(b"1")
        assert_full(await fetch(app, headers=ada))
        async with Connection(app, headers=bob) as other, Connection(app) as third, Connection(app) as fourth:
            for client in (other, third, fourth):
                await client.until(b"1")
            assert_full(await fetch(app))
    async with Connection(app, headers=ada) as one:
        await one.until(b"1")
    assert limit.open == 0
    assert not limit._of_key, "a key without streams is forgotten"


async def test_the_key_is_taken_from_what_a_dependency_has_found_out() -> None:
    class Limited(EventSourceResponse):
        stream_limit = StreamLimit(per_key=1, key=lambda request: request.state.user)

    app = FastAPI()

    @app.get("/{name}", response_class=Limited)
    async def stream(name: str, request: Request) -> AsyncIterable[int]:
        async for item in endless():
            yield item

    @app.middleware("http")
    async def login(request: Request, call_next: Any) -> Any:
        request.state.user = request.url.path
        return await call_next(request)

    async with Connection(app, "/ada") as one:
        await one.until(b"1")
        assert_full(await fetch(app, "/ada"))
        async with Connection(app, "/bob") as other:
            await other.until(b"1")


async def test_a_source_that_is_refused_is_closed_and_has_not_begun() -> None:
    happened: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            happened.append("begun")
            return 1

        async def aclose(self) -> None:
            happened.append("closed")

    limit = StreamLimit(1)
    async with Connection(EventSourceResponse(endless(), stream_limit=limit)) as client:
        await client.until(b"1")
        assert_full(await fetch(EventSourceResponse(Source(), stream_limit=limit)))
        assert happened == ["closed"]


async def fails_first() -> AsyncIterator[int]:
    raise HTTPException(404)
    yield


async def fails_later() -> AsyncIterator[int]:
    yield 1
    raise ValueError("broken")


def in_a_thread() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("source", [fails_first, fails_later, in_a_thread, endless])
async def test_a_place_is_given_back_however_the_stream_ends(source: Any) -> None:
    limit = StreamLimit(1)
    client = Connection(EventSourceResponse(source(), stream_limit=limit))
    try:
        async with client:
            await client.until(lambda: client.messages)
            if source is endless:
                await client.until(b"1")
    except ValueError:
        assert source is fails_later
    assert limit.open == 0


async def test_a_place_is_held_until_the_source_is_closed_and_not_through_what_follows() -> None:
    limit = StreamLimit(1)
    closing, close = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closing.set()
            await close.wait()

    async def afterwards() -> None:
        seen.append(limit.open)

    response = EventSourceResponse(source(), stream_limit=limit, background=afterwards)  # type: ignore[arg-type]
    async with Connection(response) as client:
        await client.until(b"1")
        client.disconnect()
        await closing.wait()
        assert limit.open == 1
        close.set()
        await client.end()
    assert seen == [0]


async def test_a_cancelled_request_gives_its_place_back() -> None:
    limit = StreamLimit(1)
    client = Connection(EventSourceResponse(endless(), stream_limit=limit, start_delay=0))
    async with client:
        await client.until(b"1")
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.end()
    assert limit.open == 0


async def test_head_is_answered_as_get_would_be_and_keeps_no_place() -> None:
    limit = StreamLimit(1)
    client = await fetch(EventSourceResponse(endless(), stream_limit=limit), method="HEAD")
    assert (client.status, limit.open) == (200, 0)
    async with Connection(EventSourceResponse(endless(), stream_limit=limit)) as other:
        await other.until(b"1")
        assert (await fetch(EventSourceResponse(endless(), stream_limit=limit), method="HEAD")).status == 503


async def test_a_key_that_can_not_be_found_out_costs_no_place_and_no_open_source() -> None:
    closed: list[str] = []

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            return 1

        async def aclose(self) -> None:
            closed.append("source")

    limit = StreamLimit(1, per_key=1, key=lambda request: request.headers["user"])
    with pytest.raises(KeyError):
        await fetch(EventSourceResponse(Source(), stream_limit=limit))
    assert (closed, limit.open) == (["source"], 0)


async def test_a_key_that_would_have_to_be_awaited_lets_nobody_in() -> None:
    """It would be another one for each stream."""
    later = asyncio.get_running_loop().create_future()
    limit = StreamLimit(per_key=1, key=lambda request: later)
    with pytest.raises(TypeError, match="'key'"):
        await fetch(EventSourceResponse([1], stream_limit=limit))
    assert limit.open == 0


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"total": 0}, ValueError, "total"),
        ({"total": 1.5}, TypeError, "total"),
        ({"total": True}, TypeError, "total"),
        ({"per_key": 0, "key": user}, ValueError, "per_key"),
        ({"per_key": "3", "key": user}, TypeError, "per_key"),
        ({"per_key": 3}, ValueError, "key"),
        ({"key": user}, ValueError, "per_key"),
        ({"per_key": 3, "key": "user"}, TypeError, "key"),
        ({"per_key": 3, "key": user_later}, TypeError, "key"),
    ],
)
def test_arguments_that_can_not_be_used(arguments: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=f"'{named}'"):
        StreamLimit(**arguments)
