"""Opens a stream of an application: in an event loop that runs, or in that of a thread."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp

from tidings.testing.lifespan import Lifespan, lifespan
from tidings.testing.request import Request
from tidings.testing.stream import AsyncStream
from tidings.testing.sync import Stream, check_no_loop

if TYPE_CHECKING:
    from starlette.testclient import TestClient

__all__ = ["Opening", "open_for_test", "open_stream"]


def open_stream(
    app: ASGIApp | TestClient,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
    content: bytes | str | None = None,
    last_event_id: str | None = None,
) -> Opening:
    """Open a stream of an ASGI application, in this process.

    Use it as in `async with open_stream(app, "/news") as stream`. Entering the block makes the request and waits for
    the head of the response. Leaving it disconnects, and waits until the application has returned: one that goes on
    after its client left fails the test.

    A plain `with` gives the same stream for a test without an event loop. The application then runs in a thread: in
    that of `with lifespan(app)` or of a Starlette `TestClient`, if that is given in place of the application.

    Args:
        app: an application of FastAPI or Starlette, or any ASGI application; or a `TestClient`, whose headers and
            cookies are sent along.
        path: with its query.
        method: of the request.
        headers: of the request; `Accept: text/event-stream` is sent unless they say otherwise.
        params: more of the query; a list gives its name several times.
        json: the body, sent as JSON.
        content: the body, sent as it is.
        last_event_id: of a client that comes back; sent as `Last-Event-ID`.

    Raises:
        EOFError: the application returned without a response.
        TimeoutError: the response didn't start within ten seconds.
    """
    request = Request.of(
        path,
        method=method,
        headers=headers,
        params=params,
        json=json,
        content=content,
        last_event_id=last_event_id,
    )
    return Opening(app, request)


class Opening:
    """A stream to be opened, with `async with` or with `with`; `open_stream` makes one."""

    def __init__(self, app: ASGIApp | TestClient, request: Request) -> None:
        self._client = _test_client(app)
        self._app: ASGIApp = cast("ASGIApp", app) if self._client is None else self._client.app
        self._request = request

    async def __aenter__(self) -> AsyncStream:
        if self._client is not None:
            raise TypeError("a TestClient runs its application in a thread: use a plain `with`, or give the app itself")
        running = Lifespan.of(self._app)
        if running is not None and running.loop is not asyncio.get_running_loop():
            raise RuntimeError("the application's lifespan runs on another event loop: use the same kind of `with`")
        self._async_stream = AsyncStream(self._app, self._request, running.state if running is not None else {})
        await self._async_stream.open()
        return self._async_stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._async_stream.aclose_after(error)

    def __enter__(self) -> Stream:
        check_no_loop("open_stream")
        with ExitStack() as stack:
            if self._client is None:
                stream, portal = self._of_app(stack)
            else:
                stream, portal = self._of_client(self._client, stack)
            portal.call(stream.open)
            self._stream = Stream(stream, portal)
            self._stack = stack.pop_all()
        return self._stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            self._stream.close_after(error)

    def _of_app(self, stack: ExitStack) -> tuple[AsyncStream, BlockingPortal]:
        running = Lifespan.of(self._app)
        if running is None:
            return AsyncStream(self._app, self._request, {}), stack.enter_context(start_blocking_portal())
        if running.portal is None:
            raise RuntimeError("the application's lifespan runs on another event loop: use the same kind of `with`")
        return AsyncStream(self._app, self._request, running.state), running.portal

    def _of_client(self, client: TestClient, stack: ExitStack) -> tuple[AsyncStream, BlockingPortal]:
        if client.async_backend["backend"] != "asyncio":
            raise RuntimeError("streams run on asyncio: make the TestClient with backend='asyncio'")
        transport: Any = client._transport  # noqa: SLF001 - what it knows of the application
        stream = AsyncStream(self._app, self._request.through(client), client.app_state, transport.root_path)
        # An entered client has an event loop, on which the application's lifespan runs.
        return stream, client.portal or stack.enter_context(start_blocking_portal(**client.async_backend))


def _test_client(app: ASGIApp | TestClient) -> TestClient | None:
    # Whoever has one has loaded its module, which needs an HTTP client that nothing else here does.
    module = sys.modules.get("starlette.testclient")
    return cast("TestClient", app) if module is not None and isinstance(app, module.TestClient) else None


def open_for_test(stack: ExitStack, app: ASGIApp | TestClient, path: str, **request: Any) -> Stream:
    """What pytest's fixture does: a stream that stays open, its application's lifespan around it."""
    if _test_client(app) is None and Lifespan.of(cast("ASGIApp", app)) is None:
        stack.enter_context(lifespan(cast("ASGIApp", app)))
    return stack.enter_context(open_stream(app, path, **request))
