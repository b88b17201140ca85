"""The example of tickets, and a stream for pages of another origin; their streams end again and again."""

from __future__ import annotations

import os
from typing import Annotated

from examples.tickets import app as tickets_app
from fastapi import Cookie, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.servers.apps import note
from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId


class Noting:
    """Notes each request, and what says whose it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            note(f"{request.method} {request.url.path} ticket={request.query_params.get('ticket')}")
        await self._app(scope, receive, send)


EventSourceResponse.max_duration = 0.3
EventSourceResponse.retry = 100

app = Noting(tickets_app)

broker = Broker()
shop = FastAPI(lifespan=broker.lifespan)
shop.add_middleware(
    CORSMiddleware,
    allow_origins=[os.environ.get("PAGE", "")],
    allow_credentials=True,
    allow_methods=["GET"],
    allow_headers=["Last-Event-ID"],
)


@shop.get("/page")
async def page() -> HTMLResponse:
    return HTMLResponse("<!doctype html><link rel=icon href=data:,><title>Shop</title>")


@shop.get("/login")
async def login(response: Response) -> str:
    response.set_cookie("session", "ada", httponly=True, samesite="lax")
    return "logged in"


@shop.get("/orders")
async def orders(
    last_event_id: LastEventId, request: Request, session: Annotated[str | None, Cookie()] = None
) -> EventSourceResponse:
    note(f"{session} from {request.headers.get('last-event-id')}")
    if session is None:
        raise HTTPException(401)
    subscription = broker.subscribe("orders", last_event_id=last_event_id)
    return EventSourceResponse(subscription, retry=50, max_events=1)


@shop.post("/orders")
async def order(what: str) -> str:
    return await broker.publish("orders", what)


shop_noting = Noting(shop)
