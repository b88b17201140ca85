"""The application that each worker runs: the panels, their brokers, and the page."""

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging.handlers import WatchedFileHandler

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tidings.demo import page
from tidings.demo.meter import report
from tidings.demo.panels import chat, logs, machine, news, tasks, workers
from tidings.demo.settings import Settings
from tidings.demo.station import keep_up
from tidings.fastapi import document_streams

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


def load() -> FastAPI:
    """The application of a worker, as the parent has set it up."""
    settings = Settings.load()
    if settings.own_log:
        write_access_log(settings)
    return create_app(settings)


def create_app(settings: Settings) -> FastAPI:
    """The demo's application.

    Args:
        settings: How the demo was started.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with settings.figures() as figures, settings.desk() as desk, ends_with_its_parent():
            app.state.figures, app.state.desk = figures, desk
            async with keep_up(lambda: report(figures, desk)):
                yield

    # The documentation pages of FastAPI load their scripts from elsewhere.
    app = FastAPI(title="tidings demo", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.settings = settings
    for panel in (machine, news, workers, tasks, chat, logs):
        app.include_router(panel.router, dependencies=[Depends(takes_json)])
    app.include_router(page.router)
    app.add_exception_handler(RequestValidationError, refuse)
    document_streams(app)
    app.mount("/", page.Page(directory=page.STATIC, html=True))
    if settings.local:
        # Otherwise any web page could read the log here, by having its own name resolve to this machine.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)
    return app


async def takes_json(request: Request) -> None:
    """Refuse what a form of another site can post."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and content_type != "application/json":
        raise HTTPException(415, "the body must be application/json")


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong as FastAPI does, but don't repeat the input: what JSON can't carry would make it a 500.

    That is `NaN`, and half of a surrogate pair, both of which Python's parser takes.
    """
    assert isinstance(error, RequestValidationError)
    detail = [{key: problem[key] for key in ("type", "loc", "msg")} for problem in error.errors()]
    return JSONResponse({"detail": detail}, 422)


@asynccontextmanager
async def ends_with_its_parent() -> AsyncIterator[None]:
    """A parent that is killed can't tell its workers to end, which would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(parent.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, end)  # it can be read when the parent is gone
    try:
        yield
    finally:
        loop.remove_reader(parent.sentinel)


def write_access_log(settings: Settings) -> None:
    """Write each request into the file that the demo follows. The station rotates it, under all workers at once."""
    handler = WatchedFileHandler(settings.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
