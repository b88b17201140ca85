"""How does a generator reach a browser?

    uvicorn examples.first_stream:app

Then open http://127.0.0.1:8000/, or read the stream itself: curl -N http://127.0.0.1:8000/departures
"""

import asyncio
from collections.abc import AsyncIterable

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from tidings import EventSourceResponse

PAGE = """
<!doctype html>
<meta charset="utf-8">
<title>Departures</title>
<h1>Departures</h1>
<ul id="board"></ul>
<script>
  const source = new EventSource("/departures");
  source.onmessage = (event) => {
    const { line, stop, minutes } = JSON.parse(event.data);
    const item = document.createElement("li");
    item.textContent = `Line ${line} to ${stop} in ${minutes} min`;
    document.getElementById("board").append(item);
  };
</script>
"""


class Departure(BaseModel):
    line: int
    stop: str
    minutes: int


TIMETABLE = [
    Departure(line=4, stop="Harbour", minutes=2),
    Departure(line=9, stop="Zoo", minutes=5),
    Departure(line=12, stop="Town hall", minutes=7),
]

app = FastAPI()


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/departures", response_class=EventSourceResponse)
async def departures() -> AsyncIterable[Departure]:
    for departure in TIMETABLE:
        yield departure
        await asyncio.sleep(0.2)
    await asyncio.Event().wait()  # the board stays open; a browser would connect again after the end
