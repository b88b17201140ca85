"""How does a page follow work that goes on by itself?

uvicorn examples.task_progress:app
curl -X POST 'http://127.0.0.1:8000/tasks?pages=5'
curl -N http://127.0.0.1:8000/tasks/1
"""

import asyncio
from collections.abc import AsyncIterable
from itertools import count
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query
from pydantic import BaseModel

from tidings import EventSourceResponse, ServerSentEvent


class Step(BaseModel):
    page: int
    of: int


class Task:
    """Prints pages, and notes each one."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.steps: list[Step] = []
        self.stepped = asyncio.Condition()
        self.runner = asyncio.create_task(self.run())

    async def run(self) -> None:
        for page in range(1, self.pages + 1):
            await asyncio.sleep(0.2)
            async with self.stepped:
                self.steps.append(Step(page=page, of=self.pages))
                self.stepped.notify_all()


app = FastAPI()

numbers = count(1)
tasks: dict[int, Task] = {}


@app.post("/tasks")
async def start(pages: Annotated[int, Query(gt=0, le=1000)] = 10) -> dict[str, int]:
    number = next(numbers)
    tasks[number] = Task(pages)
    return {"task": number}


@app.get("/tasks/{number}", response_class=EventSourceResponse)
async def follow(number: int, last_event_id: Annotated[int | None, Header()] = None) -> AsyncIterable[ServerSentEvent]:
    task = tasks.get(number)
    if task is None:
        raise HTTPException(404, "no such task")
    # The id of a step is its page. A client that reconnects behind the last page gets 204 and stays away.
    page = last_event_id or 0
    if page >= task.pages:
        raise HTTPException(204)
    while page < task.pages:
        async with task.stepped:
            while len(task.steps) <= page:
                await task.stepped.wait()
        page += 1
        yield ServerSentEvent(data=task.steps[page - 1], event="progress", id=page)
    yield ServerSentEvent(raw_data="[DONE]", event="done")
