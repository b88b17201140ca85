"""Runs the blocks of a section as the module that they are, and serves its application with uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import uvicorn

from tests.docs.pages import EPOCH, ORIGIN, Block, Command, Section
from tests.servers.servers import require, wait_until
from tidings import Broker
from tidings.testing import lifespan

PATIENCE = 30.0
"""Seconds that a request of the documentation may take."""


def run(section: Section) -> tuple[ModuleType, dict[Block, str]]:
    """The module of a section, and what each of its blocks printed."""
    module = ModuleType("main")
    module.__file__ = str(section.page)
    sys.modules["main"] = module
    printed: dict[Block, str] = {}
    for block in section.of("python"):
        # The empty lines in front let tracebacks name the line of the page.
        code = compile("\n" * (block.line - 1) + block.text, section.page, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, vars(module))
        printed[block] = out.getvalue()
    return module, printed


def with_epoch_of(module: ModuleType, text: str) -> str:
    """What the documentation says, with the epoch that the module's `broker` has in this run."""
    broker = vars(module).get("broker")
    return text.replace(EPOCH, broker._storage.epoch) if isinstance(broker, Broker) and EPOCH in text else text


class Stage:
    """A uvicorn in a thread, for one application after the other; their lifespans run, too."""

    def __init__(self) -> None:
        self._app: Any = None
        self._under_way = 0
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(self._serve, interface="asgi3", loop="asyncio", ws="none", lifespan="off", log_level="error")
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve([self._listener])

    @contextmanager
    def serving(self, app: Any) -> Iterator[int]:
        """Serve an application; gives the port."""
        self._app = app
        with self._lifespan(app):
            yield self.port
            self.until_answered(0)

    @contextmanager
    def _lifespan(self, app: Any) -> Iterator[None]:
        started: Future[None] = Future()
        stop = asyncio.Event()

        async def live() -> None:  # enters and leaves in one task, as a server does
            async with lifespan(app):
                started.set_result(None)
                await stop.wait()

        assert self._loop is not None
        living = asyncio.run_coroutine_threadsafe(live(), self._loop)
        wait([started, living], PATIENCE, FIRST_COMPLETED)
        if not started.done():
            living.result(0)  # raises why not
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            living.result(PATIENCE)

    def until_answered(self, left_open: int) -> None:
        """Wait until all requests are through, what their applications do after the response included, but for some."""
        wait_until(lambda: self._under_way <= left_open, what="the applications have returned")

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), what="uvicorn answers")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()


class Running:
    """A command of the documentation, started; if it is to be interrupted, its first bytes are there."""

    def __init__(self, command: Command, port: int, folder: Path) -> None:
        text = command.text.replace(ORIGIN, f"http://127.0.0.1:{port}")
        if command.name == "curl":
            options = f"--disable --silent --show-error --noproxy '*' --max-time {PATIENCE}"
            text = text.replace("curl", f"exec {require('curl', 'curl')} {options}", 1)
        elif command.name == "tidings":
            text = text.replace("tidings", f"exec {sys.executable} -m tidings.cli", 1)
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", text], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._wanted = len(command.output.encode()) if command.interrupted else None
        self._got = b""
        if command.interrupted:
            self._read_some()

    def output(self) -> str:
        """What it prints, its complaint last; or as much as is expected, if it is then interrupted."""
        with self._process as process:
            if self._wanted is None:
                out, complaint = process.communicate()
                return out.decode() + complaint.decode()
            while len(self._got) < self._wanted and self._read_some():
                pass
            process.terminate()
            return self._got[: self._wanted].decode()

    def _read_some(self) -> bool:
        assert self._process.stdout is not None
        chunk = self._process.stdout.read1()
        self._got = (self._got + chunk).replace(b"\r\n", b"\n")  # no page shows which it is
        return bool(chunk)
