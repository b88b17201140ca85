"""What a test sees of a stream, and how it ends: with good applications and with others."""

import asyncio
import gc
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import fastapi.sse
import pytest
from fastapi import FastAPI, HTTPException, Response
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.testing.apps import END, HEAD, Ticker, chunk, gone, sending
from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.fastapi import LastEventId
from tidings.testing import lifespan, open_stream
from tidings.wire.decoder import ReceivedEvent

pytestmark = pytest.mark.anyio


def stream_of(source: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    app.get("/", response_class=EventSourceResponse, **options)(source)
    return app


async def three() -> AsyncIterator[int]:
    for number in range(3):
        yield number


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_an_event_is_there_while_the_application_goes_on() -> None:
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "first"
        await gate.wait()
        yield "second"

    async with open_stream(stream_of(source)) as stream:
        assert stream.status == 200
        assert (await stream.next(timeout=1)).json() == "first"
        assert not stream.ended
        gate.set()
        assert await stream.next() == ReceivedEvent("message", '"second"', "")


async def test_entering_waits_for_the_head_and_no_more() -> None:
    async with open_stream(sending(HEAD)) as stream:
        assert stream.status == 200
        assert stream.body == b""


async def test_headers_in_any_case() -> None:
    async with open_stream(stream_of(three)) as stream:
        assert stream.headers["Content-Type"] == stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert "x-none" not in stream.headers


async def test_several_events_at_once() -> None:
    async with open_stream(stream_of(three)) as stream:
        assert [event.data for event in await stream.take(2)] == ["0", "1"]
        assert (await stream.next()).data == "2"


async def test_take_takes_all_or_none() -> None:
    async with open_stream(stream_of(three)) as stream:
        with pytest.raises(EOFError, match="the response is complete, without 4 events"):
            await stream.take(4)
        assert len(await stream.take(3)) == 3


async def test_iterating_ends_with_the_response() -> None:
    async with open_stream(stream_of(three)) as stream:
        assert [event.data async for event in stream] == ["0", "1", "2"]
        assert stream.ended
        assert stream.complete


async def test_iterating_raises_what_the_application_did() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with open_stream(EventSourceResponse(source())) as stream:
        assert (await anext(stream)).data == "1"
        with pytest.raises(ZeroDivisionError):
            await anext(stream)


async def test_events_over_any_chunking() -> None:
    whole = ": one\r\n\r\nevent: ä\r\ndata: é\r\nid: 1\r\n\r\ndata: 2\r\r: two\n\n".encode()
    for size in (1, 2, 3, len(whole)):
        chunks = [chunk(whole[start : start + size]) for start in range(0, len(whole), size)]
        async with open_stream(sending(HEAD, *chunks, END)) as stream:
            assert await stream.take(2) == [ReceivedEvent("ä", "é", "1"), ReceivedEvent("message", "2", "1")]
            assert await stream.next_comment() == "one"
            assert await stream.next_comment() == "two"
            assert stream.body == whole


async def test_the_id_and_the_retry_that_a_client_would_keep() -> None:
    async def source() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(1, id="7", retry=2500)
        yield ServerSentEvent(raw_data="x")
        yield ServerSentEvent(2, id="8")
        yield ServerSentEvent(id="9")

    async with open_stream(EventSourceResponse(source())) as stream:
        seen = [(event.data, stream.last_event_id) async for event in stream]
        assert stream.retry == 2500
    assert seen == [("1", "7"), ("x", "7"), ("2", "9")]  # the last one has no data: it moves the position alone
    assert stream.last_event_id == "9"


async def test_no_id_before_any_event() -> None:
    async with open_stream(EventSourceResponse([ServerSentEvent(1, id="7")])) as stream:
        await stream.advance(0)
        assert stream.last_event_id == ""
        assert stream.body

    async with open_stream(sending(HEAD)) as stream:
        assert (stream.last_event_id, stream.retry) == ("", None)


async def test_two_readers_of_one_stream() -> None:
    gate = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        await gate.wait()
        yield 1
        yield 2

    async with open_stream(EventSourceResponse(source())) as stream, asyncio.TaskGroup() as group:
        readers = [group.create_task(stream.next()) for _ in range(2)]
        await stream.advance(0)
        gate.set()
    assert {reader.result().data for reader in readers} == {"1", "2"}


async def test_an_event_of_several_mebibytes() -> None:
    async with open_stream(EventSourceResponse(["x" * (3 << 20)])) as stream:
        assert len((await stream.next()).json()) == 3 << 20


async def test_what_comes_after_a_busy_producer_that_no_one_reads() -> None:
    """Bounded: it blocks as a connection does, and goes on as soon as somebody reads."""
    count = 30_000

    async def source() -> AsyncIterator[str]:
        for _ in range(count):
            yield "x" * 100

    async with open_stream(EventSourceResponse(source())) as stream:
        await stream.advance(0)
        assert stream.blocked
        assert len(stream.body) < 2 << 20
        assert len(await stream.take(count)) == count


# -- what isn't there -------------------------------------------------------------------------------------------------


async def test_a_timeout_says_what_came() -> None:
    app = sending(HEAD, chunk(b": hello\n\ndata: 1\n\ndata: unfinished\n"))
    async with open_stream(app, "/news") as stream:
        assert (await stream.next()).data == "1"
        with pytest.raises(TimeoutError) as caught:
            await stream.next(timeout=0.01)
        assert str(caught.value) == (
            "GET /news: waited 0.01 s for the next event; 200, text/event-stream; 1 event; 1 comment; "
            r"the body: b': hello\n\ndata: 1\n\ndata: unfinished\n'"
        )
        assert await stream.next_comment() == "hello"
        with pytest.raises(TimeoutError, match=r"waited 0\.01 s for the next comment"):
            await stream.next_comment(timeout=0.01)
        with pytest.raises(TimeoutError, match=r"waited 0\.01 s for the end of the response"):
            await stream.text(timeout=0.01)


async def test_a_timeout_says_what_was_not_read() -> None:
    async with open_stream(sending(HEAD, chunk(b"event: a\ndata: 1\n\n"))) as stream:
        with pytest.raises(TimeoutError, match=r"2 events; .*1 event; 0 comments; not read yet: \[.*event='a'"):
            await stream.take(2, timeout=0.01)


async def test_the_end_says_what_came() -> None:
    async with open_stream(sending(HEAD, chunk(b"data: 1\n\n"), END)) as stream:
        await stream.next()
        with pytest.raises(EOFError, match=r"the response is complete, without the next event; 200, .*; 1 event"):
            await stream.next()
        with pytest.raises(EOFError, match="the response is complete, without the next comment"):
            await stream.next_comment()


async def test_a_response_that_breaks_off() -> None:
    async with open_stream(sending(HEAD, chunk(b"data: 1\n\n"), then=None)) as stream:
        await stream.next()
        with pytest.raises(EOFError, match="the response broke off"):
            await stream.next()
        with pytest.raises(EOFError, match="the response broke off"):
            await anext(stream)
        assert stream.ended
        assert not stream.complete


async def test_a_long_body_is_shown_in_part() -> None:
    async with open_stream(sending(HEAD, chunk(b"x" * 5000 + b"end"))) as stream:
        with pytest.raises(TimeoutError, match=r"the end of the body: b'x{197}end'"):
            await stream.next(timeout=0)


async def test_what_a_stream_shows_of_itself() -> None:
    async with open_stream(sending(HEAD), "/a", params={"b": 1}) as stream:
        assert repr(stream) == "<AsyncStream GET /a?b=1: 200, text/event-stream; 0 events; 0 comments>"


# -- leaving ----------------------------------------------------------------------------------------------------------


async def test_leaving_the_block_closes_the_source() -> None:
    source = Ticker()
    async with open_stream(EventSourceResponse(source())) as stream:
        await stream.next()
        assert not source.closed
    assert source.closed


async def test_a_client_that_leaves_in_the_middle() -> None:
    source = Ticker()
    async with open_stream(EventSourceResponse(source())) as stream:
        await stream.next()
        stream.disconnect()
        assert stream.ended
        with pytest.raises(EOFError, match="the client has left"):
            await stream.next()
        await stream.aclose()
        assert source.closed


async def test_what_came_before_the_client_left_can_be_read() -> None:
    async with open_stream(sending(HEAD, chunk(b"data: 1\n\n"))) as stream:
        await stream.advance(0)
        stream.disconnect()
        assert (await stream.next()).data == "1"


async def test_nothing_is_received_after_the_client_left() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await gone(receive)
        await send(chunk(b"data: too late\n\n"))
        await send(END)

    async with open_stream(app) as stream:
        stream.disconnect()
        await stream.aclose()
        assert stream.body == b""
        assert not stream.complete


async def test_an_application_that_ignores_its_client_fails_the_test() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    with pytest.raises(AssertionError, match=r"GET /leak: the application goes on 0\.02 s after .* was cancelled"):
        async with open_stream(app, "/leak") as stream:
            stream.patience = 0.02
    assert ended


async def test_an_application_that_sends_for_ever() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        while True:
            await send(chunk(b"data: 1\n\n"))

    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(open_stream(app))
        stream.patience = 0.02
        assert len(await stream.take(3)) == 3
        with pytest.raises(AssertionError, match="goes on"):
            await stack.aclose()


async def test_an_application_that_goes_on_even_when_it_is_cancelled() -> None:
    released = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(AssertionError, match="and when it is cancelled, too"):
        async with open_stream(app) as stream:
            stream.patience = 0.01
    released.set()
    await asyncio.sleep(0)


async def test_what_the_application_does_after_its_response_is_waited_for() -> None:
    done = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await send(END)
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        await asyncio.sleep(0.01)
        done.append(True)

    async with open_stream(app) as stream:
        await stream.text()
        await stream.advance(1)
        assert done == [True]
    async with open_stream(app):
        pass
    assert done == [True, True]


async def test_a_response_is_over_though_its_application_goes_on() -> None:
    async with open_stream(sending(HEAD, END, then=lambda _receive: asyncio.sleep(60))) as stream:
        assert stream.ended
        with pytest.raises(EOFError, match="the response is complete"):
            await stream.next()
        await stream.advance(60)


async def test_a_test_that_is_cancelled_while_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after the application, whatever that raises then."""
    leaving, cancelled = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await gone(receive)
        leaving.set()
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cancelled.append(True)
            raise ZeroDivisionError

    async def test() -> None:
        async with open_stream(app):
            pass

    task = asyncio.create_task(test())
    await leaving.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert cancelled
    unseen: list[Any] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", unseen.append)
    del task
    gc.collect()
    assert not unseen  # asyncio tells of an error that nobody has looked at


async def test_a_failing_test_is_not_hidden_by_a_leak() -> None:
    async def failing() -> None:
        async with open_stream(sending(HEAD, then=lambda _receive: asyncio.sleep(3600))) as stream:
            stream.patience = 0.01
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await failing()
    (note,) = caught.value.__notes__
    assert "goes on 0.01 s after its client left" in note


async def test_a_cancelled_test_leaves_nothing_behind() -> None:
    source = Ticker()
    reading = asyncio.Event()

    async def test() -> None:
        async with open_stream(EventSourceResponse(source())) as stream:
            await stream.next()
            reading.set()
            await stream.take(1000)

    before = asyncio.all_tasks()
    task = asyncio.create_task(test())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed
    assert asyncio.all_tasks() == before


async def test_a_test_that_is_cancelled_while_a_stream_opens() -> None:
    started, cancelled = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def test() -> None:
        async with open_stream(app):
            pytest.fail("there is no response")

    task = asyncio.create_task(test())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled


# -- what applications raise ------------------------------------------------------------------------------------------


async def test_an_error_before_the_response() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_stream(sending(ZeroDivisionError())):
            pytest.fail("there is no response")


async def test_no_response_at_all() -> None:
    with pytest.raises(EOFError, match=r"GET /: the response broke off: .* without a response; nothing has come"):
        async with open_stream(sending(then=None)):
            pytest.fail("there is no response")


async def test_an_error_in_the_middle_is_raised_once_what_came_before_is_read() -> None:
    app = sending(HEAD, chunk(b"data: 1\n\n"), ZeroDivisionError())
    async with open_stream(app) as stream:
        assert (await stream.next()).data == "1"
        with pytest.raises(ZeroDivisionError):
            await stream.next()
        with pytest.raises(EOFError, match="broke off"):
            await stream.next()
    # and not again on leaving


async def test_an_error_that_nobody_saw_is_raised_on_leaving() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_stream(sending(HEAD, chunk(b"data: 1\n\n"), ZeroDivisionError())) as stream:
            await stream.next()


async def test_an_error_of_the_cleanup_is_raised_on_leaving() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await gone(receive)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with open_stream(app):
            pass


async def test_an_error_of_the_application_is_noted_at_that_of_the_test() -> None:
    with pytest.raises(AssertionError, match="mine") as caught:
        async with open_stream(sending(HEAD, ZeroDivisionError("theirs"))):
            raise AssertionError("mine")
    assert caught.value.__notes__ == ["While its stream was closed, GET / raised ZeroDivisionError('theirs')"]


async def test_an_application_that_cancels_itself() -> None:
    async with open_stream(sending(HEAD, asyncio.CancelledError())) as stream:
        with pytest.raises(RuntimeError, match="cancelled, and not by its client"):
            await stream.next()


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([HEAD, HEAD], "started its response twice"),
        ([chunk(b"")], "a body before it started"),
        ([HEAD, END, END], "sent more after the end"),
        ([HEAD, {"type": "http.response.push"}], "'http.response.push', which is no part"),
        ([HEAD, {"type": "http.response.body", "body": "text"}], "the body must be bytes, not str"),
        ([{**HEAD, "headers": [("content-type", "text/plain")]}], "a header must be two bytes objects"),
    ],
)
async def test_messages_that_no_server_takes(messages: list[Any], error: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=error):
        async with open_stream(sending(*messages)) as stream:
            await stream.text()


# -- responses that are no streams ------------------------------------------------------------------------------------


async def test_an_error_before_the_first_item() -> None:
    async def source() -> AsyncIterable[int]:
        raise HTTPException(404, "no such line")
        yield 1

    async with open_stream(stream_of(source)) as stream:
        assert stream.status == 404
        assert await stream.json() == {"detail": "no such line"}
        with pytest.raises(EOFError, match=r"without the next event; 404, application/json; .*no such line"):
            await stream.next()


async def test_an_answer_without_content() -> None:
    app = FastAPI()
    app.get("/", status_code=204)(lambda: Response(status_code=204))
    async with open_stream(app) as stream:
        assert stream.status == 204
        assert await stream.text() == ""
        assert [event async for event in stream] == []


async def test_a_server_error() -> None:
    async def source() -> AsyncIterable[int]:
        raise ZeroDivisionError
        yield 1

    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(open_stream(stream_of(source)))
        assert stream.status == 500
        assert await stream.text() == "Internal Server Error"
        with pytest.raises(ZeroDivisionError):
            await stack.aclose()


async def test_what_is_said_to_be_something_else_is_not_read_as_events() -> None:
    head = {**HEAD, "headers": [(b"Content-Type", b"text/plain")]}
    async with open_stream(sending(head, chunk(b"data: 1\n\n"), END)) as stream:
        with pytest.raises(EOFError, match="text/plain; 0 events"):
            await stream.next()
        assert await stream.text() == "data: 1\n\n"


async def test_a_content_type_in_other_letters() -> None:
    head = {**HEAD, "headers": [(b"content-type", b"Text/Event-Stream; charset=UTF-8")]}
    async with open_stream(sending(head, chunk(b"data: 1\n\n"))) as stream:
        assert (await stream.next()).data == "1"


async def test_a_head_request() -> None:
    async with open_stream(EventSourceResponse(three()), method="HEAD") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert await stream.text() == ""


# -- clients that don't read ------------------------------------------------------------------------------------------


async def test_an_application_is_blocked_while_its_client_does_not_read() -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        for number in range(3):
            await send(chunk(b"data: %d\n\n" % number))
            sent.append(number)
            await asyncio.sleep(1)
        await send(END)

    async with open_stream(app) as stream:
        await stream.next()
        stream.pause_reading()
        await stream.advance(10)
        assert stream.blocked
        assert sent == [0]
        with pytest.raises(TimeoutError):
            await stream.next(timeout=0)
        stream.resume_reading()
        await stream.advance(0)
        assert not stream.blocked
        assert (await stream.next(timeout=0)).data == "1"
        await stream.advance(10)
        assert [event.data async for event in stream] == ["2"]


async def test_a_client_that_reads_nothing_for_too_long_is_dropped() -> None:
    source = Ticker()
    async with open_stream(EventSourceResponse(source(), send_timeout=30)) as stream:
        await stream.next()
        stream.pause_reading()
        await stream.advance(30)
        assert not source.closed
        await stream.advance(2)
        assert source.closed
        assert stream.ended
        assert not stream.complete


async def test_a_blocked_send_ends_when_the_client_leaves() -> None:
    pausing = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(HEAD)
        await pausing.wait()
        await send(chunk(b"data: 1\n\n"))

    async with open_stream(app) as stream:
        stream.pause_reading()
        pausing.set()
        await stream.advance(0)
        assert stream.blocked


async def test_a_blocked_application_sees_its_client_leave() -> None:
    source = Ticker(0)
    async with open_stream(EventSourceResponse(source(), send_timeout=None)) as stream:
        await stream.next()
        stream.pause_reading()
        await stream.advance(0)
        assert stream.blocked
    assert source.closed


# -- applications of every kind ---------------------------------------------------------------------------------------


async def test_channels() -> None:
    broker = Broker()
    app = FastAPI(lifespan=broker.lifespan)

    @app.get("/news")
    async def news(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id))

    async with lifespan(app):
        async with open_stream(app, "/news") as one, open_stream(app, "/news") as other:
            first = await broker.publish("news", "one", event="headline")
            second = await broker.publish("news", "two")
            for stream in (one, other):
                assert [(event.event, event.id) for event in await stream.take(2)] == [
                    ("headline", first),
                    ("message", second),
                ]
        async with open_stream(app, "/news", last_event_id=first) as stream:
            assert (await stream.next()).json() == "two"
            await broker.finish("news")
            assert [event async for event in stream] == []
        async with open_stream(app, "/news", last_event_id=second) as stream:
            assert stream.status == 204
        async with open_stream(app, "/news", last_event_id="0-1") as stream:
            assert (await stream.next()).event == "reset"


async def test_a_streaming_response_of_starlette() -> None:
    closed = []

    async def source() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: 1\n\n"
                await asyncio.sleep(1)
        finally:
            closed.append(True)

    async def endpoint(request: Any) -> StreamingResponse:
        return StreamingResponse(source(), media_type="text/event-stream")

    async with open_stream(Starlette(routes=[Route("/", endpoint)])) as stream:
        await stream.next()
        await stream.advance(1)
        await stream.next(timeout=0)
    assert closed


async def test_a_stream_of_fastapi_itself() -> None:
    app = FastAPI()

    @app.get("/", response_class=fastapi.sse.EventSourceResponse)
    async def ticks() -> AsyncIterable[int]:
        for number in range(3):
            yield number
            await asyncio.sleep(20)

    async with open_stream(app) as stream:
        assert (await stream.next()).json() == 0
        await stream.advance(15)
        assert await stream.next_comment() == "ping"
        await stream.advance(6)
        assert (await stream.next()).json() == 1


async def test_a_sync_generator() -> None:
    def source() -> Any:
        yield from range(3)

    async with open_stream(EventSourceResponse(source())) as stream:
        assert [event.data async for event in stream] == ["0", "1", "2"]
