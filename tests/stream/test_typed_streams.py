"""Typed events on the wire, alone, numbered and merged."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import pytest
from aiostream import stream
from pydantic import BaseModel

from tests.asgi import Connection, app_of, fetch
from tidings import Event, EventSourceResponse, ServerSentEvent, with_ids
from tidings.errors import ItemError

pytestmark = pytest.mark.anyio


class Call(BaseModel):
    text: str


class Hail(Event[Call]):
    pass


class HailBack(Event[Call]):
    pass


class Tide(Event[int], name="tide-table"):
    pass


async def hails(text: str, count: int) -> AsyncIterable[Hail]:
    for _ in range(count):
        yield Hail.create(Call(text=text))
        await asyncio.sleep(0)


async def hails_back(text: str, count: int) -> AsyncIterable[HailBack]:
    for _ in range(count):
        yield HailBack.create(Call(text=text[::-1]))
        await asyncio.sleep(0)


async def test_typed_events_go_out_under_the_name_of_their_class() -> None:
    async def endpoint() -> AsyncIterable[Hail]:
        yield Hail.create(Call(text="ahoy"))
        yield Hail.create(Call(text="ahoy"), id=3, retry=100)

    assert (await fetch(app_of(endpoint))).body == (
        b'event: hail\ndata: {"text":"ahoy"}\n\nevent: hail\ndata: {"text":"ahoy"}\nid: 3\nretry: 100\n\n'
    )


async def test_a_union_of_typed_events_takes_its_members_and_no_other() -> None:
    async def endpoint() -> AsyncIterable[Hail | Tide]:
        yield Tide.create(4)
        yield Hail.create(Call(text="ahoy"))
        yield ServerSentEvent(comment="passes")
        yield HailBack.create(Call(text="yoha"))

    async with Connection(app_of(endpoint)) as client:
        with pytest.raises(ItemError, match="HailBack"):
            await client.end()
    assert client.body == b'event: tide-table\ndata: 4\n\nevent: hail\ndata: {"text":"ahoy"}\n\n: passes\n\n'


async def test_with_ids_numbers_the_events_of_a_stream() -> None:
    async def endpoint() -> AsyncIterable[Hail]:
        async for event in with_ids(hails("ahoy", 3)):
            yield event

    events = (await fetch(app_of(endpoint))).events
    assert [(event.event, event.id) for event in events] == [("hail", "0"), ("hail", "1"), ("hail", "2")]


async def test_with_ids_as_the_content_of_a_response() -> None:
    response = EventSourceResponse(with_ids(["ebb", ServerSentEvent(comment="slack"), "flood"], start=5))
    assert (await fetch(response)).body == b'data: "ebb"\nid: 5\n\n: slack\n\ndata: "flood"\nid: 6\n\n'


async def test_two_streams_with_their_own_ids_merged_by_aiostream() -> None:
    async def endpoint(text: str) -> EventSourceResponse:
        return EventSourceResponse(stream.merge(with_ids(hails(text, 3)), with_ids(hails_back(text, 3))))

    client = await fetch(app_of(endpoint, response_model=None), "/?text=ahoy")
    by_name: dict[str, list[Any]] = {"hail": [], "hail_back": []}
    for event in client.events:
        by_name[event.event].append((event.id, event.json()["text"]))
    assert by_name["hail"] == [("0", "ahoy"), ("1", "ahoy"), ("2", "ahoy")]
    assert by_name["hail_back"] == [("0", "yoha"), ("1", "yoha"), ("2", "yoha")]


async def test_two_merged_streams_yielded_by_an_endpoint_and_left_by_the_client() -> None:
    closed: list[str] = []

    async def endless(name: str) -> AsyncIterator[Hail]:
        try:
            while True:
                yield Hail.create(Call(text=name))
                await asyncio.sleep(0.001)  # merge() prefers the first of two that are always ready
        finally:
            closed.append(name)

    async def endpoint() -> AsyncIterable[Hail]:
        merged = stream.merge(with_ids(endless("port")), with_ids(endless("starboard")))
        async with merged.stream() as events:
            async for event in events:
                yield event

    async with Connection(app_of(endpoint)) as client:
        await client.until(lambda: b"port" in client.body and b"starboard" in client.body)
    assert sorted(closed) == ["port", "starboard"]
