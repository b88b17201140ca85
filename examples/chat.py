"""How is a POST answered piece by piece, and read in the browser with fetch?

    uvicorn examples.chat:app

Then open http://127.0.0.1:8000/, or:

    curl -N -H 'Content-Type: application/json' -d '{"text": "Which tram?"}' http://127.0.0.1:8000/chat
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, StringConstraints

from tidings import EventSourceResponse, ServerSentEvent

PAGE = """
<!doctype html>
<meta charset="utf-8">
<title>Chat</title>
<form id="form"><input id="text" value="Which tram?" autofocus><button>Ask</button></form>
<p id="answer"></p>
<script type="module">
  async function* readEvents(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const blocks = (rest + value).split("\\n\\n");
        rest = blocks.pop();
        for (const block of blocks) {
          let name = "message";
          const data = [];
          for (const line of block.split("\\n")) {
            if (line.startsWith("event: ")) name = line.slice(7);
            if (line.startsWith("data: ")) data.push(line.slice(6));
          }
          if (data.length > 0) yield { name, data: data.join("\\n") };
        }
      }
    } finally {
      await reader.cancel(); // after a `break` in the loop that reads: the server learns of it
    }
  }

  const answer = document.getElementById("answer");
  let asking = new AbortController();

  document.getElementById("form").addEventListener("submit", async (submit) => {
    submit.preventDefault();
    asking.abort();  // a new question ends the answer to the last one, in the server too
    asking = new AbortController();
    const { signal } = asking;
    answer.textContent = "";
    try {
      const response = await fetch("/chat", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ text: document.getElementById("text").value }),
        signal,
      });
      if (!response.ok) throw new Error(`status ${response.status}`);
      for await (const { name, data } of readEvents(response)) {
        if (name === "token") answer.textContent += JSON.parse(data).token;
        if (name === "done") break;
      }
    } catch (error) {
      if (!signal.aborted) answer.textContent = `Sorry: ${error.message}`;
    }
  });
</script>
"""


class Question(BaseModel):
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


async def model(text: str) -> AsyncIterator[str]:
    """Stands for a language model: its answer, in pieces."""
    for word in f"You asked: {text} Line 4 leaves in two minutes.".split():
        yield f"{word} "
        await asyncio.sleep(0.05)


app = FastAPI()


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.post("/chat", response_class=EventSourceResponse)
async def chat(question: Question) -> AsyncIterable[ServerSentEvent]:
    async for token in model(question.text):
        yield ServerSentEvent(data={"token": token}, event="token")
    yield ServerSentEvent(raw_data="[DONE]", event="done")
