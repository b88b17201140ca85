"""A small MCP server (streamable HTTP, revision 2025-11-25) that answers with streams.

What belongs to a session is in channels: one for what the server says of itself, one for each call of a tool. A call
goes on when its connection is lost, and a client reads on behind the last id that it has, which says the channel, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine
from itertools import count
from typing import Annotated, Any
from uuid import uuid4

from fastapi import FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel

from tests.clients.pings import CountPings, pinged
from tests.servers.apps import note
from tidings import Broker, EventSourceResponse, ServerSentEvent

broker = Broker()
app = FastAPI(lifespan=broker.lifespan)
app.add_middleware(CountPings)

sessions: set[str] = set()
calls: set[asyncio.Task[None]] = set()


class Messages(EventSourceResponse):
    ping_interval = 0.01
    retry = 50


class Asked(BaseModel):
    """A request, or a notification if it has no id."""

    id: int | str | None = None
    method: str
    params: dict[str, Any] = {}


class Tool(BaseModel):
    name: str
    description: str
    inputSchema: dict[str, Any]  # noqa: N815 - the protocol's


def result(asked: Asked, **fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked.id, "result": fields}


def notification(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


# -- tools ------------------------------------------------------------------------------------------------------------


async def load(channel: str, session: str, asked: Asked) -> str:
    """Load some crates, one step of progress for each."""
    crates = asked.params["arguments"]["crates"]
    token = asked.params.get("_meta", {}).get("progressToken")
    for number, crate in enumerate(crates, 1):
        await broker.publish(
            channel,
            notification(
                "notifications/progress", progressToken=token, progress=number, total=len(crates), message=crate
            ),
        )
        await asyncio.sleep(0.02)
    return f"loaded {', '.join(crates)}"


async def announce(channel: str, session: str, asked: Asked) -> str:
    """Say something to the session, beside the call."""
    for text in asked.params["arguments"]["texts"]:
        await broker.publish(session, notification("notifications/message", level="info", data=text))
    return "announced"


TOOLS: dict[str, Callable[[str, str, Asked], Coroutine[Any, Any, str]]] = {"load": load, "announce": announce}


async def run(channel: str, session: str, asked: Asked) -> None:
    text = await TOOLS[asked.params["name"]](channel, session, asked)
    await broker.publish(channel, result(asked, content=[{"type": "text", "text": text}]))
    await broker.finish(channel)


# -- the endpoint -----------------------------------------------------------------------------------------------------


async def follow(channel: str, position: str) -> AsyncIterable[ServerSentEvent]:
    async for message in broker.subscribe(channel, last_event_id=position):
        yield ServerSentEvent(data=message.data, id=f"{channel}@{message.id}")


async def torn(content: AsyncIterable[ServerSentEvent], request: Request) -> AsyncIterable[ServerSentEvent]:
    seen = count(1)
    async for message in content:
        yield message
        if next(seen) == 2:
            await pinged(request)
            raise ConnectionError("the cable was cut")


async def one(message: dict[str, Any], request: Request) -> AsyncIterable[dict[str, Any]]:
    await pinged(request)
    yield message


def known(session: str | None) -> str:
    if session not in sessions:
        raise HTTPException(404, "no such session")
    return session


Session = Annotated[str | None, Header(alias="mcp-session-id")]


@app.post("/mcp")
async def post(asked: Asked, request: Request, mcp_session_id: Session = None) -> Response:
    note(f"{asked.method} of {mcp_session_id or 'nobody'}")
    if asked.method == "initialize":
        session = uuid4().hex
        sessions.add(session)
        welcome = result(
            asked,
            protocolVersion="2025-11-25",
            capabilities={"tools": {}, "logging": {}},
            serverInfo={"name": "harbour", "version": "1"},
        )
        return Messages(one(welcome, request), headers={"mcp-session-id": session})
    if asked.method == "server/discover":  # of a later revision
        error = {"code": -32601, "message": "no such method"}
        return Messages(one({"jsonrpc": "2.0", "id": asked.id, "error": error}, request))
    session = known(mcp_session_id)
    if asked.id is None:
        return Response(status_code=202)
    if asked.method == "tools/list":
        schema = {"type": "object"}
        tools = [Tool(name=name, description=tool.__doc__ or "", inputSchema=schema) for name, tool in TOOLS.items()]
        return Messages(one(result(asked, tools=tools), request))
    channel = f"{session}/{asked.id}"
    task = asyncio.create_task(run(channel, session, asked))
    calls.add(task)
    task.add_done_callback(calls.discard)
    # How the connection ends after two messages, if the client wants to see that.
    cut = asked.params["arguments"].get("cut")
    content = follow(channel, "earliest")
    return Messages(torn(content, request) if cut == "torn" else content, max_events=2 if cut == "clean" else None)


@app.get("/mcp")
async def get(
    mcp_session_id: Session = None, last_event_id: Annotated[str | None, Header()] = None
) -> EventSourceResponse:
    """What the server says of itself, two messages a connection; or the rest of a call."""
    session = known(mcp_session_id)
    channel, _, position = (last_event_id or f"{session}@earliest").partition("@")
    if channel.split("/")[0] != session:
        raise HTTPException(404, "of another session")
    note(f"{'resumed' if last_event_id else 'listened'} {channel.removeprefix(session) or 'session'}")
    return Messages(follow(channel, position), max_events=2 if channel == session else None)


@app.delete("/mcp", status_code=204)
async def delete(mcp_session_id: Session = None) -> None:
    session = known(mcp_session_id)
    sessions.discard(session)
    await broker.finish(session)
    note(f"{session} is over")
