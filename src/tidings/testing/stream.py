"""What a test does with a stream: the verbs, on the event loop that the application runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic_core import from_json
from starlette.types import ASGIApp

from tidings.testing import clock
from tidings.testing.exchange import Exchange
from tidings.testing.request import Request
from tidings.testing.view import StreamView
from tidings.wire.decoder import ReceivedEvent

__all__ = ["AsyncStream"]

_START_SECONDS = 10.0
"""How long an application may take to start its response."""


class AsyncStream(StreamView):
    """A response of an application, read while the application writes it; `open_stream` opens one.

    Iterate it for its events, to the end of the response. What the application raises is raised where the test reads
    on, once what came before it is read; or when the block is left, if no one has seen it by then.

    Attributes:
        loop: the event loop that the application runs on.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, app: ASGIApp, request: Request, state: Mapping[str, Any], root_path: str = "") -> None:
        super().__init__(request, Exchange(app, request.scope(state, root_path), request.body))

    # -- reading ------------------------------------------------------------------------------------------------------

    async def next(self, timeout: float = 5.0) -> ReceivedEvent:
        """Wait for the next event.

        Raises:
            EOFError: the stream ended without another one; the message says what came.
            TimeoutError: it didn't come within `timeout` seconds.
        """
        return (await self.take(1, timeout))[0]

    async def take(self, count: int, timeout: float = 5.0) -> list[ReceivedEvent]:
        """Wait for so many events: all of them, or none is taken.

        Raises:
            EOFError: the stream ended before that; the message says what came.
            TimeoutError: they didn't come within `timeout` seconds.
        """
        events = self._received.events
        wanted = "the next event" if count == 1 else f"{count} events"
        await self._wait_for(wanted, lambda: len(events) >= count, timeout)
        return [self._received.read_event() for _ in range(count)]

    async def next_comment(self, timeout: float = 5.0) -> str:
        """Wait for the next comment, events before or after it or not.

        Raises:
            EOFError: the stream ended without another one; the message says what came.
            TimeoutError: it didn't come within `timeout` seconds.
        """
        received = self._received
        await self._wait_for("the next comment", lambda: len(received.comments) > received.comments_read, timeout)
        received.comments_read += 1
        return received.comments[received.comments_read - 1]

    async def text(self, timeout: float = 5.0) -> str:
        """Wait for the end of the response; its whole body.

        Raises:
            EOFError: the response broke off.
            TimeoutError: it didn't end within `timeout` seconds.
        """
        await self._wait_for("the end of the response", lambda: self.complete, timeout)
        return self.body.decode("utf-8", "replace")

    async def json(self, timeout: float = 5.0) -> Any:
        """Wait for the end of the response; its body as JSON. Raises what `text` raises; `ValueError` if it is none."""
        return from_json(await self.text(timeout))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        events = self._received.events
        await self._wait_for("the next event or the end", lambda: bool(events) or self.complete, 5.0)
        if not events:
            raise StopAsyncIteration
        return self._received.read_event()

    async def _wait_for(self, what: str, ready: Callable[[], bool], timeout: float) -> None:
        in_time = await self._exchange.until(ready, timeout)
        if ready():
            return
        if not in_time:
            raise TimeoutError(f"{self._request}: waited {timeout:g} s for {what}; {self._received}")
        error = self._exchange.take_error()
        if error is not None:
            raise error
        if self.complete:
            ending = "the response is complete"
        elif self._exchange.gone:
            ending = "the client has left"
        else:
            ending = "the response broke off: the application returned before it was complete"
        raise EOFError(f"{self._request}: {ending}, without {what}; {self._received}")

    # -- what else a client does --------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Go away, as a browser does whose tab is closed; what came before can still be read."""
        self._exchange.disconnect()

    def pause_reading(self) -> None:
        """Read nothing more, as a client that is busy: the application blocks in its next `send`."""
        self._exchange.pause()

    def resume_reading(self) -> None:
        """Read on after `pause_reading`."""
        self._exchange.resume()

    async def advance(self, seconds: float) -> None:
        """Move the event loop's clock forward, so that what would happen in this time happens now.

        Keep-alives, `asyncio.sleep` and every timeout on this loop go by that clock, the test's own among them; threads
        and `time.time()` don't. `advance(0)` lets everything run that can.

        Raises:
            RuntimeError: the loop is none of asyncio's own: uvloop's clock can't be moved.
        """
        await clock.advance(seconds)

    # -- opening and closing ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the request and wait for the head of the response; `open_stream` does it.

        Raises:
            EOFError: the application returned without a response.
            TimeoutError: the response didn't start within ten seconds.
        """
        self.loop = asyncio.get_running_loop()
        self._exchange.start()
        try:
            await self._wait_for("a response", lambda: self._received.status is not None, _START_SECONDS)
        except BaseException:
            self._exchange.disconnect()
            await self._exchange.wait_until_returned(0)
            raise

    async def aclose(self) -> None:
        """Go away and wait until the application has returned, as leaving the block does.

        Raises:
            AssertionError: it goes on for `patience` seconds after its client left: a server would keep it for ever.
            Exception: what the application raised, unless it was raised before.
        """
        self._exchange.disconnect()
        if not await self._exchange.wait_until_returned(self.patience):
            then = "it was cancelled" if self._exchange.returned else "and when it is cancelled, too"
            raise AssertionError(
                f"{self._request}: the application goes on {self.patience:g} s after its client left, {then}; "
                f"it should return when receive() gives it http.disconnect"
            )
        error = self._exchange.take_error()
        if error is not None:
            raise error

    async def aclose_after(self, error: BaseException | None) -> None:
        """`aclose` at the end of a block that raised this: it isn't hidden, what closing raises is noted there."""
        try:
            await self.aclose()
        except (Exception, asyncio.CancelledError) as own:
            if error is None:
                raise
            error.add_note(f"While its stream was closed, {self._request} raised {own!r}")
