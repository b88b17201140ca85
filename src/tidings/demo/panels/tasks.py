"""Tasks that go on when the page is reloaded: real work, in threads."""

import hashlib
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from tidings import Event
from tidings.demo.feed import Desk, refusals
from tidings.errors import ChannelBusy

Kind = Literal["checksum", "compress"]

SLOTS = {f"task/{slot}": slot for slot in range(1, 5)}
"""The channels of tasks, one for each that may run at once."""

SECONDS: Final = 15.0
"""What a task takes at least: it is there to be looked at."""

STEP: Final = 0.2
"""Seconds of work between two reports."""

LIBRARY: Final = Path(sysconfig.get_path("stdlib"))
"""Python's own library: files that every machine has."""

router = APIRouter()


class Order(BaseModel):
    """What is to be done."""

    kind: Kind


class Started(BaseModel):
    """Where the task runs, from 1."""

    slot: int


class Stopped(BaseModel):
    """Whether a task was running."""

    stopped: bool


class Task(BaseModel):
    """A task, as people see it."""

    slot: int
    kind: Kind
    title: str


class State(Task):
    """How many of its files are done, and which comes next."""

    done: int
    total: int
    detail: str


class Outcome(Task):
    """What has come of it, in a sentence."""

    detail: str


class Progress(Event[State]):
    """A task got on."""


class Result(Event[Outcome]):
    """A task is done."""


@router.post("/tasks", responses=refusals(400, 409, 415))
async def start(order: Order, desk: Desk) -> Started:
    for channel, slot in SLOTS.items():
        try:
            await desk.start(channel, WORK[order.kind](slot))
            return Started(slot=slot)
        except ChannelBusy:
            pass
    raise HTTPException(409, "all places are taken: stop a task, or wait for one to end")


@router.delete("/tasks/{slot}", responses=refusals(404))
async def stop(slot: int, desk: Desk) -> Stopped:
    if slot not in SLOTS.values():
        raise HTTPException(404, f"there is no place {slot}")
    return Stopped(stopped=await desk.stop(f"task/{slot}"))


def checksum(slot: int) -> Iterator[Progress | Result]:
    task = Task(slot=slot, kind="checksum", title="Checksum of Python's library")
    digest, paths = hashlib.sha256(), sorted(LIBRARY.glob("*.py"))
    for path, progress in paced(task, paths):
        digest.update(path.read_bytes())
        yield from progress
    yield result(task, f"SHA-256 of {len(paths)} files: {digest.hexdigest()[:16]}…")


def compress(slot: int) -> Iterator[Progress | Result]:
    task = Task(slot=slot, kind="compress", title="Compress Python's encodings")
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, progress in paced(task, sorted(LIBRARY.glob("encodings/*.py"))):
                archive.write(path, path.name)
                yield from progress
            before = sum(entry.file_size for entry in archive.infolist())
        yield result(task, f"{before / 2**20:.2f} MiB before, {file.tell() / 2**20:.2f} MiB now")


WORK = {"checksum": checksum, "compress": compress}


def paced(task: Task, paths: list[Path]) -> Iterator[tuple[Path, list[Progress]]]:
    """Each file, and now and then what there is to report; slowly enough to be watched."""
    began = reported = time.monotonic()
    for done, path in enumerate(paths):
        time.sleep(max(0.0, began + SECONDS * done / len(paths) - time.monotonic()))
        due = not done or time.monotonic() - reported >= STEP
        state = State(**task.model_dump(), done=done, total=len(paths), detail=path.name)
        if due:
            reported = time.monotonic()
        yield path, [Progress.create(state)] if due else []


def result(task: Task, detail: str) -> Result:
    return Result.create(Outcome(**task.model_dump(), detail=detail))


SHOWN = (start, checksum)
