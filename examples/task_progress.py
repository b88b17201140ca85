"""How does a page follow work that goes on by itself, one task or several at once?

    uvicorn examples.task_progress:app --workers 2
    curl -X POST 'http://127.0.0.1:8000/tasks?pages=50'
    curl -N http://127.0.0.1:8000/tasks/…
    curl -N 'http://127.0.0.1:8000/tasks?task=…&task=…'

Or open http://127.0.0.1:8000/, start some, and reload the page.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from tidings import Broker, Event, EventSourceResponse, ServerSentEvent
from tidings.fastapi import LastEventId

PAGE = """
<!doctype html>
<meta charset="utf-8">
<title>Tasks</title>
<button id="start">Print 50 pages</button>
<ul id="tasks"></ul>
<script type="module">
  const known = new Set(new URLSearchParams(location.search).getAll("task"));
  let source;

  function show(task, text) {
    const item = document.getElementById(task) ?? document.createElement("li");
    item.id = task;
    item.textContent = `${task}: ${text}`;
    document.getElementById("tasks").append(item);
  }

  // One stream for all tasks, from the beginning of each: a browser opens six to a host at the most.
  function follow() {
    source?.close();
    if (known.size === 0) return;
    source = new EventSource("/tasks?" + new URLSearchParams([...known].map((task) => ["task", task])));
    source.addEventListener("progress", (event) => {
      const { task, page, of } = JSON.parse(event.data);
      show(task, `${page} of ${of}`);
    });
    source.addEventListener("error", (event) => {
      if (!(event instanceof MessageEvent)) return; // the connection was lost: the browser makes another
      const { task, error } = JSON.parse(event.data);
      show(task, error);
      source.close();
    });
  }

  document.getElementById("start").addEventListener("click", async () => {
    const { task } = await (await fetch("/tasks?pages=50", { method: "POST" })).json();
    known.add(task);
    history.replaceState(null, "", "?" + new URLSearchParams([...known].map((task) => ["task", task])));
    follow();
  });
  follow();
</script>
"""


class Page(BaseModel):
    task: str
    page: int
    of: int


class Progress(Event[Page]):
    """On the wire `progress`."""


broker = Broker("sqlite:///tasks.db")
app = FastAPI(lifespan=broker.lifespan)


async def print_pages(task: str, pages: int) -> AsyncIterator[Progress]:
    for page in range(1, pages + 1):
        await asyncio.sleep(0.1)
        yield Progress.create(Page(task=task, page=page, of=pages))


async def progress_of(tasks: list[str], last_event_id: str | None) -> EventSourceResponse:
    for task in tasks:
        # To a broker a channel that it doesn't know is an empty one, and a stream of it would wait.
        if (await broker.status(f"task/{task}")).state == "unknown":
            return EventSourceResponse([ServerSentEvent({"task": task, "error": "no such task"}, event="error")])
    channels = [f"task/{task}" for task in tasks]
    return EventSourceResponse(broker.subscribe(*channels, last_event_id=last_event_id or "earliest"))


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.post("/tasks")
async def start(pages: Annotated[int, Query(gt=0, le=1000)] = 10) -> dict[str, str]:
    task = secrets.token_hex(4)
    await broker.start(f"task/{task}", print_pages(task, pages))
    return {"task": task}


@app.get("/tasks/{task}")
async def follow(task: str, last_event_id: LastEventId) -> EventSourceResponse:
    return await progress_of([task], last_event_id)


@app.get("/tasks")
async def follow_some(
    task: Annotated[list[str], Query(min_length=1, max_length=50)], last_event_id: LastEventId
) -> EventSourceResponse:
    return await progress_of(task, last_event_id)
