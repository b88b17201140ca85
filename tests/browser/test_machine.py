"""The sampler that all readers of the machine share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import aclosing

import psutil
import pytest

from tidings.demo import machine
from tidings.demo.machine import Meter, Reading, Sampler, describe

pytestmark = pytest.mark.anyio


def counting(start: int = 1, step: int = 1) -> Callable[[], Reading]:
    """A fake machine, whose time and load count up."""
    numbers = itertools.count(start, step)

    def read() -> Reading:
        number = next(numbers)
        return Reading(time=number, processor=number, cores=[number], memory=1, received=0, sent=0)

    return read


async def take(sampler: Sampler, count: int, after: int = 0) -> list[int]:
    times: list[int] = []
    async with asyncio.timeout(30), aclosing(sampler.readings(after)) as readings:
        async for reading in readings:
            times.append(reading.time)
            if len(times) == count:
                break
    return times


async def test_every_reader_gets_every_reading_in_order() -> None:
    sampler = Sampler(counting(), interval=0.001)
    async with sampler.running():
        taken = await asyncio.gather(*(take(sampler, 20) for _ in range(5)))
    assert taken == [list(range(1, 21))] * 5


async def test_a_reader_goes_on_after_the_time_it_has_seen() -> None:
    sampler = Sampler(counting(), interval=0.001)
    async with sampler.running():
        await take(sampler, 10)
        assert await take(sampler, 10, after=5) == list(range(6, 16))


async def test_a_new_reader_begins_with_the_history_which_is_bounded() -> None:
    sampler = Sampler(counting(), interval=0)
    async with sampler.running():
        await take(sampler, machine.HISTORY + 50)
        times = await take(sampler, machine.HISTORY)
    assert times[0] > 1
    assert times == list(range(times[0], times[0] + machine.HISTORY))


async def test_a_clock_that_is_set_back_stops_nothing() -> None:
    sampler = Sampler(counting(start=1000, step=-1), interval=0.001)
    async with sampler.running():
        assert await take(sampler, 5) == [1000, 1001, 1002, 1003, 1004]


async def test_a_time_to_come_is_as_good_as_none() -> None:
    sampler = Sampler(counting(), interval=0.001)
    async with sampler.running():
        await take(sampler, 3)
        assert (await take(sampler, 3, after=10**15))[0] == 1


async def test_sampling_ends_with_its_context() -> None:
    before = asyncio.all_tasks()
    sampler = Sampler(counting(), interval=0)
    async with sampler.running():
        await take(sampler, 1)
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


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
