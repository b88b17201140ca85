"""The live figures: what the machine does, for every tab."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter

from tidings import Broker, Event
from tidings.broker import DeliveredEvent
from tidings.demo.feed import Connection, Feed, Figures, Reset, Served
from tidings.demo.machine import INTERVAL, Machine, Meter, Reading, describe
from tidings.demo.meter import Worker
from tidings.demo.panels.workers import Count
from tidings.fastapi import LastEventId

INTRODUCTION_INTERVAL = 30.0
"""Seconds between two descriptions of the machine: the channel keeps a minute."""

CHANNELS = ("machine", "counter", "workers")

router = APIRouter()


class Host(Event[Machine]):
    """The machine."""


class Sample(Event[Reading]):
    """One reading."""


async def introduce(figures: Broker) -> None:
    while True:
        await figures.publish("machine", Host.create(describe()))
        await asyncio.sleep(INTRODUCTION_INTERVAL)


async def measure(figures: Broker) -> None:
    meter = Meter()
    while True:
        await asyncio.sleep(INTERVAL)
        await figures.publish("machine", Sample.create(meter.read()))


@router.get("/figures", response_class=Feed)
async def figures(
    broker: Figures, last_event_id: LastEventId
) -> AsyncIterator[Served | Host | Sample | Count | Worker | Reset | DeliveredEvent]:
    yield Served.create(Connection())
    async with broker.subscribe(*CHANNELS, last_event_id=last_event_id or "earliest") as events:
        async for event in events:
            yield event


SHOWN = (measure, figures)
