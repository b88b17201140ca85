"""How does a page show a log as it is written, and go on at the right line?

    LOG_FILE=/var/log/dpkg.log uvicorn examples.log_viewer:app

Or with a file of its own, app.log:

    uvicorn examples.log_viewer:app
    curl -N http://127.0.0.1:8000/lines
    echo 'the kettle is on' >> app.log

Then open http://127.0.0.1:8000/. The id of a line is where it ends in the file, in bytes: a browser that was away goes
on from there, and the server remembers nothing.
"""

import asyncio
import os
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import HTMLResponse

from tidings import EventSourceResponse, ServerSentEvent

PAGE = """
<!doctype html>
<meta charset="utf-8">
<title>Log</title>
<pre id="log"></pre>
<script>
  new EventSource("/lines").onmessage = (event) =>
    document.getElementById("log").append(JSON.parse(event.data) + "\\n");
</script>
"""

LOG = Path(os.environ.get("LOG_FILE", "app.log"))
TAIL = 4096
"""Bytes at the end of the file that a new page begins with."""

app = FastAPI()


def read_lines(position: int | None) -> list[tuple[int, str]]:
    """The whole lines from a position on, or the last ones; each with the position where it ends."""
    try:
        file = LOG.open("rb")  # each time, as it may have been replaced by a new one
    except FileNotFoundError:
        return []
    lines = []
    with file:
        size = file.seek(0, os.SEEK_END)
        if position is None and size > TAIL:
            file.seek(size - TAIL - 1)
            file.readline()
        elif position is None or position > size:  # it is short, or was begun anew
            file.seek(0)
        else:
            file.seek(position)
        end = file.tell()
        for line in file.readlines(65_536):
            if line.endswith(b"\n"):  # else it is still being written
                end += len(line)
                lines.append((end, line.decode(errors="replace").rstrip("\r\n")))
    return lines


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/lines", response_class=EventSourceResponse)
async def lines(last_event_id: Annotated[int | None, Header(ge=0)] = None) -> AsyncIterable[ServerSentEvent]:
    position = last_event_id
    while True:
        for end, text in await asyncio.to_thread(read_lines, position):  # a file blocks, so it is read in a thread
            yield ServerSentEvent(data=text, id=end)
            position = end
        await asyncio.sleep(0.25)
