"""The demo as a process of its own, which tests kill and start again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.servers.servers import free_port

DEADLINE = 60.0
"""Seconds that anything may take: a bound for a test that hangs, not what it usually takes."""


def eventually(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Wait until a condition holds."""
    give_up = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < give_up, f"not within {deadline:.0f} s: {what}"
        time.sleep(0.02)


class DemoProcess:
    """`tidings demo`, on the same port when it is started again.

    Args:
        folder: Where its output and its files go.
        follow: The file to follow; None for the access log.
        options: More of the command line.
    """

    def __init__(self, folder: Path, follow: Path | None = None, *options: str) -> None:
        self._output = folder / "demo.out"
        self._data = folder / "data"
        self._options = [*(["--follow", str(follow)] if follow else []), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = [sys.executable, "-m", "tidings.cli", "demo", "--port", str(self.port), "--data", str(self._data)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
        eventually(self._is_announced, "the demo says where it is")

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """End the process by a signal; return its exit code (negative: that of the signal).

        None of its workers is left then: SIGKILL is sent to them as well, as when a machine loses its power.
        """
        assert self._process is not None
        workers = self.workers()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signum)
        try:
            return self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._process.wait()
            for worker in workers if signum == signal.SIGKILL else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            _, left = psutil.wait_procs(workers, DEADLINE)
            assert not left, "workers outlive their parent"

    def kill_parent(self) -> None:
        """Kill the process that looks after the workers, and nothing else."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def workers(self) -> list[psutil.Process]:
        """The processes that serve."""
        assert self._process is not None
        workers = []
        # One that ends meanwhile has no command line.
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    workers += [child] if "--multiprocessing-fork" in child.cmdline() else []
        return workers

    def output(self) -> str:
        return self._output.read_text()

    def _is_announced(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output()
        return self.url.rstrip("/") in self.output()
