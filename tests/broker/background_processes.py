"""A program that runs background streams in a process of its own, and what starts, freezes and kills it.

    python -m tests.broker.background_processes NAME LOG

It does what its standard input says, a line at a time, and says what has happened on its standard output, which is a
file: what it has said stays said when it is killed. Its moments are those of `time.monotonic`, which are the same in
all processes of a machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from tests.broker.sqlite_processes import ROOT, Program, say, told, until
from tidings import Broker
from tidings.errors import ChannelBusy, PublishError

__all__ = ["Process", "open_broker"]


def open_broker(log: dict[str, Any]) -> Broker:
    """One that keeps everything, and is closed at once."""
    return Broker(**log, history=None, background_grace=0)


# -- in the tests -----------------------------------------------------------------------------------------------------


class Process(Program):
    """The program, as it runs.

    Args:
        folder: where its output goes.
        name: it stands in all that its sources give.
        log: that its broker is open on.
    """

    def __init__(self, folder: Path, name: str, log: dict[str, Any]) -> None:
        self.name = name
        self._output = folder / f"{name}.out"
        self._errors = folder / f"{name}.err"
        command = [sys.executable, "-W", "error", "-m", __name__, name, json.dumps(log)]
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=output, stderr=errors)

    @property
    def errors(self) -> str:
        """What it has logged, and what Python has."""
        return self._errors.read_text()

    def told_of(self, what: str) -> list[str]:
        """What it has said that begins with this, without it."""
        return [line.removeprefix(f"{what} ") for line in self.lines if line.startswith(f"{what} ")]

    async def tells(self, what: str) -> str:
        """Wait until it has said something that begins with this; what comes behind it."""
        await until(lambda: self.told_of(what) or self.process.poll() is not None, f"{what!r} in {self.lines[-5:]}")
        assert self.told_of(what), f"it ended without {what!r}: {self.errors}"
        return self.told_of(what)[0]

    async def start(self, *channels: str) -> None:
        """Have it start a stream in each channel; with a number of seconds behind its name its items are that apart."""
        for channel in channels:
            self.tell(f"start {channel}")
        for channel in channels:
            await self.says(f"started {channel.partition(' ')[0]}")

    async def close(self) -> None:
        """Have it close its broker, and end in good order."""
        self.tell("close")
        await self.end()
        assert "Traceback" not in self.errors, self.errors

    def freeze(self) -> None:
        """Let it do nothing from now on, whatever it is in the middle of."""
        self.process.send_signal(signal.SIGSTOP)
        # The signal is sent, but one that runs on another processor may go on for a moment.
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), self.errors

    async def freeze_apart(self, broker: Broker) -> None:
        """Freeze it where it holds up no other process: in the middle of a transaction it would have SQLite's lock."""
        while True:
            self.freeze()
            with suppress(PublishError, TimeoutError):
                async with asyncio.timeout(2):
                    await broker.publish("probe")
                return
            self.wake()
            await asyncio.sleep(0.05)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)


# -- the program ------------------------------------------------------------------------------------------------------


class Producing:
    """What the program does when it is told to; each command is a method."""

    def __init__(self, name: str, broker: Broker) -> None:
        self._name = name
        self._broker = broker
        self._enough: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def start(self, channel: str, pause: str = "0.01") -> None:
        try:
            await self._broker.start(channel, self._items(channel, float(pause)))
        except ChannelBusy:
            say(f"busy {channel}")
        else:
            say(f"started {channel}")

    async def race(self, number: str, begin: str, step: str) -> None:
        """Start so many streams, one after the other, each at its moment."""
        for at in range(int(number)):
            moment = float(begin) + at * float(step)
            await asyncio.sleep(moment - 0.002 - time.monotonic())
            while time.monotonic() < moment:
                pass
            await self.start(f"race-{at}", "600")

    async def stop(self, channel: str) -> None:
        say(f"stop {channel} {await self._broker.stop(channel)}")

    async def finish(self, channel: str) -> None:
        """Let a source end by itself."""
        self._enough[channel].set()

    async def _items(self, channel: str, pause: float) -> AsyncIterator[list[str | int]]:
        try:
            for number in count():
                yield [self._name, number]
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._enough[channel].wait()
                        return
        finally:
            say(f"left {channel} {time.monotonic()}")


async def main(name: str, log: str) -> None:
    async with open_broker(json.loads(log)) as broker, asyncio.TaskGroup() as commands:
        producing = Producing(name, broker)
        say("open")
        while (line := await told()) not in {"close", ""}:  # "": the parent has gone
            command, *arguments = line.split()
            commands.create_task(getattr(producing, command)(*arguments))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
