"""What the demo's two streams of channels have in common, and the brokers that they read."""

import os
import time
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from tidings import Broker, Event, EventSourceResponse


class Feed(EventSourceResponse):
    """A stream whose clients come back a second after the connection dropped."""

    retry = 1000


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Connection(BaseModel):
    """Which worker serves it, since when."""

    pid: int = Field(default_factory=os.getpid)
    at: int = Field(default_factory=now)


class Served(Event[Connection]):
    """The start of each connection. It has no id, so it is nothing to resume from."""


class Missed(BaseModel):
    """Why a client may have missed something, the id that it came with, and where it goes on."""

    reason: str
    requested: str | None
    oldest: str | None


class Reset(Event[Missed]):
    """The broker's own, declared for who reads the OpenAPI document."""


class Refusal(BaseModel):
    """Why a request isn't served."""

    detail: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of an operation that may answer with these."""
    return {status: {"model": Refusal} for status in statuses}


def _figures(request: Request) -> Broker:
    broker: Broker = request.app.state.figures
    return broker


def _desk(request: Request) -> Broker:
    broker: Broker = request.app.state.desk
    return broker


Figures = Annotated[Broker, Depends(_figures)]
Desk = Annotated[Broker, Depends(_desk)]
