"""What events can be made of, as one kind of thing: an async iterator."""

from __future__ import annotations

import inspect
from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Iterable, Mapping
from typing import Any, Self

from tidings.sources.threaded import ThreadedSource
from tidings.wire.frames import FrameSource

__all__ = ["Resumable", "check_content", "close_content", "close_source", "open_source"]


def check_content(content: Any) -> None:
    """Raise `TypeError`, with the fix, for what can't be a stream's content."""
    if inspect.isgeneratorfunction(content) or inspect.isasyncgenfunction(content):
        raise TypeError(f"content is the generator function {content.__name__!r}: call it, {content.__name__}()")
    if inspect.iscoroutine(content):
        content.close()  # or Python warns that it was never awaited, beside this error
        raise TypeError("content is a coroutine: await it, or make it a generator with `yield`")
    if isinstance(content, str | bytes | bytearray | Mapping):
        raise TypeError(f"content is one {type(content).__name__}, not a stream of items: put it into a list")
    if not isinstance(content, AsyncIterable | Iterable):
        raise TypeError(
            f"content must be an async or plain iterable of items, not {type(content).__name__}; "
            "an endpoint with response_class=EventSourceResponse has to yield, or to return an EventSourceResponse"
        )


async def close_content(content: Any) -> None:
    """Close what isn't going to be iterated: a generator's body is not run."""
    if hasattr(content, "aclose"):
        await content.aclose()
    elif hasattr(content, "close"):
        content.close()


def open_source(content: Any) -> AsyncIterator[Any]:
    """An async iterator over the content; `close_source` must be called at the end."""
    if isinstance(content, FrameSource):
        return content
    if isinstance(content, AsyncIterable):
        iterator: Any = aiter(content)
        return _entered(iterator) if hasattr(iterator, "__aenter__") else iterator
    if isinstance(content, list | tuple):
        return _listed(content)
    return ThreadedSource(content)


async def close_source(source: AsyncIterator[Any]) -> None:
    """Close an iterator where it stands, if it can be closed."""
    aclose = getattr(source, "aclose", None)
    if aclose is None:
        return
    try:
        await aclose()
    except BaseExceptionGroup as group:
        # A task group around a `yield` makes a group of the GeneratorExit by which it is closed.
        others = group.split(GeneratorExit)[1]
        if others is not None:
            raise others from None


class Resumable:
    """A source whose reader may be cancelled while the source stands at its `yield`, as if it waited there itself."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._cancelled: CancelledError | None = None

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        cancelled, self._cancelled = self._cancelled, None
        step: Awaitable[Any] = self._source.__anext__() if cancelled is None else self._source.athrow(cancelled)
        return step

    def cancel(self, cancelled: CancelledError) -> None:
        """Raise this at the `yield`, as the next step: a scope that the source has open there may have cancelled.

        Raises:
            asyncio.CancelledError: the source is no generator.
        """
        if not hasattr(self._source, "athrow"):
            raise cancelled
        self._cancelled = cancelled


async def _entered(iterator: Any) -> AsyncGenerator[Any, None]:
    """An iterator that is an async context manager too wants to be entered, as aiostream's."""
    async with iterator:
        async for item in iterator:
            yield item


async def _listed(items: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for item in items:
        yield item
