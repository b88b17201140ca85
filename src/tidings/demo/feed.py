"""What the demo's two streams of channels have in common, and the brokers that they read."""

import os
import time
from typing import Annotated

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


def _figures(request: Request) -> Broker:
    broker: Broker = request.app.state.figures
    return broker


def _desk(request: Request) -> Broker:
    broker: Broker = request.app.state.desk
    return broker


Figures = Annotated[Broker, Depends(_figures)]
Desk = Annotated[Broker, Depends(_desk)]
