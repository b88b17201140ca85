"""Time is moved from timer to timer, forward only, and on the loops where that can be done."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import uvloop

from tests.testing.apps import HEAD, Ticker, sending
from tidings import EventSourceResponse
from tidings.testing import open_stream
from tidings.testing.clock import _settle, advance

pytestmark = pytest.mark.anyio


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_hour_takes_no_time() -> None:
    began, real = now(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(asyncio.sleep(3600))
        await advance(3600)
        assert sleeper.done()
    assert now() - began >= 3600
    assert time.monotonic() - real < 60


async def test_each_thing_happens_at_its_time() -> None:
    began = now()
    happened: list[tuple[str, float]] = []

    async def every(name: str, seconds: float, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(seconds)
            happened.append((name, now() - began))

    async with asyncio.TaskGroup() as group:
        group.create_task(every("a", 10, 3))
        group.create_task(every("b", 4, 4))
        await advance(30.5)
    names = "".join(name for name, _ in happened)
    assert names == "bbabbaa"
    due = [4, 8, 10, 12, 16, 20, 30]
    assert [at - happened[0][1] + 4 for _, at in happened] == pytest.approx(due)


async def test_many_short_pauses_add_up() -> None:
    happened = []

    async def every_tenth() -> None:
        while True:
            await asyncio.sleep(0.1)
            happened.append(True)

    task = asyncio.create_task(every_tenth())
    await advance(60)
    assert len(happened) == 600
    task.cancel()


async def test_a_clock_far_ahead() -> None:
    """Where a float can't tell a nanosecond any more, a timer must not be found due for ever and never called."""
    await advance(1e9)
    sleeper = asyncio.create_task(asyncio.sleep(1))
    await advance(1)
    assert sleeper.done()


async def test_what_is_later_does_not_happen() -> None:
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(asyncio.sleep(100))
        await advance(99)
        assert not sleeper.done()
        await advance(1)
        assert sleeper.done()


async def test_a_timer_that_was_cancelled_does_not_happen() -> None:
    loop = asyncio.get_running_loop()
    happened: list[str] = []
    loop.call_later(1, happened.append, "cancelled").cancel()
    second = loop.call_later(3, happened.append, "cancelled meanwhile")
    loop.call_later(2, second.cancel)
    loop.call_later(4, happened.append, "kept")
    await advance(5)
    assert happened == ["kept"]


async def test_timeouts_fire() -> None:
    async def waiting() -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    async def scoped() -> bool:
        with anyio.move_on_after(60) as scope:
            await anyio.sleep_forever()
        return scope.cancelled_caught

    tasks = asyncio.gather(waiting(), scoped(), return_exceptions=True)
    await advance(60)
    assert tasks.done()
    raised, caught = tasks.result()
    assert isinstance(raised, TimeoutError)
    assert caught is True


async def test_time_never_runs_backwards_and_goes_on() -> None:
    before = now()
    await advance(100)
    after = now()
    assert after >= before + 100
    while now() < after + 0.01:
        await asyncio.sleep(0.001)
    await advance(0)
    assert now() >= after + 0.01
    assert now() < before + 160


async def test_a_timer_that_is_overdue_does_not_set_the_clock_back() -> None:
    loop = asyncio.get_running_loop()
    seen = []
    before = now()
    loop.call_later(1, lambda: loop.call_at(loop.time() - 100, lambda: seen.append(now())))
    await advance(2)
    assert seen[0] >= before + 1


async def test_the_clock_is_replaced_once() -> None:
    await advance(1)
    clock = asyncio.get_running_loop().time
    await advance(1)
    assert asyncio.get_running_loop().time is clock


async def test_no_time_lets_everything_run_that_can() -> None:
    done = []

    async def in_steps() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        done.append(True)

    async with asyncio.TaskGroup() as group:
        group.create_task(in_steps())
        await advance(0)
        assert done


async def test_what_never_rests_is_not_waited_for() -> None:
    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.create_task(busy())
    sleeper = asyncio.create_task(asyncio.sleep(10))
    await advance(10)
    assert sleeper.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("seconds", [(10, 20), (20, 10)])
async def test_two_may_move_it_at_once(seconds: tuple[int, int]) -> None:
    began = now()
    async with asyncio.TaskGroup() as group:
        for each in seconds:
            group.create_task(advance(each))
    assert 20 <= now() - began < 30


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
async def test_no_other_times(seconds: float) -> None:
    with pytest.raises(ValueError, match="time doesn't run backwards"):
        await advance(seconds)


def test_a_loop_whose_clock_cannot_be_moved() -> None:
    async def test() -> None:
        async with open_stream(sending(HEAD)) as stream:
            await stream.advance(1)

    with (
        pytest.raises(RuntimeError, match=r"asyncio's own event loops can be moved: .* not uvloop\.Loop"),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(test())


def test_streams_work_where_the_clock_cannot_be_moved() -> None:
    async def test() -> list[str]:
        async with open_stream(EventSourceResponse(["a", "b"])) as stream:
            return [event.json() async for event in stream]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(test()) == ["a", "b"]


# -- on streams -------------------------------------------------------------------------------------------------------


async def test_keep_alives() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with open_stream(EventSourceResponse(source())) as stream:
        await stream.next()
        assert stream.comments == []
        for _ in range(3):
            await stream.advance(15)
            assert await stream.next_comment() == "ping"
        assert stream.comments == ["ping"] * 3


async def test_keep_alives_of_a_whole_hour() -> None:
    async def source() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    async with open_stream(EventSourceResponse(source(), ping_interval=60)) as stream:
        assert await stream.next_comment() == ""
        await stream.advance(3603)  # the heartbeat is late by up to 50 ms, each time
        assert stream.comments == ["", *["ping"] * 60]


async def test_the_pauses_of_a_source() -> None:
    async with open_stream(EventSourceResponse(Ticker(60)())) as stream:
        await stream.next()
        await stream.advance(300)
        assert [event.data for event in await stream.take(5, timeout=0)] == ["1", "2", "3", "4", "5"]


async def test_the_longest_that_a_stream_may_take() -> None:
    async with open_stream(EventSourceResponse(Ticker(60)(), max_duration=200)) as stream:
        await stream.advance(201)
        assert [event.data async for event in stream] == ["0", "1", "2", "3"]


def test_a_loop_that_has_nothing_to_do_is_settled_at_once() -> None:
    async def turns() -> int:
        loop: Any = asyncio.get_running_loop()
        count = 0
        original = loop._run_once

        def counting() -> None:
            nonlocal count
            count += 1
            original()

        loop._run_once = counting
        await _settle(loop)
        return count

    assert asyncio.run(turns()) <= 3
