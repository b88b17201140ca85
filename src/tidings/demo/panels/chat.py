"""A chat whose answers go on when the page is reloaded."""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, StringConstraints

from tidings import Broker, Event
from tidings.demo.feed import Desk, refusals
from tidings.errors import ChannelBusy

WORD_INTERVAL = 0.08
"""Seconds between two words of the built-in answer."""

TEXT = """
No model is connected, so this answer is always the same. It is written by a generator that belongs to no request: it
runs in the background of one worker, and what it yields is published to a channel. Reload the page now. The words so
far come back at once, and the rest follows as it is written. Open a second tab: both show the same answer, although
each may hang on another worker. Press stop in either, and it ends in both. To hear something new, start the demo with
the address of a model that speaks the OpenAI API in OPENAI_BASE_URL, its name in OPENAI_MODEL, and a key, if it wants
one, in OPENAI_API_KEY.
"""

router = APIRouter()


class Message(BaseModel):
    """What somebody asks."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]


class Asked(Message):
    """A question, with a name of its own."""

    id: str


class Stopped(BaseModel):
    """Whether an answer was being written."""

    stopped: bool


class Nothing(BaseModel):
    """No more than that it happened."""


class Question(Event[Asked]):
    """A question; its answer follows, token by token."""


class Done(Event[Nothing]):
    """The answer is complete."""


@router.post("/chat", status_code=202, responses=refusals(400, 409, 415))
async def ask(message: Message, desk: Desk) -> None:
    try:
        await desk.start("chat", answer(desk, Asked(id=secrets.token_hex(8), text=message.text)))
    except ChannelBusy:
        raise HTTPException(409, "an answer is being written") from None


@router.delete("/chat")
async def stop(desk: Desk) -> Stopped:
    return Stopped(stopped=await desk.stop("chat"))


async def answer(desk: Broker, question: Asked) -> AsyncIterator[Question | str | Done]:
    yield Question.create(question)
    async with aclosing(complete(desk, question)) as tokens:
        async for token in tokens:
            yield token
    yield Done.create(Nothing())


async def complete(desk: Broker, question: Asked) -> AsyncGenerator[str]:
    """The answer, token by token: of a model, if one is configured."""
    if base_url := os.environ.get("OPENAI_BASE_URL"):
        async with aclosing(ask_model(base_url, await conversation(desk, question))) as tokens:
            async for token in tokens:
                yield token
    else:
        for word in TEXT.split():
            await asyncio.sleep(WORD_INTERVAL)
            yield f"{word} "


async def ask_model(base_url: str, messages: list[dict[str, str]]) -> AsyncGenerator[str]:
    """The tokens of an endpoint that speaks the OpenAI API."""
    from tidings.client import AsyncEventSource  # noqa: PLC0415 - an extra, needed only here

    async with AsyncEventSource(
        f"{base_url.rstrip('/')}/chat/completions",
        method="POST",
        headers={"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"},
        json={"model": os.environ.get("OPENAI_MODEL", "default"), "messages": messages, "stream": True},
        max_attempts=1,
        on_reconnect=give_up,
    ) as source:
        async for event in source:
            if event.data == "[DONE]":
                return
            for choice in event.json()["choices"]:
                if token := choice["delta"].get("content"):
                    yield token


def give_up(error: Exception | None, _delay: float) -> None:
    """A second attempt would have the model begin anew."""
    raise ConnectionError("the model broke off in the middle of its answer") from error


async def conversation(desk: Broker, question: Asked) -> list[dict[str, str]]:
    """All that was said up to a question: the channel is what the chat remembers."""
    said: list[tuple[str, list[str]]] = []
    async with desk.subscribe("chat", last_event_id="earliest") as events:
        async for event in events:
            data: Any = event.data
            if event.event == "question":
                said.append(("user", [data["text"]]))
                if data["id"] == question.id:
                    break
                said.append(("assistant", []))
            elif event.event is None and said:
                said[-1][1].append(data)
    return [{"role": role, "content": "".join(tokens)} for role, tokens in said if tokens]


SHOWN = (ask, answer)
