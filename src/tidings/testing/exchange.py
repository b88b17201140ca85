"""One request to an application, run in this process: the side of ASGI that is a server's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message

from tidings.testing.received import Received

__all__ = ["Exchange"]

_UNREAD_BYTES = 1 << 18
"""How much an application may send that the test doesn't ask for: what fits into the buffers of a real connection."""

_CANCEL_SECONDS = 1.0
"""How long an application may take to end once it is cancelled."""


class Exchange:
    """A request, and the application that answers it in a task of its own.

    Attributes:
        received: the response so far.
        gone: the client has left.
        blocked: the application waits in `send` for the client to read.
        patience: seconds that the application may go on after its client has left.
    """

    def __init__(self, app: ASGIApp, scope: dict[str, Any], body: bytes) -> None:
        self.received = Received()
        self.gone = False
        self.blocked = False
        self.patience = 10.0
        self._app = app
        self._scope = scope
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._paused = False
        self._readers = 0  # who waits for something that is yet to come
        self._unread = 0  # bytes that came since somebody looked
        self._changed = asyncio.Event()
        self._flowing = asyncio.Event()
        self._seen = False  # what the application raised is known to the test

    # -- what the client does -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the request."""
        self._task = asyncio.create_task(self._run(), name=f"{self._scope['method']} {self._scope['path']}")
        self._task.add_done_callback(lambda _task: self._changed.set())

    def disconnect(self) -> None:
        """Go away: `receive` says so, and `send` does nothing from now on."""
        self.gone = True
        self._flowing.set()
        self._changed.set()

    def pause(self) -> None:
        """Read nothing: `send` blocks from now on, as when a server's buffers are full."""
        self._paused = True

    def resume(self) -> None:
        """Take back `pause`."""
        self._paused = False
        self._flowing.set()

    async def until(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Read until it is so, or nothing more follows; False if that takes longer."""
        self._readers += 1
        self._unread = 0
        self._flowing.set()
        try:
            async with asyncio.timeout(timeout):
                while not (ready() or self.over):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return ready()
        finally:
            self._readers -= 1
        return True

    # -- how it ends --------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing more follows."""
        return self.received.complete or self.gone or self._task.done()

    @property
    def returned(self) -> bool:
        """Whether the application has."""
        return self._task.done()

    def take_error(self) -> BaseException | None:
        """What the application raised, once: who takes it raises it."""
        if self._seen or not self._task.done():
            return None
        self._seen = True
        if self._task.cancelled():
            return RuntimeError("the application's task was cancelled, and not by its client")
        return self._task.exception()

    async def wait_until_returned(self, timeout: float) -> bool:
        """Wait until the application has returned; one that takes longer is cancelled, and False."""
        try:
            done, _ = await asyncio.wait([self._task], timeout=timeout)
        except asyncio.CancelledError:
            await self._cancel()
            raise
        if not done:
            await self._cancel()
        return bool(done)

    async def _cancel(self) -> None:
        self._task.cancel()
        done, _ = await asyncio.wait([self._task], timeout=_CANCEL_SECONDS)
        self._seen = True  # whatever it raised now
        for task in done:
            if not task.cancelled():
                task.exception()  # else asyncio logs that nobody looked at it

    # -- what the application sees ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._request is not None:
            request, self._request = self._request, None
            return request
        while not (self.gone or self.received.complete):
            self._changed.clear()
            await self._changed.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        while self._client_rests() and not self.gone:
            self.blocked = True
            self._flowing.clear()
            try:
                await self._flowing.wait()
            finally:
                self.blocked = False
        if self.gone or self._unread > _UNREAD_BYTES:
            # An application that sends on and on must not keep the test from looking at it.
            self._unread = 0
            await asyncio.sleep(0)
        if self.gone:
            return
        self.received.take(message)
        self._unread += len(message.get("body", b""))
        self._changed.set()

    def _client_rests(self) -> bool:
        return self._paused or (self._unread > _UNREAD_BYTES and not self._readers)
