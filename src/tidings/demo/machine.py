"""What the machine is doing: processor, memory and network, sampled once for however many readers."""

import asyncio
import contextlib
import os
import platform
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import psutil
from pydantic import BaseModel

INTERVAL = 0.5
"""Seconds between two samples."""

HISTORY = 150
"""Samples that are kept, so that the charts of a new reader begin full: 75 seconds."""

_SEEN_TWICE = ("lo", "ifb", "veth", "docker", "br-", "virbr")
"""Interfaces whose traffic never leaves the machine, or is counted by another one already."""


class Machine(BaseModel):
    """What doesn't change while the program runs. Memory in bytes, the time of the boot in seconds since 1970."""

    name: str
    system: str
    cores: int
    memory: int
    booted: float
    interval: float = INTERVAL


class Reading(BaseModel):
    """One moment: loads in percent, memory in bytes, the network in bytes per second."""

    time: int
    """Milliseconds since 1970."""
    processor: float
    cores: list[float]
    memory: int
    received: float
    sent: float


def describe() -> Machine:
    """The machine that this program runs on."""
    return Machine(
        name=platform.node() or "this machine",
        system=f"{platform.system()} {platform.release().partition('-')[0]}".strip(),
        cores=psutil.cpu_count() or os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        booted=psutil.boot_time(),
    )


class Meter:
    """Reads the counters of the machine; what counts up is told as a rate since the reading before."""

    def __init__(self) -> None:
        # The first call of this process has nothing to compare with and would say 0.
        psutil.cpu_percent(percpu=True)
        self._traffic = _traffic()
        self._read_at = time.monotonic()

    def read(self) -> Reading:
        cores = psutil.cpu_percent(percpu=True)
        traffic, now = _traffic(), time.monotonic()
        seconds = max(now - self._read_at, 1e-3)
        # An interface that went away takes its count with it.
        received, sent = (
            max(0, after - before) / seconds for before, after in zip(self._traffic, traffic, strict=True)
        )
        self._traffic, self._read_at = traffic, now
        memory = psutil.virtual_memory()
        return Reading(
            time=time.time_ns() // 1_000_000,
            processor=round(sum(cores) / len(cores), 1) if cores else 0.0,
            cores=cores,
            memory=memory.total - memory.available,
            received=round(received),
            sent=round(sent),
        )


def _traffic() -> tuple[int, int]:
    counters = [c for name, c in psutil.net_io_counters(pernic=True).items() if not name.startswith(_SEEN_TWICE)]
    return sum(c.bytes_recv for c in counters), sum(c.bytes_sent for c in counters)


class Sampler:
    """Takes readings and hands them to any number of readers: one short history that all of them share, no queues.

    Args:
        read: Takes one reading. It is called on the event loop and must be quick: psutil keeps what it compares with
            per thread, so a pool of worker threads would get it wrong.
        interval: Seconds between two readings.
    """

    def __init__(self, read: Callable[[], Reading], interval: float = INTERVAL) -> None:
        self._read = read
        self._interval = interval
        self._history: deque[Reading] = deque(maxlen=HISTORY)
        self._fresh = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take readings for as long as this context is open."""
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            reading = self._read()
            # The time is a reader's place in the history: it never stands still, though a clock may be set back.
            if self._history and reading.time <= self._history[-1].time:
                reading.time = self._history[-1].time + 1
            self._history.append(reading)
            fresh, self._fresh = self._fresh, asyncio.Event()
            fresh.set()

    async def readings(self, after: int = 0) -> AsyncGenerator[Reading, None]:
        """The kept readings taken after a time (in milliseconds since 1970), then each new one; it never ends.

        A reader that is slower than the history is long misses readings: a chart wants the present.
        """
        # A time that is still to come is from another machine's clock.
        if self._history and after > self._history[-1].time:
            after = 0
        while True:
            # Taken before the look at the history, so that no reading can come between the two.
            fresh = self._fresh
            for reading in [r for r in self._history if r.time > after]:
                yield reading
                after = reading.time
            await fresh.wait()
