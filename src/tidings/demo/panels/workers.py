"""Killing a worker, while a counter shows that nothing is lost."""

import asyncio
import contextlib
import multiprocessing
import os
import secrets
import signal

import psutil
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from tidings import Broker, Event
from tidings.demo.feed import now, refusals

COUNT_INTERVAL = 0.1
"""Seconds between two numbers of the counter."""

router = APIRouter()


class Number(BaseModel):
    """A number of the counter, in a run that begins with 1."""

    run: str
    number: int
    at: int


class Count(Event[Number]):
    """The next number."""


async def count(figures: Broker) -> None:
    run, number = secrets.token_hex(4), 0
    while True:
        number += 1
        await figures.publish("counter", Count.create(Number(run=run, number=number, at=now())))
        await asyncio.sleep(COUNT_INTERVAL)


@router.post("/workers/{pid}/kill", status_code=202, responses=refusals(404, 415))
async def kill(pid: int) -> None:
    if pid not in workers():
        raise HTTPException(404, f"there is no worker {pid}")
    # In a moment, so that a worker can still answer who had it kill itself.
    asyncio.get_running_loop().call_later(0.1, end, pid)


def workers() -> set[int]:
    """The processes that serve the demo, this one among them."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return set()
    # The parent has another child: multiprocessing's own, which looks after its resources.
    children = psutil.Process(parent.pid).children()
    return {child.pid for child in children if "--multiprocessing-fork" in command_of(child)}


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


def end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


SHOWN = (count, kill)
