"""What the tests serve with real servers. Its endpoints write what happens to them to a journal file."""

import asyncio
import contextvars
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from tidings import EventSourceResponse, ServerSentEvent
from tidings.stream import StreamLimit

JOURNAL = Path(os.environ.get("JOURNAL", os.devnull))

app = FastAPI()


def note(text: str) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(f"{time.monotonic():.6f} {text}\n")


class Reading(BaseModel):
    sensor: str
    celsius: float


class Impatient(EventSourceResponse):
    send_timeout = 1.0


class Beating(EventSourceResponse):
    ping_interval = 0.2


class OneOfAnAddress(EventSourceResponse):
    stream_limit = StreamLimit(per_key=1, key=lambda request: request.client and request.client.host)


@app.get("/one-of-an-address", response_class=OneOfAnAddress)
async def one_of_an_address() -> AsyncIterable[int]:
    yield 1
    await asyncio.Event().wait()


@app.get("/plain")
async def plain() -> dict[str, bool]:
    return {"ok": True}


@app.get("/readings", response_class=EventSourceResponse)
async def readings(n: int) -> AsyncIterable[Reading]:
    for i in range(n):
        yield Reading(sensor="roof", celsius=float(i))


@app.get("/idle", response_class=EventSourceResponse)
async def idle() -> AsyncIterable[Reading]:
    note("idle began")
    try:
        await asyncio.Event().wait()
        yield Reading(sensor="never", celsius=0)
    finally:
        note("idle closed")


@app.get("/idle-after-one", response_class=EventSourceResponse)
async def idle_after_one() -> AsyncIterable[Reading]:
    try:
        yield Reading(sensor="cellar", celsius=9)
        await asyncio.Event().wait()
    finally:
        note("idle-after-one closed")


@app.get("/beating", response_class=Beating)
async def beating() -> AsyncIterable[Reading]:
    await asyncio.Event().wait()
    yield Reading(sensor="never", celsius=0)


@app.get("/restless", response_class=EventSourceResponse)
async def restless() -> AsyncIterable[dict[str, int]]:
    """Never awaits."""
    note("restless began")
    count = 0
    try:
        while True:
            count += 1
            yield {"count": count}
    finally:
        note("restless closed")


@app.get("/flood", response_class=EventSourceResponse)
async def flood() -> AsyncIterable[ServerSentEvent]:
    """More than any buffer holds, for clients that don't read."""
    note("flood began")
    try:
        while True:
            yield ServerSentEvent(raw_data="x" * 1000)
            await asyncio.sleep(0)
    finally:
        note("flood closed")


@app.get("/flood-impatient", response_class=Impatient)
async def flood_impatient() -> AsyncIterable[ServerSentEvent]:
    note("flood-impatient began")
    try:
        while True:
            yield ServerSentEvent(raw_data="x" * 1000)
    finally:
        note("flood-impatient closed")


@app.get("/slow-thread", response_class=EventSourceResponse)
def slow_thread() -> Iterable[Reading]:
    try:
        for i in range(3):
            yield Reading(sensor="well", celsius=i)
            time.sleep(2)
    finally:
        note("slow-thread closed")


class Patient(EventSourceResponse):
    """On a busy machine the look-up may take longer than usual."""

    start_delay = 10.0


@app.get("/missing/{name}", response_class=Patient)
async def missing(name: str) -> AsyncIterable[Reading]:
    await asyncio.sleep(0.02)  # the look-up in a database
    raise HTTPException(404, f"no sensor {name!r}")
    yield Reading(sensor=name, celsius=0)


@app.get("/wrong-first", response_class=EventSourceResponse)
async def wrong_first() -> AsyncIterable[Reading]:
    yield {"sensor": "roof"}  # type: ignore[misc]


@app.get("/wrong-later", response_class=EventSourceResponse)
async def wrong_later() -> AsyncIterable[Reading]:
    yield Reading(sensor="roof", celsius=1)
    await asyncio.sleep(0.01)
    yield {"sensor": "roof"}  # type: ignore[misc]


@app.get("/breaks", response_class=EventSourceResponse)
async def breaks() -> AsyncIterable[Reading]:
    yield Reading(sensor="roof", celsius=1)
    yield Reading(sensor="roof", celsius=2)
    raise LookupError("the sensor fell off")


@app.get("/alone", response_class=EventSourceResponse)
async def alone(n: int) -> AsyncIterable[int]:
    for _ in range(n):
        await asyncio.sleep(0.02)
        yield time.monotonic_ns()


session: contextvars.ContextVar[str] = contextvars.ContextVar("session", default="none")


async def open_session(request: Request) -> AsyncIterator[str]:
    session.set("open")
    note("session opened")
    try:
        yield "session"
    finally:
        note("session closed")


@app.get("/with-session", response_class=EventSourceResponse)
async def with_session(name: Annotated[str, Depends(open_session)]) -> AsyncIterable[str]:
    task = asyncio.current_task()
    try:
        yield f"{name} {session.get()}"
        await asyncio.sleep(0.01)
        yield "same task" if asyncio.current_task() is task else "another task"
        await asyncio.Event().wait()
    finally:
        note("with-session closed")


async def starlette_endpoint(request: Request) -> EventSourceResponse:
    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    return EventSourceResponse(source())


app.router.routes.append(Route("/starlette", starlette_endpoint))


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application without any framework."""
    assert scope["type"] == "http"

    async def source() -> AsyncIterator[Any]:
        if scope["path"] == "/missing":
            raise HTTPException(404, "nothing here")
        yield {"path": scope["path"]}
        await asyncio.Event().wait()

    await EventSourceResponse(source())(scope, receive, send)


async def pass_through(request: Request, call_next: Any) -> Any:
    return await call_next(request)


wrapped = BaseHTTPMiddleware(
    GZipMiddleware(CORSMiddleware(app, allow_origins=["*"]), minimum_size=10), dispatch=pass_through
)
