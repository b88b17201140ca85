"""Starts and stops an application as a server does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ClassVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message

from tidings.testing.sync import check_no_loop

__all__ = ["Lifespan", "lifespan"]

_PATIENCE = 10.0
"""Seconds that an application may take to start, and to stop."""

_CANCEL_SECONDS = 1.0
"""Seconds that it may take to end once it is cancelled."""


def lifespan(app: ASGIApp) -> Lifespan:
    """Run the application's lifespan around a block.

    Use it as in `async with lifespan(app), open_stream(app, "/news") as stream`.

    With a plain `with` it runs in the event loop of a thread, and so do the streams opened in the block. An application
    without a lifespan, as many plain ASGI functions are, just runs.

    Raises:
        Exception: what the application raised when it started, or when it stopped.
        TimeoutError: it took longer than ten seconds.
    """
    return Lifespan(app)


class Lifespan:
    """The life of an application, by ASGI's lifespan protocol; `lifespan` makes one.

    Attributes:
        state: what the application left for its requests.
        portal: leads to the event loop that it runs on, if that is a thread's.
        loop: that event loop.
    """

    _running: ClassVar[dict[int, Lifespan]] = {}  # by the identity of the application, which need not be hashable

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self.portal: BlockingPortal | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._app = app

    @classmethod
    def of(cls, app: ASGIApp) -> Lifespan | None:
        """The one that is running, if one is."""
        return cls._running.get(id(app))

    # -- in a test with an event loop ---------------------------------------------------------------------------------

    async def __aenter__(self) -> None:
        if id(self._app) in self._running:
            raise RuntimeError("the application's lifespan is running already")
        self.loop = asyncio.get_running_loop()
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._said: set[str] = set()
        self._failure = ""
        self._told = 0  # messages given to the application
        self._asked = 0  # how often it asked for one
        self._heard = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="lifespan")
        self._task.add_done_callback(lambda _task: self._heard.set())
        self._tell("startup")
        await self._wait_for("start", lambda: bool(self._said))
        if "lifespan.startup.complete" not in self._said:
            await self._look_into_it()
        self._running[id(self._app)] = self

    async def _look_into_it(self) -> None:
        """The application didn't say that it has started."""
        if self._asked:
            await self._end("start")
        elif self._task.done():
            # It raised, or returned, without having asked for a message: it is one that has no lifespan.
            self._task.exception()
        if "lifespan.startup.failed" in self._said:
            raise RuntimeError(f"the application didn't start: {self._failure}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._running[id(self._app)]
        if "lifespan.startup.complete" not in self._said:
            return
        try:
            await self._stop()
        except Exception as own:
            if error is None:
                raise
            error.add_note(f"When the application stopped it raised {own!r}")

    async def _stop(self) -> None:
        self._tell("shutdown")
        await self._end("stop")
        if "lifespan.shutdown.failed" in self._said:
            raise RuntimeError(f"the application didn't stop: {self._failure}")

    def _tell(self, event: str) -> None:
        self._told += 1
        self._to_app.put_nowait({"type": f"lifespan.{event}"})

    async def _end(self, verb: str) -> None:
        """Wait until the application has nothing more to do; raise what it raised."""
        # Some never return: they ask for one message after the other.
        await self._wait_for(verb, lambda: self._asked > self._told)
        if not self._task.done():
            await self._drop()
        elif (error := self._task.exception()) is not None:
            raise error

    async def _wait_for(self, verb: str, ready: Callable[[], bool]) -> None:
        """Wait until it is so or the application has returned; an application that takes too long is cancelled."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while not (ready() or self._task.done()):
                    self._heard.clear()
                    await self._heard.wait()
        except BaseException as error:
            await self._drop()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"the application didn't {verb} within {_PATIENCE:g} s") from None
            raise

    async def _drop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_CANCEL_SECONDS)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self._asked += 1
        self._heard.set()
        return await self._to_app.get()

    async def _send(self, message: Message) -> None:
        self._said.add(message["type"])
        self._failure = message.get("message", "")
        self._heard.set()

    # -- in a test without --------------------------------------------------------------------------------------------

    def __enter__(self) -> None:
        check_no_loop("lifespan")
        with ExitStack() as stack:
            self.portal = stack.enter_context(start_blocking_portal())
            self.portal.call(self.__aenter__)
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self.portal is not None
        with self._stack:
            self.portal.call(self.__aexit__, kind, error, traceback)
