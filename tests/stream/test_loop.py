"""What the streams of a loop share goes with the loop."""

import asyncio
import gc
import signal
import weakref
from collections.abc import Iterator

import pytest

from tests.asgi import fetch
from tidings import EventSourceResponse, shutting_down
from tidings.stream.loop import LoopState


@pytest.fixture
def handler() -> Iterator[object]:
    def handle(_number: int, _frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handle)
    yield handle
    signal.signal(signal.SIGTERM, before)


async def one_stream() -> LoopState:
    assert (await fetch(EventSourceResponse([1]))).complete
    state = LoopState.find()
    assert state is not None
    assert LoopState.current() is state
    return state


def test_each_loop_has_its_own() -> None:
    first, second = asyncio.run(one_stream()), asyncio.run(one_stream())
    assert first is not second


def test_nothing_is_left_when_the_loop_is_closed() -> None:
    known = len(LoopState._states)
    state = weakref.ref(asyncio.run(one_stream()))
    assert len(LoopState._states) == known
    gc.collect()
    assert state() is None


def test_there_is_none_before_the_first_stream_and_outside_of_a_loop() -> None:
    async def before_the_first_stream() -> None:
        assert LoopState.find() is None
        assert not shutting_down()

    asyncio.run(before_the_first_stream())
    assert LoopState.find() is None
    assert not shutting_down()


def test_a_loop_that_is_closed_without_ceremony_is_cleaned_up_by_the_next_one(handler: object) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(one_stream())
    assert signal.getsignal(signal.SIGTERM) is not handler
    loop.close()
    asyncio.run(one_stream())
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_signal_between_a_loops_streams_is_not_lost(handler: object) -> None:
    async def main() -> None:
        await one_stream()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        assert shutting_down()

    asyncio.run(main())
    assert signal.getsignal(signal.SIGTERM) is handler
