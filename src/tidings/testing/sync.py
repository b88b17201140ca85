"""The same verbs without `await`, for a test that has no event loop: the application runs in a thread's."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from anyio.from_thread import BlockingPortal

from tidings.testing.stream import AsyncStream
from tidings.testing.view import StreamView
from tidings.wire.decoder import ReceivedEvent

__all__ = ["Stream", "check_no_loop"]


def check_no_loop(name: str) -> None:
    """RuntimeError in a coroutine: there a plain `with` would block the event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"a plain `with {name}(…)` would block this event loop: use `async with`")


class Stream(StreamView):
    """`AsyncStream` for plain tests: what is awaited there, waits here."""

    def __init__(self, stream: AsyncStream, portal: BlockingPortal) -> None:
        super().__init__(stream._request, stream._exchange)  # noqa: SLF001 - the two are one
        self._stream = stream
        self._running_portal = portal
        self._closed = False

    @property
    def _portal(self) -> BlockingPortal:
        if self._stream.loop.is_closed():
            raise RuntimeError("the event loop of this stream is closed: close the stream before its TestClient")
        return self._running_portal

    def next(self, timeout: float = 5.0) -> ReceivedEvent:
        """Wait for the next event. Raises what `AsyncStream.next` raises."""
        return self._portal.call(self._stream.next, timeout)

    def take(self, count: int, timeout: float = 5.0) -> list[ReceivedEvent]:
        """Wait for so many events: all of them, or none is taken. Raises what `AsyncStream.take` raises."""
        return self._portal.call(self._stream.take, count, timeout)

    def next_comment(self, timeout: float = 5.0) -> str:
        """Wait for the next comment. Raises what `AsyncStream.next_comment` raises."""
        return self._portal.call(self._stream.next_comment, timeout)

    def text(self, timeout: float = 5.0) -> str:
        """Wait for the end of the response; its whole body. Raises what `AsyncStream.text` raises."""
        return self._portal.call(self._stream.text, timeout)

    def json(self, timeout: float = 5.0) -> Any:
        """Wait for the end of the response; its body as JSON. Raises what `AsyncStream.json` raises."""
        return self._portal.call(self._stream.json, timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedEvent:
        try:
            return self._portal.call(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def disconnect(self) -> None:
        """Go away, as a browser does whose tab is closed; what came before can still be read."""
        self._portal.call(self._stream.disconnect)

    def pause_reading(self) -> None:
        """Read nothing more, as a client that is busy: the application blocks in its next `send`."""
        self._portal.call(self._stream.pause_reading)

    def resume_reading(self) -> None:
        """Read on after `pause_reading`."""
        self._portal.call(self._stream.resume_reading)

    def advance(self, seconds: float) -> None:
        """Move the clock of the application's event loop forward; see `AsyncStream.advance`."""
        self._portal.call(self._stream.advance, seconds)

    def close(self) -> None:
        """Go away and wait until the application has returned. Raises what `AsyncStream.aclose` raises."""
        self._closed = True
        self._portal.call(self._stream.aclose)

    def close_after(self, error: BaseException | None) -> None:
        """`close` at the end of a block that raised this, unless it is closed."""
        if not self._closed:
            self._portal.call(self._stream.aclose_after, error)
