"""What publishes the figures: one place, whichever worker serves them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tidings.demo.panels.machine import introduce, measure
from tidings.demo.panels.workers import count
from tidings.demo.settings import Settings
from tidings.errors import PublishError, StorageError

PAUSE = 1.0
"""Seconds before a publisher that failed begins again."""

LOG_BYTES = 2 * 1024 * 1024
"""Size at which the access log is rotated; one older file is kept."""

logger = logging.getLogger("tidings.demo")


@asynccontextmanager
async def station(settings: Settings) -> AsyncIterator[None]:
    """Publish the figures for as long as this context is open.

    Raises:
        StorageError: a broker can't be opened.
    """
    # The desk is opened, too, so that what is wrong with it is said by the parent, once.
    async with settings.figures() as figures, settings.desk(), AsyncExitStack() as stack:
        for publish in (introduce, measure, count):
            await stack.enter_async_context(keep_up(lambda publish=publish: publish(figures)))  # type: ignore[misc]
        if settings.own_log:
            await stack.enter_async_context(keep_up(lambda: rotate(settings.log)))
        yield


@asynccontextmanager
async def keep_up(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do something that never ends, again if it fails, for as long as this context is open."""

    async def run() -> None:
        while True:
            try:
                await work()
            except (PublishError, StorageError) as error:
                logger.warning("%s; trying again", error)
            except Exception:
                logger.exception("a publisher failed, and begins again")
            await asyncio.sleep(PAUSE)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def rotate(log: Path) -> None:
    """Begin a new access log whenever it has become long. Workers see that by themselves."""
    while True:
        await asyncio.sleep(1)
        rotate_if_long(log)


def rotate_if_long(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # there was no request since
        if log.stat().st_size > LOG_BYTES:
            old, new = log.with_suffix(".log.1"), log.with_suffix(".log.new")
            old.unlink(missing_ok=True)
            old.hardlink_to(log)
            new.touch()
            new.replace(log)  # so there is a log at any moment: who asks for it when there is none gets 503
