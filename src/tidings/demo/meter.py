"""What a worker has to do: its open streams, and what they send, as the metrics of tidings itself have it."""

import asyncio
import os
import time
from collections import defaultdict
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Meter, NoOpCounter, NoOpMeter, NoOpMeterProvider, NoOpUpDownCounter
from opentelemetry.metrics import UpDownCounter as UpDown
from pydantic import BaseModel

from tidings import Broker, Event
from tidings.demo.feed import now

INTERVAL = 1.0
"""Seconds between two reports."""

Totals = defaultdict[str, float]


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


class Sums(NoOpMeterProvider):
    """A provider for OpenTelemetry that adds up what is counted, and nothing more."""

    def __init__(self) -> None:
        self.totals: Totals = defaultdict(float)

    def get_meter(self, name: str, *_: Any, **__: Any) -> Meter:
        return _Meter(name, self.totals)


class _Meter(NoOpMeter):
    def __init__(self, name: str, totals: Totals) -> None:
        super().__init__(name)
        self._totals = totals

    def create_counter(self, name: str, *_: Any, **__: Any) -> Counter:
        return _Counter(name, self._totals)

    def create_up_down_counter(self, name: str, *_: Any, **__: Any) -> UpDown:
        return _UpDownCounter(name, self._totals)


class _Sum:
    def __init__(self, name: str, totals: Totals) -> None:
        self._sum, self._totals = name, totals

    def add(self, amount: float, *_: Any, **__: Any) -> None:
        self._totals[self._sum] += amount


class _Counter(_Sum, NoOpCounter):
    pass


class _UpDownCounter(_Sum, NoOpUpDownCounter):
    pass


def measure_streams() -> Totals:
    """Have tidings count in this process; returns the totals, by the names of the metrics."""
    provider = Sums()
    metrics.set_meter_provider(provider)
    return provider.totals


async def report(totals: Totals, figures: Broker, desk: Broker) -> None:
    """Say once a second what this worker does."""
    events, size, then = totals["tidings.events.sent"], totals["tidings.bytes.sent"], time.monotonic()
    while True:
        await asyncio.sleep(INTERVAL)
        seconds = time.monotonic() - then
        load = Load(
            pid=os.getpid(),
            at=now(),
            streams=int(totals["tidings.streams.open"]),
            events=round((totals["tidings.events.sent"] - events) / seconds, 1),
            bytes=round((totals["tidings.bytes.sent"] - size) / seconds),
            readers={"news": (await desk.status("news")).readers},
        )
        events, size, then = totals["tidings.events.sent"], totals["tidings.bytes.sent"], then + seconds
        await figures.publish("workers", Worker.create(load))
