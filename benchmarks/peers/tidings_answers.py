"""Answers that come token by token: made in the background and read from a channel, or made in the reader's request."""

import asyncio
import time
from collections import defaultdict

from fastapi import FastAPI

from benchmarks import traffic
from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId


def answers_app(broker: Broker) -> FastAPI:
    app = FastAPI(lifespan=broker.lifespan)
    signals: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
    readers: set[asyncio.Task[None]] = set()

    @app.post("/start")
    async def start(run: str, answers: int, n: int, rate: float = 0.0, turns: bool = True) -> dict[str, float]:
        """Have so many answers ready to begin. Paced ones don't all have their tokens at the same moments."""
        started = time.perf_counter()
        for number in range(answers):
            late = number / answers / rate if rate else 0.0
            await broker.start(
                f"{run} {number}", traffic.tokens(n, rate, signals[run], late=late, turns=turns), timeout=600
            )
        return {"seconds": time.perf_counter() - started}

    @app.get("/subscribe")
    async def subscribe(channel: str, last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe(channel, last_event_id=last_event_id))

    @app.get("/answer")
    async def answer(
        run: str, number: int, answers: int, n: int, rate: float = 0.0, turns: bool = True
    ) -> EventSourceResponse:
        """The same without a broker."""
        late = number / answers / rate if rate else 0.0
        return EventSourceResponse(traffic.tokens(n, rate, signals[run], late=late, turns=turns))

    @app.post("/go")
    async def go(run: str) -> dict[str, int]:
        """Let the answers of a run begin; returns when they did."""
        at = time.monotonic_ns()
        signals[run].set()
        return {"at": at}

    @app.post("/read")
    async def read(run: str, answers: int) -> None:
        """Read them here, each in a task of its own."""

        async def reader(channel: str) -> None:
            async for _ in broker.subscribe(channel, last_event_id="earliest"):
                pass

        readers.update(asyncio.create_task(reader(f"{run} {number}")) for number in range(answers))

    return app


app = answers_app(Broker())
