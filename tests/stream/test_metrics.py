"""Metrics through the OpenTelemetry API, read with its SDK."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.asgi import Connection, fetch
from tidings import EventSourceResponse, ServerSentEvent
from tidings.stream import Ending
from tidings.stream.loop import LoopState

pytestmark = pytest.mark.anyio

Values = dict[str, int]


@pytest.fixture(scope="session")
def reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return reader


class Meter:
    """The change of each value since the test began."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader
        self._before = self._read()

    def _read(self) -> Values:
        values: Values = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics if scope.scope.name == "tidings" else ():
                    for point in metric.data.data_points:
                        ending = dict(point.attributes or {}).get("tidings.ending")
                        values[f"{metric.name} {ending}" if ending else metric.name] = point.value
        return values

    def changes(self) -> Values:
        now = self._read()
        return {name: change for name, value in now.items() if (change := value - self._before.get(name, 0))}


@pytest.fixture
def meter(reader: InMemoryMetricReader) -> Meter:
    return Meter(reader)


async def forever() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


async def failing() -> AsyncIterator[int]:
    yield 1
    raise LookupError


async def test_events_and_bytes_are_counted(meter: Meter) -> None:
    source = [1, ServerSentEvent(comment="no event"), ServerSentEvent(id="3"), None, ServerSentEvent(raw_data="4")]
    client = await fetch(EventSourceResponse(source, retry=50))
    assert meter.changes() == {
        "tidings.streams.ended exhausted": 1,
        "tidings.events.sent": 3,
        "tidings.bytes.sent": len(client.body),
    }


async def test_streams_are_open_until_they_are_closed(meter: Meter) -> None:
    async with Connection(EventSourceResponse(forever())) as one:
        await one.until(b"data: 1")
        async with Connection(EventSourceResponse(forever())) as another:
            await another.until(b"data: 1")
            assert meter.changes()["tidings.streams.open"] == 2
        assert meter.changes()["tidings.streams.open"] == 1
    assert "tidings.streams.open" not in meter.changes()


async def test_what_is_sent_counts_while_the_stream_goes_on(meter: Meter) -> None:
    async with Connection(EventSourceResponse(forever())) as client:
        await client.until(b"data: 1")
        await asyncio.sleep(0)
        assert meter.changes()["tidings.events.sent"] == 1
        assert meter.changes()["tidings.bytes.sent"] == len(b"data: 1\n\n")


@pytest.mark.parametrize("ending", list(Ending))
async def test_every_ending_is_counted_and_told_by_the_response(ending: Ending, meter: Meter) -> None:
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
    changes = meter.changes()
    assert {name: change for name, change in changes.items() if "ended" in name} == {
        f"tidings.streams.ended {ending}": 1
    }
    assert "tidings.streams.open" not in changes


async def test_what_never_was_a_stream_is_not_counted(meter: Meter) -> None:
    class Full(EventSourceResponse):
        max_sync_streams = 0

    await fetch(Full(iter([1])))
    await fetch(EventSourceResponse([1]), method="HEAD")
    assert meter.changes() == {}
