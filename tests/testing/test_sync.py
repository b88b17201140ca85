"""The same streams without an event loop of one's own: in a thread's, or in that of a TestClient."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.testing.apps import END, HEAD, Ticker, chunk, sending
from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.fastapi import LastEventId
from tidings.testing import AsyncStream, Stream, lifespan, open_stream


def news_app() -> tuple[FastAPI, Broker]:
    broker = Broker()
    app = FastAPI(lifespan=broker.lifespan)

    @app.get("/news")
    async def news(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id))

    @app.post("/news")
    async def publish(text: str) -> str:
        return await broker.publish("news", text)

    return app, broker


def test_the_same_verbs() -> None:
    async def source() -> AsyncIterator[Any]:
        yield ServerSentEvent(1, id="7", retry=100)
        yield 2
        yield 3
        await asyncio.sleep(20)
        yield 4

    app = FastAPI()
    app.get("/", response_class=EventSourceResponse)(source)
    with open_stream(app) as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.next(timeout=1).json() == 1
        assert [event.json() for event in stream.take(2)] == [2, 3]
        assert (stream.last_event_id, stream.retry) == ("7", 100)
        stream.advance(15)
        assert stream.next_comment() == "ping"
        assert stream.comments == ["ping"]
        stream.pause_reading()
        stream.advance(10)
        assert stream.blocked
        stream.resume_reading()
        assert [event.json() for event in stream] == [4]
        assert stream.ended
        assert stream.complete
        assert stream.text().endswith("data: 4\n\n") is stream.body.endswith(b"data: 4\n\n") is True
        with pytest.raises(EOFError):
            stream.next()
        assert repr(stream).startswith("<Stream GET /: 200, ")


def test_every_verb_is_there() -> None:
    def public(kind: type) -> set[str]:
        return {name.removeprefix("a") if name.startswith("aclose") else name for name in dir(kind) if name[0] != "_"}

    assert public(Stream) == public(AsyncStream) - {"open", "loop"}


def test_no_answer_in_time() -> None:
    with open_stream(sending(HEAD)) as stream, pytest.raises(TimeoutError, match=r"waited 0\.01 s"):
        stream.next(timeout=0.01)


def test_a_client_that_leaves() -> None:
    source = Ticker()
    with open_stream(EventSourceResponse(source())) as stream:
        stream.next()
        stream.disconnect()
        stream.close()
        assert source.closed


def test_a_leak() -> None:
    with ExitStack() as stack:
        stream = stack.enter_context(open_stream(sending(HEAD, then=lambda _receive: asyncio.sleep(3600))))
        assert stream.patience == 10
        stream.patience = 0.01
        with pytest.raises(AssertionError, match=r"goes on 0\.01 s after its client left"):
            stack.close()


def test_errors_of_the_application() -> None:
    with pytest.raises(ZeroDivisionError), open_stream(sending(ZeroDivisionError())):
        pytest.fail("there is no response")
    with pytest.raises(ZeroDivisionError), open_stream(sending(HEAD, ZeroDivisionError())) as stream:
        assert stream.status == 200
    with pytest.raises(AssertionError, match="mine") as caught, open_stream(sending(HEAD, ZeroDivisionError())):
        raise AssertionError("mine")
    assert caught.value.__notes__ == ["While its stream was closed, GET / raised ZeroDivisionError()"]


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with open_stream(sending(HEAD, chunk(b"data: 1\n\n"), END)) as stream:
        stream.next()
        assert threading.active_count() > before
    assert threading.active_count() == before


# -- a loop for several -----------------------------------------------------------------------------------------------


def test_an_application_and_its_broker() -> None:
    app, broker = news_app()
    with lifespan(app), open_stream(app, "/news") as one, open_stream(app, "/news") as other:
        event_id = broker.publish_sync("news", "spring")
        assert one.next().id == other.next().id == event_id
        with open_stream(app, "/news?text=summer", method="POST") as answer:
            published = answer.json()
        assert [stream.next().id for stream in (one, other)] == [published, published]


def test_a_test_client_beside_an_open_stream() -> None:
    app, broker = news_app()
    with TestClient(app) as client, open_stream(client, "/news") as stream:
        event_id = client.post("/news", params={"text": "spring"}).json()
        assert stream.next() == ("message", '"spring"', event_id)
        broker.publish_sync("news", "summer")
        assert stream.next().json() == "summer"
        stream.advance(15)
        assert stream.next_comment() == ""
        assert stream.next_comment() == "ping"
        with open_stream(client, "/news", last_event_id=event_id) as other:
            assert other.next().json() == "summer"


def test_a_test_client_that_was_not_entered() -> None:
    with open_stream(TestClient(EventSourceResponse(["a"]))) as stream:  # type: ignore[arg-type]
        assert stream.next().json() == "a"


def test_the_state_of_a_test_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["name"] = "ada"
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        await send(HEAD)
        await send(chunk(f"data: {scope['state']['name']}\n\n".encode()))
        await send(END)

    with TestClient(app) as client, open_stream(client) as stream:
        assert stream.next().data == "ada"


def test_a_test_client_that_is_left_too_early() -> None:
    app, _ = news_app()
    with TestClient(app) as client:
        stream = ExitStack()
        stream.enter_context(open_stream(client, "/news"))
    with pytest.raises(RuntimeError, match="close the stream before its TestClient"):
        stream.close()


def test_a_test_client_of_another_library() -> None:
    with pytest.raises(RuntimeError, match="backend='asyncio'"), open_stream(TestClient(sending(), backend="trio")):
        pytest.fail("streams run on asyncio")


# -- the wrong kind of with -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_plain_with_would_block_the_event_loop() -> None:
    with pytest.raises(RuntimeError, match="use `async with`"), open_stream(sending(HEAD)):
        pytest.fail("it blocks")
    with pytest.raises(RuntimeError, match="use `async with`"), lifespan(sending(HEAD)):
        pytest.fail("it blocks")


@pytest.mark.anyio
async def test_a_test_client_runs_in_a_thread() -> None:
    with pytest.raises(TypeError, match="use a plain `with`"):
        async with open_stream(TestClient(sending(HEAD))):
            pytest.fail("it runs elsewhere")


def test_a_lifespan_on_another_event_loop() -> None:
    app, _ = news_app()

    async def test() -> None:
        async with open_stream(app, "/news"):
            pytest.fail("the broker is on another loop")

    with lifespan(app), pytest.raises(RuntimeError, match="on another event loop"):
        asyncio.run(test())

    async def other_test() -> None:
        def plain() -> None:
            with open_stream(app, "/news"):
                pytest.fail("the broker is on another loop")

        async with lifespan(app):
            await asyncio.to_thread(plain)

    with pytest.raises(RuntimeError, match="on another event loop"):
        asyncio.run(other_test())


# -- what an import loads ---------------------------------------------------------------------------------------------


def test_no_optional_dependency_is_loaded() -> None:
    script = """
import sys
from tidings import EventSourceResponse
from tidings.testing import open_stream
with open_stream(EventSourceResponse([1])) as stream:
    assert stream.next().data == "1"
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    top = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert top.isdisjoint({"httpx", "httpx2", "fastapi", "pytest", "typer", "uvicorn"})
    assert "starlette.testclient" not in loaded.stdout.split()
