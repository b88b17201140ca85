"""A model that answers as the OpenAI API does: chat completions and responses, each a stream of chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from tests.clients.pings import CountPings, pinged
from tests.servers.apps import note
from tidings import Event, EventSourceResponse, ServerSentEvent

app = FastAPI()
app.add_middleware(CountPings)


@app.exception_handler(HTTPException)
async def refuse(request: Request, refusal: HTTPException) -> JSONResponse:
    """Where the client looks for the message of a refusal."""
    return JSONResponse({"error": {"message": refusal.detail}}, refusal.status_code, refusal.headers)


TOKENS = ["Die ", "Fähre ", "legt um 9:40 ab.", "\n\n", "\u2028", "🚢", " [DONE]?"]


class Answers(EventSourceResponse):
    ping_interval = 0.01


class Retried(Answers):
    retry = 50


class Message(BaseModel):
    role: str
    content: str


class Question(BaseModel):
    model: str
    messages: list[Message]


class Delta(BaseModel):
    role: str | None = None
    content: str | None = None


class Choice(BaseModel):
    index: int = 0
    delta: Delta
    finish_reason: Literal["stop"] | None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Chunk(BaseModel):
    id: str = "chat-1"
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int = 1_767_225_600
    model: str
    choices: list[Choice]
    usage: Usage | None = None


async def answer(question: Question, request: Request) -> AsyncIterable[Chunk]:
    yield Chunk(model=question.model, choices=[Choice(delta=Delta(role="assistant", content=""))])
    for token in TOKENS:
        if token.isspace() or token == TOKENS[0]:
            await pinged(request)
        yield Chunk(model=question.model, choices=[Choice(delta=Delta(content=token))])
    yield Chunk(model=question.model, choices=[Choice(delta=Delta(), finish_reason="stop")])
    usage = Usage(prompt_tokens=9, completion_tokens=len(TOKENS), total_tokens=9 + len(TOKENS))
    yield Chunk(model=question.model, choices=[], usage=usage)


@app.post("/v1/chat/completions", response_class=Answers, response_model_exclude_none=True)
async def complete(question: Question, request: Request) -> AsyncIterable[Any]:
    """A model that is called `good` answers; the others show what clients make of what goes wrong."""
    note(f"asked with {request.headers['authorization']}")
    if question.model == "none":
        raise HTTPException(404, "no such model")
    try:
        async for chunk in answer(question, request):
            yield chunk
            if question.model != "good" and chunk.choices[0].delta.content == TOKENS[1]:
                break
        match question.model:
            case "good":
                yield ServerSentEvent(raw_data="[DONE]")
            case "overloaded":
                error = {"message": "the model is overloaded", "type": "overloaded", "code": "busy"}
                yield ServerSentEvent(data={"error": error})
            case "torn":
                raise ConnectionError("the cable was cut")
            case "endless":
                await asyncio.Event().wait()
    finally:
        note(f"{question.model} has closed")


@app.post("/numbered/chat/completions", response_class=Answers)
async def complete_with_ids(question: Question, request: Request) -> AsyncIterable[ServerSentEvent]:
    """Right by the standard, and too much for the client."""
    async for chunk in answer(question, request):
        yield ServerSentEvent(data=chunk, id="1")
    yield ServerSentEvent(raw_data="[DONE]")


@app.post("/retried/chat/completions", response_class=Retried)
async def complete_with_retry(question: Question, request: Request) -> AsyncIterable[ServerSentEvent]:
    async for chunk in answer(question, request):
        yield ServerSentEvent(data=chunk)
    yield ServerSentEvent(raw_data="[DONE]")


class Part(BaseModel):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[str] = []


class Output(BaseModel):
    type: Literal["message"] = "message"
    id: str = "message-1"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed"]
    content: list[Part]


class Response(BaseModel):
    id: str = "response-1"
    object: Literal["response"] = "response"
    created_at: int = 1_767_225_600
    model: str
    status: Literal["in_progress", "completed"]
    output: list[Output] = []
    tools: list[str] = []
    tool_choice: Literal["auto"] = "auto"
    parallel_tool_calls: bool = False


class Whole(BaseModel):
    type: Literal["response.created", "response.completed"]
    sequence_number: int
    response: Response


class ItemAdded(BaseModel):
    type: Literal["response.output_item.added"] = "response.output_item.added"
    sequence_number: int
    output_index: int = 0
    item: Output


class PartAdded(BaseModel):
    type: Literal["response.content_part.added"] = "response.content_part.added"
    sequence_number: int
    item_id: str = "message-1"
    output_index: int = 0
    content_index: int = 0
    part: Part


class TextDelta(BaseModel):
    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    sequence_number: int
    item_id: str = "message-1"
    output_index: int = 0
    content_index: int = 0
    delta: str
    logprobs: list[float] = []


class Created(Event[Whole], name="response.created"):
    pass


class Added(Event[ItemAdded], name="response.output_item.added"):
    pass


class Begun(Event[PartAdded], name="response.content_part.added"):
    pass


class Said(Event[TextDelta], name="response.output_text.delta"):
    pass


class Completed(Event[Whole], name="response.completed"):
    pass


class Prompt(BaseModel):
    model: str
    input: str = Field(max_length=1000)


@app.post("/v1/responses", response_class=Answers)
async def respond(prompt: Prompt, request: Request) -> AsyncIterable[Created | Added | Begun | Said | Completed]:
    created = Response(model=prompt.model, status="in_progress")
    yield Created.create(Whole(type="response.created", sequence_number=0, response=created))
    yield Added.create(ItemAdded(sequence_number=1, item=Output(status="in_progress", content=[])))
    yield Begun.create(PartAdded(sequence_number=2, part=Part(text="")))
    for number, token in enumerate(TOKENS, 3):
        if token.isspace():
            await pinged(request)
        yield Said.create(TextDelta(sequence_number=number, delta=token))
    output = Output(status="completed", content=[Part(text="".join(TOKENS))])
    completed = Response(model=prompt.model, status="completed", output=[output])
    yield Completed.create(Whole(type="response.completed", sequence_number=3 + len(TOKENS), response=completed))
