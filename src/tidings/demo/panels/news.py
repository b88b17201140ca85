"""The news desk: publish from the page, read in every tab."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, StringConstraints

from tidings import Event, ServerSentEvent
from tidings.broker import DeliveredEvent
from tidings.demo.feed import Connection, Desk, Feed, Reset, Served, now, refusals
from tidings.demo.panels.chat import Done, Question
from tidings.demo.panels.tasks import SLOTS, Progress, Result
from tidings.fastapi import LastEventId

OPEN = "open"
"""A channel that nobody finishes: so the stream goes on when all tasks have ended."""

CHANNELS = ("news", *SLOTS, "chat", OPEN)

Passed = DeliveredEvent | ServerSentEvent
"""Events of a channel as they are, or almost."""

router = APIRouter()


class News(BaseModel):
    """What somebody wants to have said."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=280)]


class Printed(News):
    """News, and when they came in: milliseconds since 1970."""

    at: int


class Published(BaseModel):
    """The id of the event."""

    id: str


class Headline(Event[Printed]):
    """News."""


class Ended(BaseModel):
    """What was ended before it was done."""

    channel: str


class Stopped(Event[Ended]):
    """Somebody has stopped it."""


class Failed(Event[Ended]):
    """It has failed."""


class Aborted(Event[Ended]):
    """Its worker is gone."""


Broken = Stopped | Failed | Aborted
"""The broker's own, declared as `Reset` is."""


@router.post("/news", responses=refusals(400, 415))
async def publish(news: News, desk: Desk) -> Published:
    return Published(id=await desk.publish("news", Headline.create(Printed(text=news.text, at=now()))))


@router.get("/desk", response_class=Feed)
async def read(
    desk: Desk, last_event_id: LastEventId
) -> AsyncIterator[Served | Headline | Progress | Result | Question | str | Done | Reset | Broken | Passed]:
    yield Served.create(Connection())
    async with desk.subscribe(*CHANNELS, last_event_id=last_event_id or "earliest") as events:
        async for event in events:
            yield with_channel(event) if event.control else event


def with_channel(event: DeliveredEvent) -> ServerSentEvent:
    """One of the broker's own events; which channel it is about can't be seen in a stream of many."""
    return ServerSentEvent({**event.data, "channel": event.channel}, event=event.event, id=event.id)


SHOWN = (publish, read)
