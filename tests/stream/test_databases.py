"""Streams and a pool of connections: who keeps one for the length of a stream, and how not to."""

import asyncio
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tests.asgi import PATIENCE
from tidings import Broker, EventSourceResponse
from tidings.testing import open_stream

pytestmark = pytest.mark.anyio

POOL = 2
STREAMS = 5


@dataclass
class Library:
    """A database with one title, behind a pool of two connections that nobody waits long for."""

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    returned: asyncio.Event = field(default_factory=asyncio.Event)
    """Streams that have sent the title wait for this, and then look it up again."""

    async def session(self) -> AsyncIterator[AsyncSession]:
        """What one writes first."""
        async with self.sessions() as session:
            yield session

    @property
    def taken(self) -> int:
        """How many connections of the pool are in use."""
        taken: int = self.engine.pool.checkedout()  # type: ignore[attr-defined]
        return taken


async def title(session: AsyncSession) -> str:
    return str(await session.scalar(text("SELECT title FROM books")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "library.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE books (title TEXT)")
        connection.execute("INSERT INTO books VALUES ('Moby Dick')")
    return path


@pytest.fixture
async def library(path: Path) -> AsyncIterator[Library]:
    async with opened(path, pool_timeout=PATIENCE) as library:
        yield library


@asynccontextmanager
async def opened(path: Path, pool_timeout: float) -> AsyncIterator[Library]:
    url = f"sqlite+aiosqlite:///{path}"
    engine = create_async_engine(url, pool_size=POOL, max_overflow=0, pool_timeout=pool_timeout)
    try:
        yield Library(engine, async_sessionmaker(engine))
    finally:
        await engine.dispose()


@pytest.fixture
def app() -> FastAPI:
    return FastAPI()


Setup = Callable[[FastAPI, Library], None]


class Patient(EventSourceResponse):
    """Waits for the first item as long as it takes, so that an error before it has a status."""

    start_delay = None


def held(app: FastAPI, library: Library) -> None:
    """The session is a dependency like those of other endpoints."""

    @app.get("/", response_class=Patient)
    async def endpoint(session: Annotated[AsyncSession, Depends(library.session)]) -> AsyncIterable[str]:
        yield await title(session)
        await library.returned.wait()
        yield await title(session)


def reopened(app: FastAPI, library: Library) -> None:
    """It is closed when the generator begins, and opens itself again, for nobody to close it."""

    @app.get("/", response_class=Patient)
    async def endpoint(
        session: Annotated[AsyncSession, Depends(library.session, scope="function")],
    ) -> AsyncIterable[str]:
        try:
            yield await title(session)
            await library.returned.wait()
        finally:
            await session.close()  # or the garbage collector does, and complains


def loaded_before(app: FastAPI, library: Library) -> None:
    async def load(session: Annotated[AsyncSession, Depends(library.session, scope="function")]) -> str:
        return await title(session)

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint(title: Annotated[str, Depends(load)]) -> AsyncIterable[str]:
        yield title
        await library.returned.wait()
        yield title


def one_for_each_step(app: FastAPI, library: Library) -> None:
    async def look_up() -> str:
        async with library.sessions() as session:
            return await title(session)

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterable[str]:
        yield await look_up()
        await library.returned.wait()
        yield await look_up()


def one_transaction_for_each_step(app: FastAPI, library: Library) -> None:
    """A session has a connection as long as a transaction."""

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint(
        session: Annotated[AsyncSession, Depends(library.session, scope="request")],
    ) -> AsyncIterable[str]:
        async def look_up() -> str:
            async with session.begin():
                return await title(session)

        yield await look_up()
        await library.returned.wait()
        yield await look_up()


def a_response_that_is_returned(app: FastAPI, library: Library) -> None:
    @app.get("/")
    async def endpoint(
        session: Annotated[AsyncSession, Depends(library.session, scope="function")],
    ) -> EventSourceResponse:
        first = await title(session)

        async def titles() -> AsyncIterator[str]:
            yield first
            await library.returned.wait()
            yield first

        return EventSourceResponse(titles())


@pytest.mark.parametrize("setup", [held, reopened])
async def test_streams_that_hold_a_session_empty_the_pool(setup: Setup, app: FastAPI, path: Path) -> None:
    async with opened(path, pool_timeout=0.1) as library, AsyncExitStack() as stack:
        setup(app, library)
        for count in range(POOL):
            stream = await stack.enter_async_context(open_stream(app, "/"))
            assert (await stream.next()).json() == "Moby Dick"
            assert library.taken == count + 1
        with pytest.raises(PoolTimeout, match="QueuePool limit of size 2"):
            async with open_stream(app, "/") as refused:
                assert refused.status == 500
        async with library.sessions() as session:
            with pytest.raises(PoolTimeout):  # nor is there anything left for any other endpoint
                await title(session)
        await stack.aclose()
        assert library.taken == 0  # at the end of the streams


@pytest.mark.parametrize(
    "setup", [loaded_before, one_for_each_step, one_transaction_for_each_step, a_response_that_is_returned]
)
async def test_streams_that_give_it_back_leave_the_pool_to_others(setup: Setup, app: FastAPI, library: Library) -> None:
    setup(app, library)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(app, "/")) for _ in range(STREAMS)]
        for stream in streams:
            assert (await stream.next()).json() == "Moby Dick"
        assert library.taken == 0
        library.returned.set()
        for stream in streams:
            assert (await stream.next()).json() == "Moby Dick"
        assert library.taken == 0


async def test_a_subscription_needs_the_session_no_more_when_it_is_returned(app: FastAPI, library: Library) -> None:
    broker = Broker()

    @app.get("/news")
    async def news(
        session: Annotated[AsyncSession, Depends(library.session, scope="function")],
    ) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe(await title(session)))

    async with broker, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(app, "/news")) for _ in range(STREAMS)]
        assert library.taken == 0
        await broker.publish("Moby Dick", "back on the shelf")
        for stream in streams:
            assert (await stream.next()).json() == "back on the shelf"


async def test_a_session_can_refuse_to_open_itself_again(app: FastAPI, library: Library) -> None:
    library.sessions.configure(close_resets_only=False)
    reopened(app, library)
    with pytest.raises(InvalidRequestError, match="permanently closed"):
        async with open_stream(app, "/"):
            pass
    assert library.taken == 0


async def test_a_client_that_leaves_in_the_middle_of_a_query_gives_the_connection_back(
    app: FastAPI, library: Library
) -> None:
    begun = asyncio.Event()

    async def slowly(query: Callable[[], Awaitable[Any]]) -> Any:
        begun.set()
        await asyncio.Event().wait()
        return await query()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterable[str]:
        yield "first"
        async with library.sessions() as session:
            await title(session)
            yield await slowly(lambda: title(session))

    async with open_stream(app, "/") as stream:
        await stream.next()
        await begun.wait()
        assert library.taken == 1
    assert library.taken == 0
