"""A developer is told which dependencies are open as long as a stream.

Each is compared with what FastAPI really keeps open: if it does so in another way, this fails.
"""

import asyncio
import functools
import logging
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from tests.docs.pages import ROOT
from tidings import Broker, EventSourceResponse
from tidings.stream import held
from tidings.testing import open_stream

pytestmark = pytest.mark.anyio

opened: list[str] = []
"""Names of the dependencies that are open."""


async def session() -> AsyncIterator[str]:
    opened.append("session")
    try:
        yield "session"
    finally:
        opened.remove("session")


def file() -> Iterator[str]:
    opened.append("file")
    try:
        yield "file"
    finally:
        opened.remove("file")


class Pool:
    async def __call__(self) -> AsyncIterator[str]:
        opened.append("Pool")
        try:
            yield "pool"
        finally:
            opened.remove("Pool")


pool = Pool()


async def user(session: Annotated[str, Depends(session)]) -> str:
    return f"user of {session}"


async def loaded(session: Annotated[str, Depends(session, scope="function")]) -> str:
    return f"loaded by {session}"


async def plain() -> str:
    return "plain"


async def endless() -> AsyncIterable[int]:
    yield 1
    await asyncio.Event().wait()


def names_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the warnings of a test name, one after the other."""
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [name for message in messages for name in message.split(": ")[1].partition(" stays ")[0].split(", ")]


@pytest.fixture(autouse=True)
def forget() -> None:
    """What earlier tests were told."""
    held._told.clear()
    opened.clear()


@pytest.mark.parametrize(
    ("dependency", "names"),
    [
        (Depends(session), ["session"]),
        (Depends(file), ["file"]),
        (Depends(pool), ["Pool"]),
        (Depends(functools.partial(session)), ["session"]),
        (Depends(user), ["session"]),
        (Depends(session, scope="function"), []),
        (Depends(loaded), []),
        (Depends(plain), []),
    ],
)
async def test_what_fastapi_keeps_open_is_what_is_told(
    dependency: Any, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app, router = FastAPI(debug=True), APIRouter()
    app.add_api_route("/stream", endless, response_class=EventSourceResponse, dependencies=[dependency])

    @router.get("/response")
    async def response() -> EventSourceResponse:
        return EventSourceResponse(endless())

    app.include_router(router, prefix="/included", dependencies=[dependency])
    for path in ("/stream", "/included/response"):
        caplog.clear()
        async with open_stream(app, path) as stream:
            await stream.next()
            assert opened == names  # by FastAPI
            assert names_told(caplog) == names
            assert all(record.getMessage().startswith(f"{path}: ") for record in caplog.records if names)
        assert opened == []


async def test_a_subscription_is_a_stream_like_others(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    app = FastAPI(debug=True)

    @app.get("/news")
    async def news(_: Annotated[str, Depends(session)]) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("news"))

    async with broker, open_stream(app, "/news"):
        assert names_told(caplog) == opened == ["session"]


async def test_the_documentation_shows_what_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def get_session() -> AsyncIterator[None]:
        yield

    get_session.__qualname__ = "get_session"  # as that of a module
    app = FastAPI(debug=True)
    app.add_api_route("/held", endless, response_class=EventSourceResponse, dependencies=[Depends(get_session)])
    async with open_stream(app, "/held"):
        told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.name for record in told] == ["tidings.stream"]
    assert f"\n{told[0].getMessage()}\n" in (ROOT / "docs" / "databases.md").read_text()


async def test_several_are_told_at_once_each_once_and_for_each_route_once(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(debug=True)
    dependencies = [Depends(user), Depends(session), Depends(file)]
    for path in ("/one", "/other"):
        app.add_api_route(path, endless, response_class=EventSourceResponse, dependencies=dependencies)
    for path in ("/one", "/one", "/other"):
        async with open_stream(app, path) as stream:
            await stream.next()
    assert names_told(caplog) == ["session", "file"] * 2


async def test_one_that_is_to_be_held_says_so_itself(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI(debug=True)
    dependencies = [Depends(session, scope="request")]
    app.add_api_route("/", endless, response_class=EventSourceResponse, dependencies=dependencies)
    async with open_stream(app, "/") as stream:
        await stream.next()
        assert opened == ["session"]
    assert names_told(caplog) == []


async def test_nothing_is_told_in_production_nor_without_fastapi(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.add_api_route("/", endless, response_class=EventSourceResponse, dependencies=[Depends(session)])
    starlette = Starlette(debug=True, routes=[Route("/", lambda _: EventSourceResponse(endless()))])
    for each in (app, starlette, EventSourceResponse([1])):
        async with open_stream(each, "/") as stream:
            await stream.next()
    assert names_told(caplog) == []


SCRIPT = """
import asyncio
from typing import Annotated
from fastapi import Depends, FastAPI
from tidings import EventSourceResponse
from tidings.testing import open_stream

async def session():
    yield 1

app = FastAPI()

@app.get("/", response_class=EventSourceResponse)
async def news(session: Annotated[int, Depends(session)]):
    yield session

async def main():
    async with open_stream(app, "/") as stream:
        await stream.next()

asyncio.run(main())
"""


@pytest.mark.parametrize("options", [[], ["-X", "dev"]])
def test_pythons_development_mode_is_one(options: list[str]) -> None:
    command = [sys.executable, *options, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert ("/: session stays open as long as each stream" in done.stderr) == bool(options)
