"""The processes that are run, and broken: workers of the application, and a redis-server."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).parent.parent

_START_TIMEOUT: Final = 60.0

_STOP_TIMEOUT: Final = 30.0
"""Seconds after which a process that was told to end counts as stuck. It may be frozen for half of them."""


class StartError(Exception):
    """A process isn't there."""


def free_port() -> int:
    # Below those that the system gives to clients: one that tries again and again to reach a server that is away could
    # otherwise be given the server's port, and connect to itself.
    for _ in range(100):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StartError("no free port")


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@dataclass(frozen=True)
class Size:
    """What a process takes."""

    rss: int
    descriptors: int


class Program:
    """A process that is started again when it has ended, on the same port.

    Args:
        name: for messages and its log.
        command: the program and its arguments.
        folder: where its log goes.
        environment: variables beside those of this process.

    Attributes:
        starts: how often it was started.
        stuck: how often it didn't end when it was told to.
    """

    def __init__(self, name: str, command: list[str], port: int, folder: Path, **environment: str) -> None:
        self.name = name
        self.port = port
        self.starts = 0
        self.stuck = 0
        self._command = command
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._log = folder / f"{name}.log"
        self._process: Process | None = None
        self._ending = asyncio.Lock()

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1

    async def wait_until_up(self) -> None:
        """Until it can be connected to. If it ends instead, as without its Redis, it is started again."""
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while not await accepts(self.port):
                    await asyncio.sleep(0.1)
                    if self._process is not None and self._process.returncode is not None:
                        await self.start()
        except TimeoutError:
            raise StartError(f"{self.name} didn't start:\n{self.log}") from None

    async def restart(self, number: signal.Signals, away: float) -> None:
        """End it by a signal, and start it again some seconds after its end."""
        async with self._ending:
            await self._end(number)
            await asyncio.sleep(away)
            await self.start()
            await self.wait_until_up()

    async def freeze(self, seconds: float) -> None:
        process = self._process
        self._send(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._send(process, signal.SIGCONT)

    async def close(self) -> None:
        async with self._ending:
            self._send(self._process, signal.SIGCONT)
            await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._send(process, number)
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self.stuck += 1
            self._send(process, signal.SIGKILL)
            await process.wait()

    @staticmethod
    def _send(process: Process | None, number: signal.Signals) -> None:
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def kill(self) -> None:
        """At once, if something has gone wrong here."""
        self._send(self._process, signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def size(self) -> Size:
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return Size(process.memory_info().rss, process.num_fds())


class Worker(Program):
    """A uvicorn with the application of `soak.app`, on the log that a URL names."""

    def __init__(self, number: int, url: str, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "soak.app:app", "--port", str(port), "--no-access-log"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        super().__init__(f"worker-{number}", command, port, folder, SOAK_URL=url, PYTHONPATH=path)


class RedisServer(Program):
    """A redis-server that has written an event to its file before it says so."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise StartError("redis-server is missing: apt-get install redis-server")
        port = free_port()
        settings = {"bind": "127.0.0.1", "save": "", "appendonly": "yes", "appendfsync": "always"}
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        super().__init__("redis", [program, "--port", str(port), "--dir", str(folder), *options], port, folder)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
