"""How does an answer go on when the page that asked for it is reloaded?

    uvicorn examples.background_chat:app --workers 2

Then open http://127.0.0.1:8000/, ask something, and reload the page in the middle of the answer; or open its address in
a second tab. The answer is a text of its own. A model that speaks the OpenAI API answers if its address is given:

    OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=llama3.2 uvicorn examples.background_chat:app --workers 2
"""

import asyncio
import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel, StringConstraints

from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.client import AsyncEventSource
from tidings.errors import BackgroundLimit, ChannelBusy
from tidings.fastapi import LastEventId

PAGE = Path(__file__).with_name("background_chat.html")

TEXT = """
The moon pulls at the sea, and at the near side of the earth more than at the far side. So the water stands higher on
both, and as the earth turns, a coast passes through high water twice a day. The moon has moved on meanwhile: each tide
is some fifty minutes later than that of the day before. When sun and moon pull along one line, at new and at full moon,
the tides are at their highest. Between them they are low. Bays and channels do the rest: in some harbours the water
rises by fifteen metres, in others nobody notices.
"""

# A token is an event. With fewer of them a tab that reads from the beginning would miss that of a long chat.
broker = Broker("sqlite:///chat.db", history=20_000, max_age=86_400.0)
app = FastAPI(lifespan=broker.lifespan)

OPEN = "open"
"""A channel that nobody finishes: a stream that has it, too, goes on when an answer is complete."""


# -- the answer -------------------------------------------------------------------------------------------------------


async def answer(channel: str, question: str) -> AsyncIterator[ServerSentEvent]:
    """What runs in the background: the question itself, the answer piece by piece, and a mark that it is complete."""
    id = secrets.token_hex(8)
    yield ServerSentEvent({"id": id, "text": question}, event="question")
    async with aclosing(complete(await conversation(channel, id))) as tokens:
        async for token in tokens:
            yield ServerSentEvent(token, event="token")
    yield ServerSentEvent(raw_data="[DONE]", event="done")


async def conversation(channel: str, last: str) -> list[dict[str, str]]:
    """All that was said up to a question: the channel is what the chat remembers."""
    said: list[tuple[str, list[str]]] = []
    async with broker.subscribe(channel, last_event_id="earliest") as events:
        async for event in events:
            if event.event == "question":
                said.append(("user", [event.data["text"]]))
                if event.data["id"] == last:
                    break
                said.append(("assistant", []))
            elif event.event == "token" and said:
                said[-1][1].append(event.data)
    return [{"role": role, "content": "".join(tokens)} for role, tokens in said if tokens]


async def complete(messages: list[dict[str, str]]) -> AsyncGenerator[str]:
    """The model's answer, token by token."""
    base_url = os.environ.get("OPENAI_BASE_URL")
    if base_url is None:
        for word in TEXT.split():
            await asyncio.sleep(0.1)
            yield f"{word} "
        return
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


# -- the requests -----------------------------------------------------------------------------------------------------


def channel_of(chat: str) -> str:
    """In place of a login: who knows the address of a chat may read and write it."""
    if not re.fullmatch(r"[\w-]{1,32}", chat, re.ASCII):
        raise HTTPException(404, "no such chat")
    return f"chat/{chat}"


Channel = Annotated[str, Depends(channel_of)]


class Message(BaseModel):
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]


@app.get("/")
async def new_chat() -> RedirectResponse:
    return RedirectResponse(f"/chats/{secrets.token_urlsafe(12)}")


@app.get("/chats/{chat}")
async def page() -> FileResponse:
    return FileResponse(PAGE)


@app.post("/chats/{chat}/messages", status_code=202)
async def ask(channel: Channel, message: Message) -> None:
    try:
        await broker.start(channel, answer(channel, message.text), timeout=600)
    except ChannelBusy:
        raise HTTPException(409, "an answer is being written") from None
    except BackgroundLimit:
        raise HTTPException(503, "too many answers are being written", {"Retry-After": "5"}) from None


@app.get("/chats/{chat}/events")
async def events(channel: Channel, last_event_id: LastEventId) -> EventSourceResponse:
    # Who comes without an id, a page that was just loaded, reads from the beginning.
    return EventSourceResponse(broker.subscribe(channel, OPEN, last_event_id=last_event_id or "earliest"), retry=1000)


@app.post("/chats/{chat}/stop")
async def stop(channel: Channel) -> dict[str, bool]:
    return {"stopped": await broker.stop(channel)}
