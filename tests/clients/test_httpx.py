"""httpx2's own reader of streams, and httpx-sse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import httpx_sse
import pytest

from tests.clients.conftest import asked, finish, publish, url
from tests.clients.pings import PINGS
from tests.clients.voyage import LAST, LEGS, SEEN, Seen
from tests.servers.servers import Server

Hear = Callable[[Any], None]
Read = Callable[..., None]
"""Reads a stream to its end, and hands over each event when it has it."""


def read_httpx2(hear: Hear, url: str, **request: Any) -> None:
    with httpx2.Client() as client, client.sse(url, **request) as source:
        for event in source:
            hear(event)


def read_httpx2_async(hear: Hear, url: str, **request: Any) -> None:
    async def read() -> None:
        async with httpx2.AsyncClient() as client, client.sse(url, **request) as source:
            async for event in source:
                hear(event)

    asyncio.run(read())


def read_httpx_sse(hear: Hear, url: str, method: str = "GET", **request: Any) -> None:
    with httpx.Client() as client, httpx_sse.connect_sse(client, method, url, **request) as source:
        for event in source.iter_sse():
            hear(event)


def read_httpx_sse_async(hear: Hear, url: str, method: str = "GET", **request: Any) -> None:
    async def read() -> None:
        async with httpx.AsyncClient() as client, httpx_sse.aconnect_sse(client, method, url, **request) as source:
            async for event in source.aiter_sse():
                hear(event)

    asyncio.run(read())


HTTPX2 = [read_httpx2, read_httpx2_async]
HTTPX_SSE = [read_httpx_sse, read_httpx_sse_async]


def is_none(event: Any) -> bool:
    """Whether it is what these clients make of a block that is no event; docs/other-clients.md says which blocks."""
    return bool(event.event == "message" and event.data == "")


def seen(events: list[Any]) -> list[Seen]:
    return [Seen(event.event, event.data, event.id) for event in events if not is_none(event)]


@pytest.mark.parametrize("read", HTTPX2)
def test_httpx2_reads_as_the_standard_says_and_makes_events_of_blocks_without_data(
    read: Read, server: Server, name: str
) -> None:
    events: list[Any] = []
    read(events.append, url(server, "/voyage"), params={"ship": name})
    assert seen(events) == SEEN
    assert asked(server, name) == ["None"]
    empty = [(event.id, event.retry) for event in events if is_none(event)]
    assert empty in ([("", 50), ("6", None)], [])  # as docs/other-clients.md says, or as the standard does


@pytest.mark.parametrize("read", HTTPX_SSE)
def test_httpx_sse_reads_as_the_standard_says_and_makes_events_of_comments_too(
    read: Read, server: Server, name: str
) -> None:
    events: list[Any] = []
    read(events.append, url(server, "/voyage"), params={"ship": name})
    assert seen(events) == SEEN
    assert asked(server, name) == ["None"]
    empty = [(event.id, event.retry) for event in events if is_none(event)]
    if empty:  # as docs/other-clients.md says; none, as the standard does
        assert empty[0] == ("", 50)
        of_pings = [empty.count((id, None)) for id in ("1", "3")]
        assert all(count >= PINGS for count in of_pings)
        assert empty.count(("2", None)) == 1  # the ship's own comment
        of_id_alone = empty.count(("6", None))
        assert of_id_alone >= 1 + PINGS
        assert len(empty) == 2 + sum(of_pings) + of_id_alone


@pytest.mark.parametrize(("read", "torn"), [*((read, httpx2.RemoteProtocolError) for read in HTTPX2),
    *((read, httpx.RemoteProtocolError) for read in HTTPX_SSE)])  # fmt: skip
def test_each_leg_goes_on_behind_the_last_id_and_a_torn_one_is_an_error(
    read: Read, torn: type[Exception], server: Server, name: str
) -> None:
    events: list[Any] = []
    errors = []
    for _ in LEGS:
        # As bytes: an id may hold what these clients don't take as the text of a header.
        headers = {"Last-Event-ID": events[-1].id.encode()} if events else {}
        try:
            read(events.append, url(server, "/voyage"), params={"ship": name, "legs": True}, headers=headers)
        except torn as error:
            errors.append((events[-1].id, str(error)))
    assert seen(events) == SEEN
    assert asked(server, name) == LEGS
    assert errors == [("4 ü", "peer closed connection without sending complete message body (incomplete chunked read)")]


@pytest.mark.parametrize("read", [*HTTPX2, *HTTPX_SSE])
def test_a_request_with_a_body_and_a_header_is_answered_with_a_stream(read: Read, server: Server) -> None:
    events: list[Any] = []
    request = {"json": {"lines": ["ahoy", "fünf\nsechs"]}, "headers": {"X-Stamp": "paid"}}
    read(events.append, url(server, "/letters"), method="POST", **request)
    assert seen(events) == [Seen("line", '"ahoy"', ""), Seen("line", '"fünf\\nsechs"', ""), Seen("stamp", "paid", "")]


@pytest.mark.parametrize(
    ("read", "refused"),
    [*((read, httpx2.SSEError) for read in HTTPX2), *((read, httpx_sse.SSEError) for read in HTTPX_SSE)],
)
def test_no_content_is_an_error_to_them(read: Read, refused: type[Exception], server: Server, name: str) -> None:
    events: list[Any] = []
    with pytest.raises(refused):
        read(events.append, url(server, "/voyage"), params={"ship": name}, headers={"Last-Event-ID": LAST})
    assert events == []


@pytest.mark.parametrize("read", [*HTTPX2, *HTTPX_SSE])
def test_a_channel_is_read_to_its_end(read: Read, server: Server, name: str) -> None:
    ids = [publish(server, name, text) for text in ("apples", "äpfel\u2028")]
    finish(server, name)
    events: list[Any] = []
    read(events.append, url(server, f"/channels/{name}"), params={"last_event_id": "earliest"})
    assert seen(events) == [Seen("cargo", '"apples"', ids[0]), Seen("cargo", '"äpfel\u2028"', ids[1])]
