"""What a worker has to do: its open streams, and what they send, as tidings itself counts it."""

import asyncio
import os
import time

from pydantic import BaseModel

from tidings import Broker, Event
from tidings.demo.feed import now
from tidings.stream import statistics

INTERVAL = 1.0
"""Seconds between two reports."""


class Load(BaseModel):
    """What a worker does: open streams, events and bytes per second, and how many read a channel there."""

    pid: int
    at: int
    streams: int
    events: float
    bytes: float
    readers: dict[str, int]


class Worker(Event[Load]):
    """A worker is there."""


async def report(figures: Broker, desk: Broker) -> None:
    """Say once a second what this worker does."""
    before, then = statistics(), time.monotonic()
    while True:
        await asyncio.sleep(INTERVAL)
        streams, seconds = statistics(), time.monotonic() - then
        load = Load(
            pid=os.getpid(),
            at=now(),
            streams=streams.active,
            events=round((streams.events - before.events) / seconds, 1),
            bytes=round((streams.bytes - before.bytes) / seconds),
            readers={"news": (await desk.status("news")).readers},
        )
        before, then = streams, then + seconds
        await figures.publish("workers", Worker.create(load))
