"""Real servers as processes of their own, and a client that shows every byte."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tidings.wire import EventDecoder, ReceivedEvent

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

BIN = Path(sys.executable).parent

PATIENCE = 30.0
"""Seconds that anything may take on a busy machine: a bound for what hangs, not what it usually takes."""

COMMANDS: dict[str, Callable[[str, int], list[str]]] = {
    "uvicorn": lambda app, port: [str(BIN / "uvicorn"), app, "--port", str(port), "--log-level", "debug"],
    "uvicorn-asyncio-h11": lambda app, port: [
        *COMMANDS["uvicorn"](app, port),
        *("--loop", "asyncio", "--http", "h11"),
    ],
    "uvicorn-3-workers": lambda app, port: [*COMMANDS["uvicorn"](app, port), "--workers", "3"],
    # Without --workers 0 hypercorn serves in a child process, which gets no signal of its own.
    "hypercorn": lambda app, port: [
        *(str(BIN / "hypercorn"), app, "--bind", f"127.0.0.1:{port}", "--workers", "0", "--log-level", "debug"),
        *("--access-logfile", "-", "--error-logfile", "-"),
    ],
    "granian": lambda app, port: [
        *(str(BIN / "granian"), app, "--interface", "asgi", "--port", str(port), "--host", "127.0.0.1"),
        *("--log-level", "debug", "--access-log"),
    ],
    "gunicorn": lambda app, port: [
        *(str(BIN / "gunicorn"), app, "--bind", f"127.0.0.1:{port}", "--workers", "2"),
        *("--worker-class", "uvicorn_worker.UvicornWorker"),
    ],
}


def free_port() -> int:
    """A port on 127.0.0.1 for servers that this process starts, one after the other.

    A socket that is bound and never listens keeps it until this process ends: the system gives it neither to another
    process nor to a client, not even to one that tries to reach this very port while no server is there, and would
    be connected to itself. Servers set SO_REUSEADDR, which lets them listen on it all the same.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port: int = keeper.getsockname()[1]
    keeper.detach()
    return port


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE, what: str = "condition") -> float:
    """Poll; return the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - begin


class Server:
    """A server process; what it logs and what its endpoints note can be read while it runs.

    Args:
        kind: one of `COMMANDS`.
        app: what it serves.
        folder: where its files go.
        port: of one that is started again; 0: a free one.
        settings: environment variables that its application reads.
    """

    def __init__(self, kind: str, app: str, folder: Path, port: int = 0, **settings: str) -> None:
        self.port = port or free_port()
        self._log = folder / f"{kind}-{self.port}.log"
        self._journal = folder / f"journal-{self.port}"
        self._journal.touch()
        self._forgotten = {self._log: 0, self._journal: 0}
        env = {
            **os.environ,
            "JOURNAL": str(self._journal),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        env |= settings
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                COMMANDS[kind](app, self.port), cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(self._answers, what=f"{kind} answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @property
    def log(self) -> str:
        return self._read(self._log)

    @property
    def journal(self) -> list[str]:
        """What the endpoints noted, without the times."""
        return [line.split(" ", 1)[1] for line in self._read(self._journal).splitlines()]

    def forget(self) -> None:
        """Leave out of `log` and `journal` what is there so far: for a server that several tests share."""
        self._forgotten = {path: path.stat().st_size for path in self._forgotten}

    def _read(self, path: Path) -> str:
        return path.read_bytes()[self._forgotten[path] :].decode(errors="replace")

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **options: int) -> RawClient:
        return RawClient(self.port, path, method, headers or {}, **options)

    def wait_for(self, text: str, count: int = 1, timeout: float = PATIENCE) -> float:
        return wait_until(lambda: self.journal.count(text) >= count, timeout, f"{count} x {text!r} in the journal")

    def terminate(self, timeout: float = PATIENCE, number: int = signal.SIGTERM) -> float:
        """Ask it to stop; return the seconds that it took."""
        begin = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout)
        return time.monotonic() - begin

    def kill(self) -> None:
        """End it with no chance to do anything more."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            workers = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
                for worker in workers:
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()


class RawClient:
    """One HTTP/1.1 request over a plain socket."""

    def __init__(
        self, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None, rcvbuf: int = 0
    ) -> None:
        self.socket = socket.socket()
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._raw = b""
        self.body = b""
        self.chunks = 0
        """How many parts the server sent the body in, if it has no length."""
        self.clean: bool | None = None
        """Whether the response was completed; None while it goes on."""
        self._bodiless = method == "HEAD"

    def read_head(self) -> Self:
        while b"\r\n\r\n" not in self._raw:
            chunk = self.socket.recv(65536)
            assert chunk, f"closed before the head: {self._raw!r}"
            self._raw += chunk
        head, self._raw = self._raw.split(b"\r\n\r\n", 1)
        first, *rest = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.header_list = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in rest)]
        self.headers = dict(self.header_list)
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "")
        self._length = int(self.headers.get("content-length", "0"))
        if self._bodiless:
            self.clean = True
        else:
            self._decode()
        return self

    def read_some(self, timeout: float = PATIENCE) -> bool:
        """Read what comes next; False at the end."""
        if self.clean is not None:
            return False
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self.clean = False
            return False
        self._raw += data
        self._decode()
        return True

    def read_until(self, marker: bytes, timeout: float = PATIENCE) -> Self:
        end = time.monotonic() + timeout
        while marker not in self.body:
            assert self.read_some(max(0.01, end - time.monotonic())), f"ended without {marker!r}: {self.body[-500:]!r}"
        return self

    def read_all(self, timeout: float = PATIENCE) -> Self:
        end = time.monotonic() + timeout
        while self.read_some(max(0.01, end - time.monotonic())):
            pass
        return self

    @property
    def events(self) -> list[ReceivedEvent]:
        return EventDecoder().feed(self.body)

    def _decode(self) -> None:
        if not self._chunked:
            self.body += self._raw
            self._raw = b""
            if len(self.body) >= self._length:
                self.clean = True
            return
        while self.clean is None:
            size, newline, rest = self._raw.partition(b"\r\n")
            if not newline:
                return
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            self.body += rest[:length]
            self._raw = rest[length + 2 :]
            if length == 0:
                self.clean = True
            else:
                self.chunks += 1

    def leave(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.leave()


def require(command: str, package: str) -> str:
    """The path of a system command that a test can't do without."""
    path = shutil.which(command) or shutil.which(command, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert path is not None, f"{command} is missing: apt-get install {package}"
    return path
