"""Two streams and a page: what the machine is doing, and a log file as it grows."""

import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.types import Scope

from tidings import Event, EventSourceResponse, ServerSentEvent
from tidings.demo.logs import Follower, Line, Reason, Restart
from tidings.demo.machine import Machine, Meter, Reading, Sampler, describe
from tidings.fastapi import LastEventId, document_streams

STATIC = Path(__file__).parent / "static"

POLL = 0.2
"""Seconds between two looks at a quiet file."""

POSITION_INTERVAL = 1.0
"""Seconds between two positions told to a client whose filter nothing passes."""

HEADERS = {
    "cache-control": "no-cache",
    # The page needs nothing from anywhere else, and may not ask for it.
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
}


class LogOpening(BaseModel):
    """Which file is followed, and whether this connection goes on where the last one stopped (if not, why)."""

    file: str
    own: bool
    """Whether it is the demo's own access log."""
    resumed: bool
    reason: Reason | None


class LogLine(BaseModel):
    """A line of the file; `cut` if it was longer than a line is shown."""

    text: str
    cut: bool


class LogRestart(BaseModel):
    """The lines that follow come from the beginning of the file again."""

    reason: Reason


class Host(Event[Machine]):
    """The machine: once, at the start of each connection."""


class Sample(Event[Reading]):
    """One reading; its id is the time it was taken."""


class Opened(Event[LogOpening]):
    """The start of each connection to the log; its id is where the lines begin."""


class Logged(Event[LogLine]):
    """A line; its id is the position after it."""


class Restarted(Event[LogRestart]):
    """The file was rotated or truncated while it was followed."""


class Feed(EventSourceResponse):
    """A stream whose clients come back a second after the connection dropped."""

    retry = 1000


class Page(StaticFiles):
    """The page and its parts, looked at anew with each visit so that an update is seen."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


router = APIRouter()


@router.get("/machine", response_class=Feed)
async def machine(request: Request, last_event_id: LastEventId) -> AsyncIterable[Host | Sample]:
    """Load, memory and network of the machine, twice a second, after the last minute of them."""
    yield Host.create(describe())
    sampler: Sampler = request.app.state.sampler
    try:
        after = int(last_event_id or 0)
    except ValueError:
        # No id of ours: all that is kept is as good a start as any.
        after = 0
    async with aclosing(sampler.readings(after)) as readings:
        async for reading in readings:
            yield Sample.create(reading, id=reading.time)


@router.get("/log", response_class=Feed)
async def follow_log(
    request: Request,
    last_event_id: LastEventId,
    keyword: Annotated[str, Query(max_length=200)] = "",
) -> AsyncIterable[Opened | Logged | Restarted | ServerSentEvent]:
    """The last lines of the log that have the keyword somewhere, in any case, then each new one."""
    log: Path = request.app.state.log
    with Follower(log, keyword=keyword, position=last_event_id) as follower:
        try:
            opening = await anyio.to_thread.run_sync(follower.open)
        except OSError as error:
            raise HTTPException(503, f"the log can't be opened: {error.strerror}") from error
        own: bool = request.app.state.own_log
        start = LogOpening(file=str(log), own=own, resumed=opening.resumed, reason=opening.reason)
        yield Opened.create(start, id=opening.position)
        told, told_at = opening.position, time.monotonic()
        while True:
            # Not abandoned when the client leaves: the thread would read on in a file that is closed by then.
            batch = await anyio.to_thread.run_sync(follower.read)
            for item in batch.items:
                told, told_at = item.position, time.monotonic()
                yield _event(item)
            if follower.position != told and time.monotonic() - told_at > POSITION_INTERVAL:
                # So that lines which the filter dropped needn't be looked at again after a reconnect.
                told, told_at = follower.position, time.monotonic()
                yield ServerSentEvent(id=told)
            if not batch.more:
                await anyio.sleep(POLL)


def _event(item: Line | Restart) -> Logged | Restarted:
    if isinstance(item, Line):
        return Logged.create(LogLine(text=item.text, cut=item.cut), id=item.position)
    return Restarted.create(LogRestart(reason=item.reason), id=item.position)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.sampler = Sampler(Meter().read)
    async with app.state.sampler.running():
        yield


def create_app(log: Path, *, own_log: bool = False) -> FastAPI:
    """The demo's application.

    Args:
        log: The file to follow. It needn't exist before the first client asks for it.
        own_log: Whether that is the demo's own access log; the page then says so.
    """
    # The documentation pages of FastAPI load their scripts from elsewhere.
    app = FastAPI(title="tidings demo", lifespan=_lifespan, docs_url=None, redoc_url=None)
    app.state.log = log
    app.state.own_log = own_log
    app.include_router(router)
    document_streams(app)
    app.mount("/", Page(directory=STATIC, html=True))
    return app
