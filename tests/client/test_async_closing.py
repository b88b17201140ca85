"""Cancelled waits, `aclose` from anywhere, and what is left afterwards, of `AsyncEventSource`."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from tests.client.conftest import Serve
from tests.client.misbehaving import HOLD, LAST_CHUNK, PATIENCE, RESET, MisbehavingServer, chunk, chunked, stream
from tests.client.reading import NO_TLS
from tidings.client import AsyncEventSource

pytestmark = pytest.mark.anyio

ONE = b"id: 1\ndata: one\n\n"
TWO = b"id: 2\ndata: two\n\n"


@pytest.fixture(params=[None, httpx2.AsyncClient, httpx.AsyncClient], ids=["own", "httpx2", "httpx"])
async def client(request: pytest.FixtureRequest) -> Any:
    if request.param is None:
        yield None
        return
    async with request.param(verify=NO_TLS) as client:
        yield client


def tasks() -> set[Any]:
    """Those that run beside a test, without those of pytest's plugin."""
    running = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
    return {task for task in running if "TestRunner" not in repr(task.get_coro())}


async def settled(wait: Callable[..., None], *args: Any) -> None:
    """Wait for something of the server, while the loop goes on."""
    await asyncio.to_thread(wait, *args)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


async def soon(step: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await step


def reader(source: AsyncEventSource) -> asyncio.Task[list[str]]:
    async def read() -> list[str]:
        return [event.data async for event in source]

    return asyncio.create_task(read())


async def assert_nothing_is_left(server: MisbehavingServer) -> None:
    await settled(server.wait_until_left)
    gc.collect()
    await until(lambda: not tasks())


# Where a source may be waiting: what the server does, how many requests it got until then, the state.
PLACES: dict[str, tuple[list[Any], int, str]] = {
    "for the head": ([[HOLD]], 1, "connecting"),
    "for the rest of the head": ([[b"HTTP/1.1 200 OK\r\n", HOLD]], 1, "connecting"),
    "for the first event": ([[chunked(), HOLD]], 1, "open"),
    "for the next event": ([[chunked(), chunk(ONE + b"id: 2\ndata: unfin"), HOLD]], 1, "open"),
    "to connect again": ([stream(b"retry: 3600000\n" + ONE)], 1, "connecting"),
    "after a failure": ([stream(b"retry: 3600000\n" + ONE), [RESET]], 1, "connecting"),
}


async def waiting_at(place: str, serve: Serve, client: Any) -> tuple[MisbehavingServer, AsyncEventSource, Any]:
    scripts, requests, state = PLACES[place]
    server = serve(*scripts)
    waits: list[float] = []
    opened: list[Any] = []
    source = AsyncEventSource(
        server.url, client=client, on_open=opened.append, on_reconnect=lambda _error, delay: waits.append(delay)
    )
    task = reader(source)
    await settled(server.wait_for_requests, requests)
    await until(lambda: (opened or state == "connecting") and (waits or not place.startswith(("to", "after"))))
    assert source.state == state
    return server, source, task


# -- aclose -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
async def test_aclose_from_another_task_ends_whoever_waits(serve: Serve, client: Any, place: str) -> None:
    server, source, task = await waiting_at(place, serve, client)
    await source.aclose()
    assert source.state == "closed"
    assert await soon(task) in (["one"], [])
    await assert_nothing_is_left(server)
    await source.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(source)


@pytest.mark.parametrize("place", PLACES)
async def test_a_cancelled_task_leaves_its_connection_at_once(serve: Serve, client: Any, place: str) -> None:
    """Also if nobody closes the source."""
    server, _source, task = await waiting_at(place, serve, client)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert task.cancelled()
    await assert_nothing_is_left(server)


async def test_a_source_that_was_never_read_is_closed(client: Any) -> None:
    async with AsyncEventSource("http://127.0.0.1:9/", client=client) as source:
        pass
    assert source.state == "closed"
    with pytest.raises(StopAsyncIteration):
        await anext(source)


async def test_leaving_the_block_closes_the_connection(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE + TWO), HOLD])
    async with AsyncEventSource(server.url, client=client) as source:
        async for event in source:
            assert event.data == "one"
            break
        assert server.connections == 1
    assert (source.state, source.last_event_id) == ("closed", "1")
    await assert_nothing_is_left(server)


async def test_an_error_in_the_block_passes_and_closes(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE), HOLD])
    source = AsyncEventSource(server.url, client=client)

    async def read() -> None:
        async with source:
            async for _event in source:
                raise LookupError

    with pytest.raises(LookupError):
        await read()
    assert source.state == "closed"
    await assert_nothing_is_left(server)


async def test_a_cancelled_block_closes_the_connection(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE), HOLD])
    inside = asyncio.Event()

    async def read() -> None:
        async with AsyncEventSource(server.url, client=client) as source:
            await anext(source)
            inside.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(read())
    await soon(inside.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    await assert_nothing_is_left(server)


async def test_it_may_be_closed_while_an_event_is_worked_on(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE + TWO), HOLD])
    source = AsyncEventSource(server.url, client=client)
    got = []
    async for event in source:
        got.append(event.data)
        await source.aclose()
    assert got == ["one"]
    await assert_nothing_is_left(server)


# -- cancelled waits --------------------------------------------------------------------------------------------------


async def cancelled_by_asyncio(source: AsyncEventSource, when: Awaitable[None]) -> None:
    async with asyncio.timeout(None) as timeout:

        async def expire() -> None:
            await when
            timeout.reschedule(asyncio.get_running_loop().time())

        expiring = asyncio.create_task(expire())
        await anext(source)
    await expiring


async def cancelled_by_anyio(source: AsyncEventSource, when: Awaitable[None]) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await when
            scope.cancel()

        cancelling = asyncio.create_task(cancel())
        await anext(source)
    await cancelling
    if scope.cancelled_caught:
        raise TimeoutError


@pytest.mark.parametrize("wait", [cancelled_by_asyncio, cancelled_by_anyio])
async def test_a_wait_that_is_cancelled_is_taken_up_by_the_next(serve: Serve, client: Any, wait: Any) -> None:
    unfinished = [chunked(), chunk(ONE + b"id: 2\ndata: tw"), HOLD]
    server = serve(unfinished, [HOLD], [chunked(), HOLD], stream(TWO))
    async with AsyncEventSource(server.url, client=client, retry=0.001) as source:
        assert (await anext(source)).data == "one"
        for requests in (1, 2, 3):
            with pytest.raises(TimeoutError):
                await wait(source, settled(server.wait_for_requests, requests))
            await settled(server.wait_until_left)
            assert source.state != "closed"
            assert source.last_event_id == "1"
        assert (await soon(anext(source))).data == "two"
    assert server.last_event_ids == [None, b"1", b"1", b"1"]
    await assert_nothing_is_left(server)


async def test_events_that_were_decoded_survive_a_cancelled_wait(serve: Serve, client: Any) -> None:
    """A wait that can be answered at once isn't cancelled at all."""
    server = serve([chunked(), chunk(ONE + TWO), HOLD])
    async with AsyncEventSource(server.url, client=client) as source:
        await anext(source)
        async with asyncio.timeout(0):
            assert (await anext(source)).data == "two"


async def test_a_wait_to_connect_again_goes_on_where_it_was_cancelled(serve: Serve, client: Any) -> None:
    # On a busy machine a request may be cancelled as well, and be sent again.
    server = serve(stream(b"retry: 300\n" + ONE), *[stream(TWO)] * 400)
    async with AsyncEventSource(server.url, client=client) as source:
        await anext(source)
        cancelled = 0
        while True:
            try:
                async with asyncio.timeout(0.05):
                    event = await anext(source)
                break
            except TimeoutError:
                cancelled += 1
                assert cancelled < 400, "each cancelled wait began anew"
        assert event.data == "two"
    first, second, *_ = server.requests
    assert second.at - first.at >= 0.3
    assert cancelled >= 2


async def test_a_wait_may_be_cancelled_by_a_scope_around_the_loop(serve: Serve, client: Any) -> None:
    server = serve([chunked(), chunk(ONE), HOLD])
    with anyio.CancelScope() as scope:
        async with AsyncEventSource(server.url, client=client) as source:
            async for event in source:
                assert event.data == "one"
                scope.deadline = anyio.current_time() + 0.05
    assert scope.cancelled_caught
    assert (source.state, source.last_event_id) == ("closed", "1")
    await assert_nothing_is_left(server)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_closing_that_is_cancelled_gives_its_place_in_the_pool_back(
    serve: Serve, library: Any, turns: int
) -> None:
    server = serve([chunked(), chunk(ONE), HOLD], [chunked(), chunk(TWO), HOLD])
    async with library.AsyncClient(limits=library.Limits(max_connections=1), verify=NO_TLS, timeout=1) as client:
        first = AsyncEventSource(server.url, client=client)
        assert (await anext(first)).data == "one"
        closing = asyncio.create_task(first.aclose())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await first.aclose()
        async with AsyncEventSource(server.url, client=client, max_attempts=1) as second:
            assert (await anext(second)).data == "two"
    await assert_nothing_is_left(server)


# -- two tasks --------------------------------------------------------------------------------------------------------


async def test_two_tasks_cannot_wait_for_one_source(serve: Serve, client: Any) -> None:
    go = threading.Event()
    server = serve([chunked(), go, chunk(ONE), LAST_CHUNK])
    async with AsyncEventSource(server.url, client=client, retry=0.001) as source:
        task = reader(source)
        await settled(server.wait_for_requests, 1)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(source)
        go.set()
        assert await soon(task) == ["one"]


async def test_an_async_hook_can_be_started_from_a_plain_one(serve: Serve, client: Any) -> None:
    """A hook may end the source, by a task of its own."""
    server = serve([chunked(), chunk(ONE), HOLD])
    closing: list[Any] = []
    source = AsyncEventSource(
        server.url, client=client, on_open=lambda _response: closing.append(asyncio.create_task(source.aclose()))
    )
    assert len(await soon(reader(source))) <= 1
    await closing[0]
    await assert_nothing_is_left(server)
