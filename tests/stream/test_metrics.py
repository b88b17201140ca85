"""What is counted of streams: through the OpenTelemetry API, read with its SDK, and by `statistics`."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from tests.asgi import PATIENCE, Connection, fetch
from tests.metering import Meter
from tidings import Broker, EventSourceResponse, ServerSentEvent
from tidings.stream import Ending, statistics
from tidings.stream.loop import LoopState
from tidings.testing import open_stream

pytestmark = pytest.mark.anyio


@pytest.fixture
def meter() -> Meter:
    return Meter()


async def forever() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


async def failing() -> AsyncIterator[int]:
    yield 1
    raise LookupError


async def test_what_a_stream_does_is_counted(meter: Meter) -> None:
    source = [1, ServerSentEvent(comment="no event"), ServerSentEvent(id="3"), None, ServerSentEvent(raw_data="4")]
    client = await fetch(EventSourceResponse(source, retry=50))
    assert meter.changes() == {
        "tidings.stream.endings exhausted": 1,
        "tidings.stream.events": 3,
        "tidings.stream.sent": len(client.body),
        "tidings.stream.duration exhausted": 1,
        "tidings.stream.time_to_first_event": 1,
    }


async def test_streams_are_active_until_they_are_closed(meter: Meter) -> None:
    before = statistics().active
    async with Connection(EventSourceResponse(forever())) as one:
        await one.until(b"data: 1")
        async with Connection(EventSourceResponse(forever())) as another:
            await another.until(b"data: 1")
            assert meter.changes()["tidings.stream.active"] == 2
            assert statistics().active == before + 2
        assert meter.changes()["tidings.stream.active"] == 1
    assert "tidings.stream.active" not in meter.changes()


async def test_what_is_sent_counts_while_the_stream_goes_on(meter: Meter) -> None:
    before = statistics()
    async with Connection(EventSourceResponse(forever())) as client:
        await client.until(b"data: 1")
        await asyncio.sleep(0)
        assert meter.changes("tidings.stream.events", "tidings.stream.sent") == {
            "tidings.stream.events": 1,
            "tidings.stream.sent": len(b"data: 1\n\n"),
        }
        now = statistics()
        assert (now.events - before.events, now.bytes - before.bytes) == (1, len(b"data: 1\n\n"))
        assert meter.changes("tidings.stream.time_to_first_event", "tidings.stream.duration") == {
            "tidings.stream.time_to_first_event": 1  # and the duration isn't known yet
        }


@pytest.mark.parametrize("ending", list(Ending))
async def test_every_ending_is_counted_and_told_by_the_response(ending: Ending, meter: Meter) -> None:
    before = statistics().endings
    source: Any = failing() if ending is Ending.FAILED else [1] if ending is Ending.EXHAUSTED else forever()
    options: dict[Ending, Any] = {Ending.LIMIT: {"max_events": 1}, Ending.TIMED_OUT: {"send_timeout": 0.02}}
    response = EventSourceResponse(source, **options.get(ending, {}))
    assert response.ending is None
    connection = Connection(response)
    if ending is Ending.TIMED_OUT:
        connection.stop_reading()
    with pytest.raises(LookupError) if ending is Ending.FAILED else contextlib.nullcontext():
        async with connection as client:
            if ending is not Ending.TIMED_OUT:
                await client.until(b"data: 1")
            if ending is Ending.DISCONNECTED:
                client.disconnect()
            if ending is Ending.SHUTDOWN:
                LoopState.current().shutdown.begin()
            await client.end()
    assert response.ending is ending
    error = "LookupError " if ending is Ending.FAILED else ""
    assert meter.changes("tidings.stream.endings", "tidings.stream.duration", "tidings.stream.active") == {
        f"tidings.stream.endings {ending}": 1,
        f"tidings.stream.duration {error}{ending}": 1,
    }
    last = next(point for name, point in meter.points() if name == f"tidings.stream.duration {error}{ending}")
    assert set(last.attributes) == {"tidings.stream.ending", *(["error.type"] if error else [])}
    assert {each: count - before[each] for each, count in statistics().endings.items() if count != before[each]} == {
        ending: 1
    }


async def test_what_never_was_a_stream_is_not_counted(meter: Meter) -> None:
    class Full(EventSourceResponse):
        max_sync_streams = 0

    await fetch(Full(iter([1])))
    await fetch(EventSourceResponse([1]), method="HEAD")
    assert meter.changes() == {}


async def test_the_first_event_with_data_counts_from_the_request_on(meter: Meter) -> None:
    at_last = asyncio.Event()

    async def slow() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(comment="not yet")
        await at_last.wait()
        yield ServerSentEvent(data=1)
        yield ServerSentEvent(data=2)

    def first() -> tuple[int, float]:
        found = [point for name, point in meter.points() if name == "tidings.stream.time_to_first_event /slow"]
        return (found[0].count, found[0].sum) if found else (0, 0.0)

    app = Starlette(routes=[Route("/slow", lambda _: EventSourceResponse(slow()))])
    count, total = first()
    async with open_stream(app, "/slow") as stream:
        assert await stream.next_comment() == "not yet"
        assert first() == (count, total)
        await stream.advance(3.0)
        at_last.set()
        await stream.take(2)
    assert first()[0] == count + 1
    assert 3 <= first()[1] - total < 3 + PATIENCE


async def test_a_subscription_counts_as_any_source(meter: Meter) -> None:
    async with Broker() as broker, Connection(EventSourceResponse(broker.subscribe("news"))) as client:
        await client.until(b":\n\n")
        for number in range(3):
            await broker.publish("news", number)
        await client.until(b"data: 2")
        assert meter.changes("tidings.stream.events", "tidings.stream.time_to_first_event") == {
            "tidings.stream.events": 3,
            "tidings.stream.time_to_first_event": 1,
        }


async def test_streams_are_told_apart_by_their_route(meter: Meter) -> None:
    app, users, news = FastAPI(), APIRouter(prefix="/users"), APIRouter(prefix="/{user}")

    @app.get("/plain/{name}", response_class=EventSourceResponse)
    async def plain() -> AsyncIterator[int]:
        yield 1

    @news.get("/news", response_class=EventSourceResponse)
    async def included() -> AsyncIterator[int]:
        yield 1

    users.include_router(news)
    app.include_router(users, prefix="/api")

    def starlette(_: Request) -> EventSourceResponse:
        return EventSourceResponse([1])

    app.mount("/mounted", Starlette(routes=[Route("/{name}", starlette)]))
    for path in ("/plain/a", "/plain/b", "/api/users/1/news", "/mounted/a"):
        async with open_stream(app, path) as stream:
            await stream.take(1)
    assert meter.changes("tidings.stream.events", "tidings.stream.endings") == {
        "tidings.stream.events /plain/{name}": 2,
        "tidings.stream.events /api/users/{user}/news": 1,
        "tidings.stream.events /{name}": 1,  # what it is mounted under may be of any number
        "tidings.stream.endings /plain/{name} exhausted": 2,
        "tidings.stream.endings /api/users/{user}/news exhausted": 1,
        "tidings.stream.endings /{name} exhausted": 1,
    }


async def test_the_figures_may_be_asked_for_from_any_thread() -> None:
    async with Connection(EventSourceResponse(forever())) as client:
        await client.until(b"data: 1")
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(statistics().active))
        thread.start()
        thread.join()
        assert found == [statistics().active]


async def test_instruments_are_named_and_measured_as_opentelemetry_has_it(meter: Meter) -> None:
    async with Broker() as broker:
        await fetch(EventSourceResponse([1]))
        subscription = broker.subscribe("news", last_event_id="bad id")
        await anext(subscription)
        await broker.publish("news", 1)
        await subscription.aclose()
        await broker.start("job", iter([1]))
        instruments = meter.instruments()
    assert len(instruments) >= 13
    for name, metric in instruments.items():
        data = metric.data
        points = list(data.data_points)
        # "Naming": lower case, in namespaces; no unit and no total; what goes up and down is no plural.
        assert name.startswith("tidings.")
        assert name == name.lower()
        assert not name.endswith(("_total", ".total", "_seconds", "_bytes"))
        assert metric.description
        assert metric.unit in {"s", "By"} or metric.unit.startswith("{")
        if hasattr(data, "is_monotonic") and not data.is_monotonic:
            assert name.endswith(".active")
        if hasattr(points[0], "explicit_bounds"):
            assert metric.unit == "s"
            assert len(points[0].explicit_bounds) == 13, "our advice, and not the SDK's own"


SCRIPT = """
import asyncio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
{before}
from tidings import EventSourceResponse
{after}

async def receive():
    await asyncio.Event().wait()

async def send(message):
    pass

asyncio.run(EventSourceResponse([1, 2])({{"type": "http", "method": "GET"}}, receive, send))
{late}
found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
print(sorted((m.name, *[getattr(p, "value", None) for p in m.data.data_points]) for m in found if "stream" in m.name))
"""


@pytest.mark.parametrize("when", ["before", "after", "late"])
def test_an_sdk_may_be_set_up_before_or_behind_the_import_of_tidings(when: str) -> None:
    set_up = dict.fromkeys(["before", "after", "late"], "")
    set_up[when] = "metrics.set_meter_provider(MeterProvider([reader]))"
    command = [sys.executable, "-W", "error", "-c", SCRIPT.format(**set_up)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # What is counted is there also if the SDK came when the stream was over; what is recorded is not.
    assert "('tidings.stream.events', 2)" in done.stdout
    assert "('tidings.stream.endings', 1, 0, 0, 0, 0, 0)" in done.stdout
    assert ("tidings.stream.duration" in done.stdout) == (when != "late")
