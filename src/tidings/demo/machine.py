"""What the machine is doing: processor, memory and network."""

import os
import platform
import time

import psutil
from pydantic import BaseModel

INTERVAL = 0.5
"""Seconds between two samples."""

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
    """Reads the counters of the machine; what counts up is told as a rate since the reading before.

    psutil keeps what it compares with per thread: all readings have to be taken in the same one.
    """

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
