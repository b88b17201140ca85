"""The lifespan of an application, as a server runs it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request

from tests.testing.apps import END, HEAD, sending
from tidings import EventSourceResponse
from tidings.testing import lifespan, open_stream
from tidings.testing.clock import advance

pytestmark = pytest.mark.anyio


def app_with(body: Callable[[], AsyncIterator[Any]]) -> FastAPI:
    @asynccontextmanager
    async def own(_app: FastAPI) -> AsyncIterator[Any]:
        async for value in body():
            yield value

    return FastAPI(lifespan=own)


def speaking(*steps: Any) -> Any:
    """An application whose lifespan does this: text is said, "?" asks for a message, an exception is raised."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await send(HEAD)
            await send(END)
            return
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            if step == "?":
                await receive()
            elif step == "for ever":
                while True:
                    await receive()
            elif callable(step):
                await step()
            else:
                await send({"type": f"lifespan.{step}", "message": "no database"})

    return app


async def test_it_starts_before_and_stops_after() -> None:
    said = []

    async def body() -> AsyncIterator[None]:
        said.append("started")
        yield
        said.append("stopped")

    async with lifespan(app_with(body)):
        assert said == ["started"]
    assert said == ["started", "stopped"]


async def test_what_it_leaves_for_requests() -> None:
    async def body() -> AsyncIterator[dict[str, Any]]:
        yield {"number": 7}

    app = app_with(body)

    @app.get("/", response_class=EventSourceResponse)
    async def stream(request: Request) -> AsyncIterator[int]:
        yield request.state.number
        request.state.number = 8

    async with lifespan(app):
        for _ in range(2):
            async with open_stream(app) as opened:
                assert (await opened.next()).json() == 7


@pytest.mark.parametrize(
    "app",
    [
        sending(AssertionError("only http")),
        sending(then=None),
        EventSourceResponse([1]),
        speaking("?"),
        speaking("startup.complete"),
        speaking("?", "startup.complete", "?", "shutdown.complete"),
        speaking("?", "startup.complete", "?", "shutdown.complete", "for ever"),
        speaking("?", "startup.complete", "for ever"),
    ],
)
async def test_what_servers_tolerate(app: Any) -> None:
    before = asyncio.all_tasks()
    async with lifespan(app):
        pass
    assert asyncio.all_tasks() == before


async def test_what_is_done_after_the_last_message_is_waited_for() -> None:
    done = []

    async def later() -> None:
        await asyncio.sleep(0.01)
        done.append(True)

    async with lifespan(speaking("?", "startup.complete", "?", "shutdown.complete", later)):
        pass
    assert done


@pytest.mark.parametrize(
    ("app", "error", "message"),
    [
        (speaking("?", ZeroDivisionError("why")), ZeroDivisionError, "why"),
        (speaking("?", "startup.failed", ZeroDivisionError("why")), ZeroDivisionError, "why"),
        (speaking("?", "startup.failed"), RuntimeError, "the application didn't start: no database"),
        (speaking("startup.failed"), RuntimeError, "the application didn't start: no database"),
        (speaking("?", "startup.failed", "for ever"), RuntimeError, "the application didn't start: no database"),
    ],
)
async def test_a_start_that_fails(app: Any, error: type[Exception], message: str) -> None:
    before = asyncio.all_tasks()
    for _ in range(2):
        with pytest.raises(error, match=message):
            async with lifespan(app):
                pytest.fail("it didn't start")
    assert asyncio.all_tasks() == before


async def test_a_start_of_fastapi_that_fails() -> None:
    async def body() -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        async with lifespan(app_with(body)):
            pytest.fail("it didn't start")


@pytest.mark.parametrize(
    ("app", "error", "message"),
    [
        (speaking("?", "startup.complete", ZeroDivisionError("why")), ZeroDivisionError, "why"),
        (speaking("?", "startup.complete", "?", ZeroDivisionError("why")), ZeroDivisionError, "why"),
        (speaking("?", "startup.complete", "?", "shutdown.failed"), RuntimeError, "didn't stop: no database"),
    ],
)
async def test_an_end_that_fails(app: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        async with lifespan(app):
            pass
    with pytest.raises(KeyError) as caught:
        async with lifespan(app):
            raise KeyError
    assert "When the application stopped it raised" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([asyncio.Event().wait], "the application didn't start within 10 s"),
        (["startup.complete", asyncio.Event().wait], "the application didn't stop within 10 s"),
    ],
)
async def test_it_is_not_waited_for_without_end(steps: list[Any], message: str) -> None:
    async def live() -> None:
        async with lifespan(speaking("?", *steps)):
            pass

    before = asyncio.all_tasks()
    living = asyncio.create_task(live())
    await advance(11)
    with pytest.raises(TimeoutError, match=message):
        await living
    assert asyncio.all_tasks() == before


async def test_it_runs_once_at_a_time() -> None:
    app = speaking("?", "startup.complete", "?", "shutdown.complete")
    async with lifespan(app):
        with pytest.raises(RuntimeError, match="is running already"):
            async with lifespan(app):
                pytest.fail("it runs twice")
        async with open_stream(app) as stream:
            assert stream.status == 200
    async with lifespan(app):
        pass


def test_in_the_event_loop_of_a_thread() -> None:
    loops = []

    async def body() -> AsyncIterator[None]:
        loops.append(asyncio.get_running_loop())
        yield
        loops.append(asyncio.get_running_loop())

    app = app_with(body)

    @app.get("/")
    async def where() -> bool:
        return asyncio.get_running_loop() is loops[0]

    with lifespan(app), open_stream(app) as stream:
        assert stream.json() is True
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_a_start_that_fails_in_a_thread() -> None:
    with pytest.raises(RuntimeError, match="no database"), lifespan(speaking("?", "startup.failed")):
        pytest.fail("it didn't start")


def test_what_it_leaves_for_requests_in_a_thread() -> None:
    async def body() -> AsyncIterator[dict[str, Any]]:
        yield {"number": 7}

    app = app_with(body)

    @app.get("/")
    async def number(request: Request) -> int:
        return request.state.number

    with lifespan(app), open_stream(app) as stream:
        assert stream.json() == 7
