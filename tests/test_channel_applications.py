"""What is usually built by hand with a queue for each connection, built with channels, on each storage.

The applications are those of tutorials on server-sent events; each test is what its readers would try.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Query
from pydantic import BaseModel

from tests.asgi import Connection, fetch
from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.fastapi import LastEventId
from tidings.wire import ReceivedEvent

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"
    async with Broker(url) as broker:
        yield broker


async def post(app: FastAPI, path: str) -> Any:
    answer = await fetch(app, path, "POST")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def texts(events: list[ReceivedEvent]) -> list[Any]:
    return [event.json() for event in events]


# -- live notifications -----------------------------------------------------------------------------------------------


class Notice(BaseModel):
    text: str
    urgent: bool = False


def notification_app(broker: Broker) -> FastAPI:
    app = FastAPI()

    @app.get("/notices/{desk}")
    async def notices(desk: str, last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe(desk, last_event_id=last_event_id))

    @app.post("/notices/{desk}")
    async def notify(desk: str, text: str) -> dict[str, str]:
        return {"id": await broker.publish(desk, Notice(text=text), event="notice")}

    @app.post("/sync/notices/{desk}")
    def notify_from_a_thread(desk: str, text: str) -> dict[str, str]:
        return {"id": broker.publish_sync(desk, Notice(text=text, urgent=True), event="notice")}

    return app


async def test_a_notice_reaches_every_connection_and_leaving_ones_disturb_nobody(broker: Broker):
    app = notification_app(broker)
    async with Connection(app, "/notices/loans") as first, Connection(app, "/notices/loans") as second:
        async with Connection(app, "/notices/loans") as third:
            for connection in (first, second, third):
                await connection.until(b":\n\n")
            one = await post(app, "/notices/loans?text=open")
            for connection in (first, second, third):
                await connection.until(b"open")
        two = await post(app, "/sync/notices/loans?text=closing")
        for connection in (first, second):
            await connection.until(b"closing")
            assert [(event.event, event.id, event.json()) for event in connection.events] == [
                ("notice", one["id"], {"text": "open", "urgent": False}),
                ("notice", two["id"], {"text": "closing", "urgent": True}),
            ]
        assert len(third.events) == 1


async def test_channels_are_isolated(broker: Broker):
    app = notification_app(broker)
    async with Connection(app, "/notices/loans") as loans, Connection(app, "/notices/returns") as returns:
        await loans.until(b":\n\n")
        await returns.until(b":\n\n")
        for desk in ("returns", "loans", "returns", "elsewhere"):
            await post(app, f"/notices/{desk}?text=for-{desk}")
        await post(app, "/notices/loans?text=last")
        await post(app, "/notices/returns?text=last")
        await loans.until(b"last")
        await returns.until(b"last")
    assert [data["text"] for data in texts(loans.events)] == ["for-loans", "last"]
    assert [data["text"] for data in texts(returns.events)] == ["for-returns", "for-returns", "last"]


async def test_a_client_that_reconnects_again_and_again_sees_everything_once(broker: Broker):
    app = notification_app(broker)
    published = [f"notice {number}" for number in range(60)]
    seen: list[ReceivedEvent] = []

    async def publish() -> None:
        for text in published:
            await post(app, f"/notices/desk?text={text.replace(' ', '+')}")

    # The first connection takes one event, so that there is an id; each of the others is cut off at once.
    async with Connection(app, "/notices/desk") as connection:
        await connection.until(b":\n\n")
        publishing = asyncio.create_task(publish())
        await connection.until(lambda: connection.events)
    seen += connection.events
    while len(seen) < len(published):
        async with Connection(app, "/notices/desk", headers={"Last-Event-ID": seen[-1].id}) as connection:
            await connection.until(lambda: connection.events)
        seen += connection.events
    await publishing

    assert [data["text"] for data in texts(seen)] == published
    assert all(int(one.id.split("-")[1]) < int(next.id.split("-")[1]) for one, next in pairwise(seen))


# -- progress of tasks ------------------------------------------------------------------------------------------------


def task_app(broker: Broker) -> FastAPI:
    app = FastAPI()
    known: set[str] = set()

    async def bind(book: str) -> None:
        for percent in (0, 50, 100):
            status = "done" if percent == 100 else "working"
            await broker.publish(f"book/{book}", {"book": book, "percent": percent, "status": status}, event="progress")
        await broker.finish(f"book/{book}")

    @app.post("/books/{book}")
    async def start(book: str, background: BackgroundTasks) -> dict[str, str]:
        known.add(book)
        background.add_task(bind, book)
        return {"book": book}

    @app.get("/books/{book}/progress")
    async def progress(book: str, last_event_id: LastEventId) -> EventSourceResponse:
        if book not in known:
            return EventSourceResponse([ServerSentEvent(data={"error": "no such book"}, event="error")])
        return EventSourceResponse(broker.subscribe(f"book/{book}", last_event_id=last_event_id or "earliest"))

    @app.get("/progress")
    async def several(book: Annotated[list[str], Query()], last_event_id: LastEventId) -> EventSourceResponse:
        channels = [f"book/{name}" for name in book]
        return EventSourceResponse(broker.subscribe(*channels, last_event_id=last_event_id or "earliest"))

    return app


async def test_every_follower_of_a_task_sees_all_of_it_and_its_end(broker: Broker):
    app = task_app(broker)
    await post(app, "/books/emma")
    followers = [await fetch(app, "/books/emma/progress") for _ in range(2)]

    for follower in followers:
        assert follower.complete
        assert [(event.event, event.json()["percent"]) for event in follower.events] == [
            ("progress", 0),
            ("progress", 50),
            ("progress", 100),
        ]
        assert follower.events[-1].json()["status"] == "done"
    again = await fetch(app, "/books/emma/progress", headers={"Last-Event-ID": followers[0].events[-1].id})
    assert again.status == 204


async def test_an_unknown_task_is_told_with_an_error_event(broker: Broker):
    unknown = await fetch(task_app(broker), "/books/moby/progress")

    assert [(event.event, event.json()) for event in unknown.events] == [("error", {"error": "no such book"})]


async def test_several_tasks_at_once_in_one_stream(broker: Broker):
    app = task_app(broker)
    async with Connection(app, "/progress?book=emma&book=moby&book=ulysses") as connection:
        await connection.until(b":\n\n")
        await asyncio.gather(*(post(app, f"/books/{book}") for book in ("emma", "moby", "ulysses")))
        await connection.end()  # as all three are finished

    for book in ("emma", "moby", "ulysses"):
        assert [data["percent"] for data in texts(connection.events) if data["book"] == book] == [0, 50, 100]
    half = connection.events[4].id
    rest = await fetch(app, "/progress?book=emma&book=moby&book=ulysses", headers={"Last-Event-ID": half})
    assert texts(rest.events) == texts(connection.events)[5:]


# -- a log viewer -----------------------------------------------------------------------------------------------------


def log_app(broker: Broker) -> FastAPI:
    app = FastAPI()

    @app.get("/log")
    async def log(last_event_id: LastEventId, keyword: str = "") -> EventSourceResponse:
        where = (lambda event: keyword.lower() in event.data.lower()) if keyword else None
        return EventSourceResponse(broker.subscribe("log", last_event_id=last_event_id, where=where))

    @app.post("/log")
    async def write(line: str) -> str:
        return await broker.publish("log", raw_data=line)

    return app


async def test_each_reader_of_a_log_has_a_keyword_of_their_own_and_resumes(broker: Broker):
    app = log_app(broker)
    async with (
        Connection(app, "/log") as everything,
        Connection(app, "/log?keyword=late") as late,
        Connection(app, "/log?keyword=line+4") as four,
    ):
        for connection in (everything, late, four):
            await connection.until(b":\n\n")
        for line in ("line+4+on+time", "line+9+LATE", "line+4+late", "line+12+on+time"):
            await post(app, f"/log?line={line}")
        await everything.until(b"line 12")
        await late.until(b"line 4 late")
        await four.until(b"line 4 late")
    assert [event.data for event in everything.events] == [
        "line 4 on time",
        "line 9 LATE",
        "line 4 late",
        "line 12 on time",
    ]
    assert [event.data for event in late.events] == ["line 9 LATE", "line 4 late"]
    assert [event.data for event in four.events] == ["line 4 on time", "line 4 late"]

    await post(app, "/log?line=line+9+late+again")
    async with Connection(app, "/log?keyword=late", headers={"Last-Event-ID": late.events[0].id}) as resumed:
        await resumed.until(b"again")
    assert [event.data for event in resumed.events] == ["line 4 late", "line 9 late again"]


# -- prices for each symbol, a limit, an end --------------------------------------------------------------------------


def price_app(broker: Broker) -> FastAPI:
    app = FastAPI()

    @app.get("/prices/{symbol}")
    async def prices(symbol: str, last_event_id: LastEventId, limit: int | None = None) -> EventSourceResponse:
        if symbol not in {"COCOA", "WHEAT"}:
            raise HTTPException(404, "no such symbol")
        subscription = broker.subscribe(f"price/{symbol}", last_event_id=last_event_id)
        return EventSourceResponse(subscription, max_events=limit)

    @app.get("/prices/{symbol}/some", response_class=EventSourceResponse)
    async def some(symbol: str) -> AsyncIterator[Any]:
        count = 0
        async for event in broker.subscribe(f"price/{symbol}", last_event_id="earliest"):
            yield event
            count += 1
            if count == 2:
                break
        yield ServerSentEvent(data={"message": "that was all"}, event="end")

    return app


async def test_a_stream_for_each_symbol_with_a_limit(broker: Broker):
    app = price_app(broker)
    assert (await fetch(app, "/prices/GOLD")).status == 404
    async with Connection(app, "/prices/COCOA?limit=2") as connection:
        await connection.until(b":\n\n")
        for symbol, price in (("COCOA", 8120), ("WHEAT", 541), ("COCOA", 8135), ("COCOA", 8118)):
            await broker.publish(f"price/{symbol}", {"symbol": symbol, "price": price}, event="price")
        await connection.end()
    assert connection.complete
    assert [data["price"] for data in texts(connection.events)] == [8120, 8135]

    last = connection.events[-1].id
    following = await fetch(app, "/prices/COCOA?limit=1", headers={"Last-Event-ID": last})
    assert [data["price"] for data in texts(following.events)] == [8118]


async def test_a_generator_ends_a_channels_stream_with_an_event_of_its_own(broker: Broker):
    for price in (541, 543, 540):
        await broker.publish("price/WHEAT", price)
    stream = await fetch(price_app(broker), "/prices/WHEAT/some")

    assert texts(stream.events) == [541, 543, {"message": "that was all"}]
    assert stream.events[-1].event == "end"


# -- an answer in pieces, that outlives its reader's connection --------------------------------------------------------


async def test_an_answer_goes_on_where_its_reader_was_cut_off(broker: Broker):
    app = FastAPI()
    asked = asyncio.Event()

    async def answer() -> None:
        for number, token in enumerate(["You ", "asked: ", "Which ", "tram?"]):
            await broker.publish("answer/1", {"token": token}, event="token")
            if number == 1:
                await asked.wait()
        await broker.publish("answer/1", raw_data="[DONE]", event="done")
        await broker.finish("answer/1")

    @app.get("/answer")
    async def read(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("answer/1", last_event_id=last_event_id or "earliest"))

    answering = asyncio.create_task(answer())
    async with Connection(app, "/answer") as connection:
        await connection.until(b"asked")
    asked.set()
    rest = await fetch(app, "/answer", headers={"Last-Event-ID": connection.events[-1].id})
    await answering

    tokens = [event.json()["token"] for event in (*connection.events, *rest.events) if event.event == "token"]
    assert "".join(tokens) == "You asked: Which tram?"
    assert (rest.events[-1].event, rest.events[-1].data) == ("done", "[DONE]")
