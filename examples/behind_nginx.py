"""What does nginx need to know of streams?

    uvicorn examples.behind_nginx:app
    sudo cp examples/behind_nginx.conf /etc/nginx/conf.d/tide.conf
    sudo nginx -s reload

Then open http://127.0.0.1:8080/, or read the stream that has passed nginx: curl -N http://127.0.0.1:8080/tide

Little, as behind_nginx.conf tells: each stream says itself that it must not be held back.
"""

import asyncio
import math
from collections.abc import AsyncIterable
from itertools import count

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from tidings import EventSourceResponse

PAGE = """
<!doctype html>
<meta charset="utf-8">
<title>Tide</title>
<meter id="level" min="0" max="400"></meter> <output id="text"></output>
<script>
  new EventSource("/tide").onmessage = (event) => {
    const { cm } = JSON.parse(event.data);
    document.getElementById("level").value = cm;
    document.getElementById("text").textContent = `${cm} cm`;
  };
</script>
"""


class Level(BaseModel):
    minute: int
    cm: int


app = FastAPI()


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/tide", response_class=EventSourceResponse)
async def tide() -> AsyncIterable[Level]:
    for minute in count(step=5):
        yield Level(minute=minute, cm=round(200 + 180 * math.sin(2 * math.pi * minute / 745)))
        await asyncio.sleep(0.5)
