"""What a stream can be made of."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, Self

import pytest
from fastapi import FastAPI

from tests.asgi import Connection, app_of, fetch
from tidings import EventSourceResponse
from tidings.stream.endpoint import endpoint_generator

pytestmark = pytest.mark.anyio


async def some() -> AsyncIterator[int]:
    yield 1


def some_sync() -> Iterator[int]:
    yield 1


async def coroutine() -> list[int]:
    return [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (some, r"the generator function 'some': call it, some\(\)"),
        (some_sync, r"the generator function 'some_sync': call it, some_sync\(\)"),
        ("text", "one str, not a stream of items"),
        (b"bytes", "one bytes, not a stream"),
        (bytearray(b"bytes"), "one bytearray, not a stream"),
        ({"a": 1}, "one dict, not a stream"),
        (None, "not NoneType"),
        (7, "not int"),
        (coroutine, "not function"),
        (object(), "not object"),
    ],
)
def test_what_is_no_stream_is_refused_with_the_reason(content: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        EventSourceResponse(content)


def test_a_coroutine_is_refused_and_leaves_no_warning_behind() -> None:
    with pytest.raises(TypeError, match="a coroutine: await it"):
        EventSourceResponse(coroutine())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        (1, 2),
        range(1, 3),
        {1: "a", 2: "b"}.keys(),
        iter([1, 2]),
        map(int, ["1", "2"]),
        (number for number in (1, 2)),
    ],
)
async def test_any_iterable_is_a_stream(content: Any) -> None:
    assert (await fetch(EventSourceResponse(content))).body == b"data: 1\n\ndata: 2\n\n"


async def test_an_async_iterable_that_is_no_generator() -> None:
    class Bells:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            await asyncio.sleep(0)
            return "bell"

    class Watch:
        def __aiter__(self) -> AsyncIterator[str]:
            return Bells()

    assert (await fetch(EventSourceResponse(Bells()))).body == b'data: "bell"\n\ndata: "bell"\n\n'
    assert (await fetch(EventSourceResponse(Watch()))).body == b'data: "bell"\n\ndata: "bell"\n\n'


async def test_an_iterator_that_is_a_context_manager_is_entered_and_left() -> None:
    class Sluice:
        def __init__(self) -> None:
            self.notes: list[str] = []

        async def __aenter__(self) -> Self:
            self.notes.append("entered")
            return self

        async def __aexit__(self, *_exc: object) -> None:
            await asyncio.sleep(0)
            self.notes.append("left")

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> int:
            self.notes.append("next")
            return 1

    sluice = Sluice()
    await fetch(EventSourceResponse(sluice, max_events=1))
    assert sluice.notes == ["entered", "next", "left"]


async def test_a_response_streams_once() -> None:
    response = EventSourceResponse(["once"])
    assert (await fetch(response)).body == b'data: "once"\n\n'
    async with Connection(response) as client:
        with pytest.raises(RuntimeError, match="streams once"):
            await client.end()
    assert client.messages == []


async def test_the_generator_of_an_endpoint_is_found_behind_the_one_that_fastapi_wraps_around_it() -> None:
    """Fails if FastAPI wraps differently: then `endpoint_generator` has to learn it."""
    contents: list[Any] = []
    code_names: list[str] = []

    class Spy(EventSourceResponse):
        def __init__(self, content: Any, *args: Any, **kwargs: Any) -> None:
            contents.append(content)
            code_names.append(endpoint_generator(content).ag_code.co_name)
            super().__init__(content, *args, **kwargs)

    async def the_endpoint() -> AsyncIterable[int]:
        yield 1

    await fetch(app_of(the_endpoint, response_class=Spy))
    assert contents[0].ag_code.co_name == "_async_stream_raw"
    assert code_names == ["the_endpoint"]


async def test_other_generators_are_left_as_they_are() -> None:
    generator = some()
    assert endpoint_generator(generator) is generator
    await generator.aclose()
    assert endpoint_generator(generator) is generator
    assert endpoint_generator([1]) == [1]


async def test_the_generator_of_an_endpoint_is_closed_in_the_task_of_the_request() -> None:
    tasks: list[Any] = []
    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint() -> AsyncIterable[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    async with Connection(app) as client:
        await client.until(b"data: 1")
        client.disconnect()
        await client.end()
        assert tasks == [client.task]
