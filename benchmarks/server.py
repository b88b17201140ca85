"""The servers that are measured: processes pinned to a processor of their own."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.command import ROOT, Command

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
SETTLE_TIMEOUT = 20.0
# Seconds of processor time; one step of the kernel's counter.
IDLE_CPU = 0.01
# The servers in Python are modules of this repository.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


class ServerError(Exception):
    """The server didn't start, or ended by itself; carries the end of its log."""


def processors() -> tuple[int | None, int | None]:
    """One for the server and one for the receiver. None if there is only one, or no pinning (macOS)."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def pin(pid: int, processor: int | None) -> None:
    if processor is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {processor})


def allow_open_files(wanted: int) -> int:
    """For this process and, by inheritance, for the server: each end of a stream is an open file. How many there may
    be, as far as they are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    info: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self.info = psutil.Process(self.process.pid)

    def processes(self) -> list[psutil.Process]:
        """The one that was started, and its workers."""
        return [self.info, *self.info.children(recursive=True)]

    def rss(self) -> int:
        return sum(process.memory_info().rss for process in self.processes())

    def cpu(self) -> float:
        times = [process.cpu_times() for process in self.processes()]
        return float(sum(each.user + each.system for each in times))

    def settle(self) -> None:
        """Wait until the server has nothing left to do, so that no measurement reads a moment of change."""
        end = time.monotonic() + SETTLE_TIMEOUT
        time.sleep(0.2)
        while time.monotonic() < end:
            before = self.cpu()
            time.sleep(0.3)
            if self.cpu() - before <= IDLE_CPU:
                return

    def failed(self, why: str) -> ServerError:
        tail = self.log.read_text(errors="replace").strip().splitlines()[-8:]
        return ServerError("\n    ".join([why, *tail]))

    def wait_until_up(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise self.failed(f"the server exited with {self.process.returncode} at its start")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise self.failed("the server didn't listen in time")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT)
        # It leads a session of its own: this ends workers, too, whom it left behind.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(command: Command, processor: int | None, folder: Path) -> Iterator[Server]:
    """Start a server in a folder, which it may share with others that are to share their files."""
    port = free_port()
    log = folder / f"server-{port}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command(port, folder), cwd=folder, env=ENVIRONMENT, stdout=sink, stderr=sink, start_new_session=True
        )
    server = Server(port, process, log)
    try:
        # Before its first thread or worker starts, so that all of them inherit it.
        pin(process.pid, processor)
        server.wait_until_up()
        server.settle()
        yield server
        if process.poll() is not None:
            raise server.failed(f"the server exited with {process.returncode} while it was measured")
    finally:
        server.stop()
