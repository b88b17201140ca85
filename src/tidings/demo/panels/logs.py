"""A log file, followed as it grows."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

import anyio
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel

from tidings import Event, ServerSentEvent
from tidings.demo.feed import Feed, refusals
from tidings.demo.logs import Follower, Line, Opening, Reason, Restart
from tidings.demo.settings import Settings
from tidings.fastapi import LastEventId

POLL = 0.2
"""Seconds between two looks at a quiet file."""

POSITION_INTERVAL = 1.0
"""Seconds between two positions told to a client whose filter nothing passes."""

router = APIRouter()


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


class Opened(Event[LogOpening]):
    """The start of each connection to the log; its id is where the lines begin."""


class Logged(Event[LogLine]):
    """A line; its id is the position after it."""


class Restarted(Event[LogRestart]):
    """The file was rotated or truncated while it was followed."""


Keyword = Annotated[str, Query(max_length=200)]


@router.get("/log", response_class=Feed, responses=refusals(503))
async def follow_log(
    request: Request, last_event_id: LastEventId, keyword: Keyword = ""
) -> AsyncIterator[Opened | Logged | Restarted | ServerSentEvent]:
    settings: Settings = request.app.state.settings
    with Follower(settings.log, keyword=keyword, position=last_event_id) as follower:
        yield opened(settings, await anyio.to_thread.run_sync(open_log, follower))
        async with aclosing(lines(follower)) as events:
            async for event in events:
                yield event


async def lines(follower: Follower) -> AsyncGenerator[Logged | Restarted | ServerSentEvent]:
    told, told_at = follower.position, time.monotonic()
    while True:
        # When the client leaves, a thread that is at it reads on: in a file that is closed, which does no harm.
        batch = await anyio.to_thread.run_sync(follower.read)
        for item in batch.items:
            told, told_at = item.position, time.monotonic()
            yield event_of(item)
        if follower.position != told and time.monotonic() - told_at > POSITION_INTERVAL:
            # So that lines which the filter dropped needn't be looked at again after a reconnect.
            told, told_at = follower.position, time.monotonic()
            yield ServerSentEvent(id=told)
        if not batch.more:
            await anyio.sleep(POLL)


def open_log(follower: Follower) -> Opening:
    try:
        return follower.open()
    except OSError as error:
        raise HTTPException(503, f"the log can't be opened: {error.strerror}") from error


def opened(settings: Settings, opening: Opening) -> Opened:
    start = LogOpening(file=str(settings.log), own=settings.own_log, resumed=opening.resumed, reason=opening.reason)
    return Opened.create(start, id=opening.position)


def event_of(item: Line | Restart) -> Logged | Restarted:
    if isinstance(item, Line):
        return Logged.create(LogLine(text=item.text, cut=item.cut), id=item.position)
    return Restarted.create(LogRestart(reason=item.reason), id=item.position)


SHOWN = (follow_log,)
