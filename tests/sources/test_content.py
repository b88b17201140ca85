"""What events can be made of: as an async iterator, and closed if nobody iterates it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest

from tidings import Broker
from tidings.sources.content import check_content, close_content, open_source
from tidings.sources.threaded import ThreadedSource

pytestmark = pytest.mark.anyio


class Closable:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.notes.append("aclose")


class Entered(Closable):
    """A context manager as well."""

    async def __aenter__(self) -> Self:
        self.notes.append("enter")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.notes.append("exit")


async def generator(notes: list[str]) -> AsyncIterator[int]:
    notes.append("begun")
    try:
        yield 1
        yield 2
    finally:
        notes.append("finally")


def sync_generator(notes: list[str]) -> Iterator[int]:
    notes.append("begun")
    try:
        yield 1
        yield 2
    finally:
        notes.append("finally")


class SyncClosable:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def close(self) -> None:
        self.notes.append("close")


@pytest.mark.parametrize("make", [generator, sync_generator])
async def test_the_body_of_a_generator_that_is_closed_unused_is_not_run(make: Callable[[list[str]], Any]) -> None:
    notes: list[str] = []
    content = make(notes)
    for _ in range(2):
        await close_content(content)
    assert notes == []
    source = open_source(content)
    assert [item async for item in source] == []
    assert notes == []


@pytest.mark.parametrize("make", [generator, sync_generator])
async def test_a_generator_that_was_begun_is_closed_at_its_yield(make: Callable[[list[str]], Any]) -> None:
    notes: list[str] = []
    content = make(notes)
    if isinstance(content, AsyncIterator):
        assert await anext(content) == 1
    else:
        assert next(content) == 1
    await close_content(content)
    assert notes == ["begun", "finally"]


async def test_whatever_can_be_closed_is_closed() -> None:
    closable, sync_closable = Closable(), SyncClosable()
    for content in (closable, sync_closable, [1], (1,), range(1), {1: 2}.keys(), Broker().subscribe("news")):
        check_content(content)
        await close_content(content)
    assert (closable.notes, sync_closable.notes) == (["aclose"], ["close"])


async def test_an_async_iterator_is_its_own_source() -> None:
    content = generator([])
    assert open_source(content) is content
    closable = Closable()
    assert open_source(closable) is closable
    subscription = Broker().subscribe("news")
    assert open_source(subscription) is subscription
    await close_content(content)


async def test_a_source_that_is_opened_and_not_used_leaves_nothing_behind() -> None:
    threads = threading.active_count()
    entered = Entered()
    for content in (entered, generator([]), sync_generator([]), [1, 2], range(3)):
        source = open_source(content)
        await close_content(content)
        del source
    gc.collect()  # or Python says what was never awaited
    assert entered.notes == ["aclose"]
    assert threading.active_count() == threads


async def test_a_context_manager_is_left_where_its_source_is_closed() -> None:
    entered = Entered()
    assert [item async for item in open_source(entered)] == []
    assert entered.notes == ["enter", "exit"]


@pytest.mark.parametrize("content", [[1, 2], (1, 2)])
async def test_lists_and_tuples_are_iterated_on_the_event_loop(content: Any) -> None:
    source = open_source(content)
    assert not isinstance(source, ThreadedSource)
    assert [item async for item in source] == [1, 2]


@pytest.mark.parametrize("make", [lambda: range(1, 3), lambda: iter([1, 2]), lambda: sync_generator([]), SyncClosable])
async def test_other_iterables_are_iterated_in_a_thread(make: Callable[[], Any]) -> None:
    source = open_source(make())
    assert isinstance(source, ThreadedSource)
    assert [item async for item in source] == [1, 2][: 1 if make is SyncClosable else 2]
    await source.aclose()
