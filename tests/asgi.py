"""Drives an ASGI application in this process: one scripted connection, no server.

Nothing here sleeps: a test waits for what must happen, and fails when it doesn't happen in time.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Self

from fastapi import FastAPI

from tidings import EventSourceResponse
from tidings.wire import EventDecoder
from tidings.wire.decoder import ReceivedEvent

PATIENCE = 30.0
"""Seconds after which something that must happen counts as not happening."""


class Connection:
    """One request to an application.

    The application runs in a task of its own inside of `async with`. Leaving the block disconnects, waits until the
    application returns and raises what it raised, unless `end` did.

    Attributes:
        messages: what the application sent.
        times: when, in the loop's time.
        task: the one that the application runs in.
    """

    def __init__(
        self,
        app: Any,
        path: str = "/",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(b"host", b"test"), *((k.lower().encode(), v.encode()) for k, v in (headers or {}).items())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        self._app = app
        self._requests: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        self._gone = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._send_error: BaseException | None = None
        self._receive_error: BaseException | None = None
        self._changed = asyncio.Event()
        self._raised = False
        self.blocked = False

    # -- what the client does -----------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Go away: `receive` says so, and `send` does nothing from now on."""
        self._gone.set()
        self._note_change()

    def stop_reading(self) -> None:
        """From now on `send` takes its message and then blocks, as when a server waits for its buffers to drain."""
        self._flowing.clear()

    def read_on(self) -> None:
        """Take back `stop_reading`."""
        self._flowing.set()

    def break_send(self, error: BaseException) -> None:
        """Have `send` raise from now on."""
        self._send_error = error

    def break_receive(self, error: BaseException) -> None:
        """Have `receive` raise instead of saying that the client is gone."""
        self._receive_error = error
        self._gone.set()

    # -- what a test waits for ----------------------------------------------------------------------------------------

    async def until(self, expected: bytes | Callable[[], Any]) -> None:
        """Wait for these bytes in the body, or until the function returns something true."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (expected in self.body if isinstance(expected, bytes) else expected()):
                    assert not self.task.done(), f"the application returned, having sent {self.messages}"
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {expected!r}; sent: {self.messages[-5:]}") from None

    async def until_blocked(self) -> None:
        """Wait until a `send` of the application blocks."""
        await self.until(lambda: self.blocked)

    async def end(self) -> Self:
        """Wait until the application has returned; raise what it raised."""
        done, _ = await asyncio.wait([self.task], timeout=PATIENCE)
        assert done, f"the application goes on; sent: {self.messages[-5:]}"
        self._raised = True
        self.task.result()
        return self

    # -- what it got --------------------------------------------------------------------------------------------------

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def header_list(self) -> list[tuple[str, str]]:
        return [(name.decode(), value.decode()) for name, value in self.messages[0]["headers"]]

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.header_list)

    @property
    def chunks(self) -> list[bytes]:
        """The bytes of each body message that has some."""
        return [message["body"] for message in self.messages if message.get("body")]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def events(self) -> list[ReceivedEvent]:
        return EventDecoder().feed(self.body)

    @property
    def complete(self) -> bool:
        """Whether the response was completed."""
        if not self.messages:
            return False
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    # -- the other side -----------------------------------------------------------------------------------------------

    async def _receive(self) -> dict[str, Any]:
        if self._requests:
            return self._requests.pop()
        await self._gone.wait()
        if self._receive_error is not None:
            raise self._receive_error
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._send_error is not None:
            raise self._send_error
        if self._gone.is_set():
            return
        assert not self.complete, f"sent after the end: {message}"
        assert (message["type"] == "http.response.start") is not bool(self.messages), f"out of order: {message}"
        self.messages.append(message)
        self.times.append(asyncio.get_running_loop().time())
        self._note_change()
        if not self._flowing.is_set():
            self.blocked = True
            try:
                await self._flowing.wait()
            finally:
                self.blocked = False

    def _note_change(self) -> None:
        self._changed.set()

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._app(self.scope, self._receive, self._send))
        self.task.add_done_callback(lambda _task: self._note_change())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        if kind is not None:
            self.task.cancel()
            await asyncio.wait([self.task], timeout=PATIENCE)
            return
        if not self.task.done():
            self.disconnect()
        if not self._raised:
            await self.end()


async def fetch(
    app: Any, path: str = "/", method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Connection:
    """Make a request whose response ends by itself."""
    async with Connection(app, path, method, headers, body) as connection:
        await connection.end()
    return connection


def app_of(endpoint: Any, method: str = "GET", **options: Any) -> FastAPI:
    """An application with this endpoint at `/`."""
    app = FastAPI()
    options.setdefault("response_class", EventSourceResponse)
    app.add_api_route("/", endpoint, methods=[method], **options)
    return app
