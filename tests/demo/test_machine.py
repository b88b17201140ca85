"""What the machine is doing, as the demo reads it."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from tidings.demo import machine
from tidings.demo.machine import Meter, describe

pytestmark = pytest.mark.anyio


async def test_a_reading_is_of_this_machine() -> None:
    meter = Meter()
    await asyncio.sleep(0.1)
    reading = meter.read()
    assert len(reading.cores) == psutil.cpu_count() == describe().cores
    assert all(0 <= load <= 100 for load in [reading.processor, *reading.cores])
    assert 0 < reading.memory < describe().memory == psutil.virtual_memory().total
    assert reading.received >= 0
    assert reading.sent >= 0


async def test_an_interface_that_went_away_is_no_negative_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_traffic", iter([(1000, 1000), (5, 2000)]).__next__)
    reading = Meter().read()
    assert reading.received == 0
    assert reading.sent > 0
