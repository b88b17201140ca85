"""A model that speaks the OpenAI API and can count; if slowly, then it waits in the middle for a `POST /go`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

from tests.servers.apps import note
from tidings import EventSourceResponse, ServerSentEvent

app = FastAPI()
told_to_go = asyncio.Semaphore(0)


class Message(BaseModel):
    role: str
    content: str


class Question(BaseModel):
    model: str
    messages: list[Message]
    stream: bool


def chunk(**delta: str) -> ServerSentEvent:
    return ServerSentEvent({"choices": [{"index": 0, "delta": delta}]})


async def count(to: int, how: str) -> AsyncIterator[ServerSentEvent]:
    """The numbers up to this one, every 20 ms."""
    try:
        yield chunk(role="assistant", content="")
        for number in range(1, to + 1):
            await asyncio.sleep(0.02)
            yield chunk(content=f"{number} ")
            if number == to // 2 and how == "slowly":
                await told_to_go.acquire()
            if number == to // 2 and how == "badly":
                return
        yield ServerSentEvent({"choices": []})
        yield ServerSentEvent(raw_data="[DONE]")
    finally:
        note(f"left {to}")


@app.post("/v1/chat/completions")
async def complete(question: Question, request: Request) -> EventSourceResponse:
    """`80`, `80 slowly`, `80 badly`, and no other question."""
    number, _, how = question.messages[-1].content.partition(" ")
    note(f"asked {question.model} {request.headers['authorization']}")
    note(f"asked {number} after " + " | ".join(f"{said.role}: {said.content}" for said in question.messages[:-1]))
    if not number.isdecimal():
        raise HTTPException(404, "I can only count")
    return EventSourceResponse(count(int(number), how))


@app.post("/go")
async def go() -> None:
    told_to_go.release()
