"""How do several workers, and a script beside them, publish to the same streams?

    uvicorn examples.several_workers:app --workers 2
    curl -N http://127.0.0.1:8000/arrivals
    curl -X POST 'http://127.0.0.1:8000/arrivals?ship=Alma'

And as another process, in the same directory:

    python -m examples.several_workers Bente
"""

import asyncio
import os
import sys

from fastapi import FastAPI

from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId

broker = Broker("sqlite:///arrivals.db")
app = FastAPI(lifespan=broker.lifespan)


@app.get("/arrivals")
async def arrivals(last_event_id: LastEventId) -> EventSourceResponse:
    return EventSourceResponse(broker.subscribe("arrivals", last_event_id=last_event_id))


@app.post("/arrivals")
def arrive(ship: str) -> dict[str, object]:
    # A sync endpoint runs in a thread, which may block.
    return {"id": broker.publish_sync("arrivals", {"ship": ship}, event="arrival"), "worker": os.getpid()}


async def main(ships: list[str]) -> None:
    async with broker:
        for ship in ships:
            print(await broker.publish("arrivals", {"ship": ship}, event="arrival"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
