"""How does a page follow a job from its beginning, and stop when the job is done?

uvicorn examples.job_channel:app
curl -X POST 'http://127.0.0.1:8000/jobs?pages=5'
curl -N http://127.0.0.1:8000/jobs/1
curl -i -H 'Last-Event-ID: …' http://127.0.0.1:8000/jobs/1

The last one, with the id of the last event, is what a browser asks when the stream has ended. It is answered 204, and
the browser asks no more.
"""

import asyncio
from itertools import count
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, HTTPException, Query

from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId

broker = Broker("memory://")
app = FastAPI(lifespan=broker.lifespan)

numbers = count(1)
jobs: set[int] = set()


async def print_pages(job: int, pages: int) -> None:
    for page in range(1, pages + 1):
        await asyncio.sleep(0.2)
        await broker.publish(f"job/{job}", {"page": page, "of": pages}, event="progress")
    await broker.finish(f"job/{job}")


@app.post("/jobs")
async def start(background: BackgroundTasks, pages: Annotated[int, Query(gt=0, le=1000)] = 10) -> dict[str, int]:
    job = next(numbers)
    jobs.add(job)
    background.add_task(print_pages, job, pages)
    return {"job": job}


@app.get("/jobs/{job}")
async def follow(job: int, last_event_id: LastEventId) -> EventSourceResponse:
    # An unknown channel is not an error, but an empty one: so look first.
    if job not in jobs:
        raise HTTPException(404, "no such job")
    # Whoever comes without an id wants to see the job from its beginning.
    return EventSourceResponse(broker.subscribe(f"job/{job}", last_event_id=last_event_id or "earliest"))
