"""Small applications in the manner that tutorials have them."""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI

from tests.asgi import Connection, app_of, fetch
from tidings import EventSourceResponse, ServerSentEvent

pytestmark = pytest.mark.anyio


async def test_an_error_event_that_the_source_makes_of_its_own_exception() -> None:
    async def endpoint() -> AsyncIterable[ServerSentEvent]:
        try:
            yield ServerSentEvent(data={"mile": 1})
            raise ArithmeticError("the log line snapped")
        except ArithmeticError as error:
            yield ServerSentEvent(data={"error": str(error)}, event="error")

    client = await fetch(app_of(endpoint))
    assert client.body == b'data: {"mile":1}\n\nevent: error\ndata: {"error":"the log line snapped"}\n\n'
    assert client.complete


class NoticeBoard:
    """Queues in generators, removed in `except CancelledError` that doesn't raise again, as tutorials have it."""

    def __init__(self) -> None:
        self.queues: list[asyncio.Queue[str]] = []
        self.app = FastAPI()
        self.app.get("/notices", response_class=EventSourceResponse)(self.read)
        self.app.post("/notices")(self.write)

    async def read(self) -> AsyncIterable[ServerSentEvent]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.queues.append(queue)
        try:
            while True:
                yield ServerSentEvent(data=await queue.get(), event="notice")
        except asyncio.CancelledError:
            self.queues.remove(queue)

    async def write(self, text: Annotated[str, Body()]) -> dict[str, int]:
        for queue in self.queues:
            await queue.put(text)
        return {"told": len(self.queues)}


async def test_notices_reach_every_reader_and_readers_that_leave_are_forgotten() -> None:
    board = NoticeBoard()

    async def post(text: str) -> Any:
        body = json.dumps(text).encode()
        return json.loads((await fetch(board.app, "/notices", "POST", {"content-type": "application/json"}, body)).body)

    async with Connection(board.app, "/notices") as first:
        await first.until(lambda: first.messages)
        async with Connection(board.app, "/notices") as second:
            await second.until(lambda: second.messages)
            assert await post("lock closed") == {"told": 2}
            await first.until(b'event: notice\ndata: "lock closed"\n\n')
            await second.until(b'event: notice\ndata: "lock closed"\n\n')
        assert await post("lock open") == {"told": 1}
        await first.until(b"lock open")
    assert board.queues == []


async def test_the_progress_of_a_task_ends_with_the_task_and_an_unknown_task_is_an_error_event() -> None:
    progress: dict[str, asyncio.Queue[int]] = {"unload": asyncio.Queue()}

    async def endpoint(task: str) -> AsyncIterable[ServerSentEvent]:
        queue = progress.get(task)
        if queue is None:
            yield ServerSentEvent(data={"error": "no such task"}, event="error")
            return
        try:
            while True:
                percent = await queue.get()
                yield ServerSentEvent(data={"percent": percent}, event="progress")
                if percent == 100:
                    break
        finally:
            del progress[task]

    app = app_of(endpoint)
    assert (await fetch(app, "/?task=paint")).body == b'event: error\ndata: {"error":"no such task"}\n\n'
    async with Connection(app, "/?task=unload") as client:
        for percent in (0, 50, 100):
            progress["unload"].put_nowait(percent)
            await client.until(b'data: {"percent":%d}' % percent)
        await client.end()
    assert client.complete
    assert progress == {}


async def test_max_events_ends_an_endless_stream_cleanly() -> None:
    closed = []

    async def endless() -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.append(number)

    client = await fetch(EventSourceResponse(endless(), max_events=3))
    assert client.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert client.complete
    assert closed == [2]
