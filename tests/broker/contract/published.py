"""What is published, and what arrives: the attributes of an event, and its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, examples_of, rest, take
from tests.wire.strategies import server_sent_events
from tidings import Broker, Event, EventSourceResponse, ServerSentEvent
from tidings.events import has_data
from tidings.wire import encode


class Berth(BaseModel):
    berth_number: int = Field(serialization_alias="berthNumber")


class Moored(Event[Berth]):
    pass


class Sounding(Event[list[float]], name="sounding-v2"):
    pass


@dataclass(frozen=True)
class Case:
    """What is published, what arrives of it, and the bytes that go out; `%s` stands for its id."""

    name: str
    published: tuple[Any, ...]
    block: str
    data: Any
    event: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("JSON", ({"headline": "Ebb"},), 'data: {"headline":"Ebb"}\nid: %s\n\n', {"headline": "Ebb"}),
    Case("text", ("Ebb\nand flow",), 'data: "Ebb\\nand flow"\nid: %s\n\n', "Ebb\nand flow"),
    Case("a number", (1e300,), "data: 1e+300\nid: %s\n\n", 1e300),
    Case("false", (False,), "data: false\nid: %s\n\n", False),
    Case("None", (None,), "data: null\nid: %s\n\n", None),
    Case("nothing", (), "data: null\nid: %s\n\n", None),
    Case("nothing, with a name", (), "event: tick\ndata: null\nid: %s\n\n", None, "tick", {"event": "tick"}),
    Case("a model", (Berth(berth_number=4),), 'data: {"berthNumber":4}\nid: %s\n\n', {"berthNumber": 4}),
    Case("infinity", ([float("inf")],), "data: [null]\nid: %s\n\n", [None]),
    Case("a name", ([1],), "event: depth\ndata: [1]\nid: %s\n\n", [1], "depth", {"event": "depth"}),
    Case("a name of odd text", (1,), "event:  : é\ndata: 1\nid: %s\n\n", 1, " : é", {"event": " : é"}),
    Case("raw", (), "data: as it is\nid: %s\n\n", "as it is", None, {"raw_data": "as it is"}),
    Case("raw JSON stays text", (), "data: [1]\nid: %s\n\n", "[1]", None, {"raw_data": "[1]"}),
    Case("empty raw", (), "data: \nid: %s\n\n", "", None, {"raw_data": ""}),
    Case(
        "raw lines",
        (),
        "event: log\ndata: one\ndata:  two\ndata: \ndata: data: three\ndata: id: x-1\ndata: \nid: %s\n\n",
        "one\n two\n\ndata: three\nid: x-1\n",
        "log",
        {"raw_data": "one\r\n two\r\rdata: three\nid: x-1\n", "event": "log"},
    ),
    Case(
        "raw with other breaks",
        (),
        "data: a\u2028b\v\f\x85c\nid: %s\n\n",
        "a\u2028b\v\f\x85c",
        None,
        {"raw_data": "a\u2028b\v\f\x85c"},
    ),
    Case(
        "a typed event",
        (Moored.create(Berth(berth_number=2)),),
        'event: moored\ndata: {"berthNumber":2}\nid: %s\n\n',
        {"berthNumber": 2},
        "moored",
    ),
    Case(
        "a typed event with retry",
        (Sounding.create([1.5], retry=9),),
        "event: sounding-v2\ndata: [1.5]\nid: %s\nretry: 9\n\n",
        [1.5],
        "sounding-v2",
    ),
    Case(
        "every field of an event",
        (ServerSentEvent({"a": 1}, event="all", retry=0, comment="data: no\nid: no"),),
        ': data: no\n: id: no\nevent: all\ndata: {"a":1}\nid: %s\nretry: 0\n\n',
        {"a": 1},
        "all",
    ),
    Case(
        "an event of raw data",
        (ServerSentEvent(raw_data="x\ny", comment="c"),),
        ": c\ndata: x\ndata: y\nid: %s\n\n",
        "x\ny",
    ),
    Case("an event of raw null", (ServerSentEvent(raw_data="null"),), "data: null\nid: %s\n\n", "null"),
]


async def publish(broker: Broker, case: Case) -> str:
    return await broker.publish("news", *case.published, **case.options)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_is_published_arrives_retained_and_live(broker: Broker, case: Case) -> None:
    start = await broker.publish("news", "start")
    published = await publish(broker, case)
    subscription = broker.subscribe("news", last_event_id=start)
    events = await take(subscription, 1)
    again = await publish(broker, case)
    events += await take(subscription, 1)
    assert [event.id for event in events] == [published, again]
    for event in events:
        assert (event.channel, event.event, event.control) == ("news", case.event, False)
        assert event.data == case.data
        assert type(event.data) is type(case.data)


async def test_a_response_sends_the_bytes_that_were_stored(broker: Broker) -> None:
    async def one_by_one() -> AsyncIterator[Any]:
        async for event in broker.subscribe("news", last_event_id="earliest"):
            yield event

    blocks = [(case.block % await publish(broker, case)).encode() for case in CASES]
    await broker.finish("news")
    for content in (broker.subscribe("news", last_event_id="earliest"), one_by_one()):
        async with Connection(EventSourceResponse(content)) as client:
            await client.end()
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.body.removeprefix(b":\n\n") == b"".join(blocks)


async def test_a_response_sends_what_is_new_as_the_same_bytes(broker: Broker) -> None:
    response = EventSourceResponse(broker.subscribe("news"))
    async with Connection(response) as client:
        await client.until(lambda: client.messages)
        blocks = [(case.block % await publish(broker, case)).encode() for case in CASES]
        await client.until(b"".join(blocks))
        assert client.body.removeprefix(b":\n\n") == b"".join(blocks)


@pytest.mark.parametrize("name", ["reset", "stopped", "failed", "aborted"])
async def test_an_event_with_a_name_of_the_brokers_own_is_no_control_event(broker: Broker, name: str) -> None:
    seen: list[str | None] = []
    start = await broker.publish("news", "start")
    await broker.publish("news", {"reason": "mine"}, event=name)
    subscription = broker.subscribe("news", last_event_id=start, where=lambda event: not seen.append(event.event))
    (event,) = await take(subscription, 1)
    assert (event.event, event.control, event.data) == (name, False, {"reason": "mine"})
    assert seen == [name]


async def test_two_subscribers_do_not_share_the_data_of_an_event(broker: Broker) -> None:
    await broker.publish("news", {"list": []})
    (mine,) = await take(broker.subscribe("news", last_event_id="earliest"), 1)
    (yours,) = await take(broker.subscribe("news", last_event_id="earliest"), 1)
    mine.data["list"].append("changed")
    assert yours.data == {"list": []}


async def test_what_was_published_may_change_afterwards(broker: Broker) -> None:
    change = {"value": 1}
    await broker.publish("news", change)
    change["value"] = 2
    assert data(await take(broker.subscribe("news", last_event_id="earliest"), 1)) == [{"value": 1}]


@examples_of(15)
@given(
    published=st.lists(server_sent_events().filter(has_data).map(lambda event: replace(event, id=None)), max_size=20)
)
def test_any_event_goes_out_as_it_would_without_a_broker(
    new_log: Callable[[], Log], published: list[ServerSentEvent]
) -> None:
    async def deliver() -> None:
        async with Broker(**new_log()) as broker:
            expected = [(await broker.publish("news", event), event) for event in published]
            await broker.finish("news")
            events = await rest(broker.subscribe("news", last_event_id="earliest"))
            assert [event.id for event in events] == [id for id, _ in expected]
            for event, (id, original) in zip(events, expected, strict=True):
                assert event.frame == encode(replace(original, id=id))
                assert event.event == original.event
                if original.raw_data is None:
                    assert event.data == original.data
                else:
                    assert event.data == original.raw_data.replace("\r\n", "\n").replace("\r", "\n")

    asyncio.run(deliver())
