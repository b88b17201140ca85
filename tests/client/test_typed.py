"""`.typed(A | B)`: each event becomes the class that has its name."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from tests.client.conftest import Serve
from tests.client.misbehaving import answer, stream
from tests.client.reading import Read
from tidings import Event, EventSourceResponse
from tidings.client import AsyncEventSource, EventSource
from tidings.errors import StatusError, UnknownEvent
from tidings.events import StreamItems


class Loan(BaseModel):
    reader: str
    days: int = Field(default=14, alias="loanDays")


class Opened(Event[Loan]): ...


class Closed(Event[Loan]): ...


class Due(Event[list[str]], name="due-v2"): ...


class Message(Event[int]):
    """Named as events are that have no name."""


Desk = Opened | Closed

OPENED = b'event: opened\nid: 1\nretry: 2\ndata: {"reader": "ada", "loanDays": 7}\n\n'
CLOSED = b'event: closed\ndata: {"reader": "bob"}\n\n'
DUE = b'event: due-v2\ndata: ["Emma",\ndata: "Kim"]\n\n'


def typed(read: Read, url: str, events: Any, **options: Any) -> list[Any]:
    reading = read(url)
    return reading.rest(reading.source.typed(events, **options))


def test_events_of_a_union_come_by_their_names(serve: Serve, read: Read) -> None:
    opened, closed, due = typed(read, serve(stream(OPENED + CLOSED, DUE)).url, Opened | Closed | Due)
    assert isinstance(opened, Opened)
    assert opened.data == Loan(reader="ada", loanDays=7)
    assert isinstance(closed, Closed)
    assert closed.data == Loan(reader="bob")
    assert isinstance(due, Due)
    assert due.data == ["Emma", "Kim"]


@pytest.mark.parametrize(
    ("events", "names"),
    [
        (Opened, ["Opened"]),
        (Desk, ["Opened", "Closed"]),
        (Desk | Due, ["Opened", "Closed", "Due"]),
        (Annotated[Opened | Due, "of the desk"], ["Opened", "Due"]),
        (Annotated[Opened, "one"] | Closed, ["Opened", "Closed"]),
    ],
)
def test_what_may_be_named(serve: Serve, read: Read, events: Any, names: list[str]) -> None:
    server = serve(stream(OPENED + CLOSED + DUE))
    assert [type(event).__name__ for event in typed(read, server.url, events)] == names


def test_an_event_without_a_name_is_called_message(serve: Serve, read: Read) -> None:
    [event] = typed(read, serve(stream(b"data: 7\n\n" + OPENED)).url, Message)
    assert event == Message.create(7)


def test_the_id_is_the_last_event_id_and_retry_is_the_sources(serve: Serve, read: Read) -> None:
    server = serve(stream(CLOSED + OPENED + CLOSED))
    reading = read(server.url)
    events = reading.rest(reading.source.typed(Desk))
    assert [(event.id, event.retry) for event in events] == [(None, None), ("1", None), ("1", None)]
    assert reading.source.retry == 0.002
    assert server.last_event_ids == [None, b"1"]


def test_unknown_names_are_skipped_and_count_as_handed_out(serve: Serve, read: Read) -> None:
    server = serve(stream(b"id: 4\nevent: weather\ndata: {}\n\ndata: no name\n\n", CLOSED))
    reading = read(server.url)
    events = reading.source.typed(Desk)
    assert isinstance(reading.next(events), Closed)
    assert reading.source.last_event_id == "4"


def test_a_strict_reader_is_told_of_unknown_names_and_may_go_on(serve: Serve, read: Read) -> None:
    server = serve(stream(OPENED + b"event: weather\nid: 2\ndata: what?\n\n" + b"data: no name\n\n" + CLOSED))
    reading = read(server.url)
    events = reading.source.typed(Desk, strict=True)
    assert isinstance(reading.next(events), Opened)
    with pytest.raises(UnknownEvent, match=r"'weather'.*'opened', 'closed'") as caught:
        reading.next(events)
    assert isinstance(caught.value, ValueError)
    assert (reading.source.state, reading.source.last_event_id) == ("open", "2")
    with pytest.raises(UnknownEvent, match="'message'"):
        reading.next(events)
    assert isinstance(reading.next(events), Closed)
    assert len(server.requests) == 1


@pytest.mark.parametrize("data", [b'{"reader": 7}', b'{"reader": "ada"', b"", b"[]", b"\xff"])
def test_data_that_does_not_fit_is_an_error_after_which_it_goes_on(serve: Serve, read: Read, data: bytes) -> None:
    server = serve(stream(b"event: opened\nid: 3\ndata: " + data + b"\n\n" + CLOSED))
    reading = read(server.url)
    events = reading.source.typed(Desk)
    with pytest.raises(ValidationError):
        reading.next(events)
    assert (reading.source.state, reading.source.last_event_id) == ("open", "3")
    assert isinstance(reading.next(events), Closed)
    assert len(server.requests) == 1


def test_it_reconnects_as_the_source_does(serve: Serve, read: Read) -> None:
    server = serve(stream(OPENED), answer(503), [], stream(CLOSED), answer(404))
    reading = read(server.url)
    events = reading.source.typed(Desk)
    assert [type(reading.next(events)) for _ in range(2)] == [Opened, Closed]
    with pytest.raises(StatusError):
        reading.next(events)
    assert reading.rest(events) == []
    assert server.last_event_ids == [None, *[b"1"] * 4]


def test_typed_and_plain_reading_share_one_position(serve: Serve, read: Read) -> None:
    reading = read(serve(stream(OPENED + CLOSED + b"data: plain\n\n" + OPENED)).url)
    assert isinstance(reading.next(reading.source.typed(Desk)), Opened)
    assert reading.next().event == "closed"
    assert reading.next().data == "plain"
    assert isinstance(reading.next(reading.source.typed(Opened)), Opened)


def test_what_the_server_encodes_comes_back(serve: Serve, read: Read) -> None:
    sent = [Opened.create(Loan(reader="ada\nb", loanDays=1), id="7"), Due.create(["é", "\u2028"], id="8")]
    encode = StreamItems.of_annotation(AsyncIterable[Opened | Due]).encoder()
    server = serve(stream(*map(encode, sent)))
    assert typed(read, server.url, Opened | Due) == sent


@pytest.mark.parametrize("source", [AsyncEventSource, EventSource])
@pytest.mark.parametrize("events", [int, Loan, "Opened", None, Opened | None, Opened | Loan, EventSourceResponse, Any])
def test_what_is_no_typed_event_is_refused_at_once(source: Any, events: Any) -> None:
    with pytest.raises(TypeError, match="typed events"):
        source("http://127.0.0.1:9/").typed(events)


def test_two_classes_of_one_name_are_refused(read: Read) -> None:
    class Again(Event[int], name="opened"): ...

    with pytest.raises(ValueError, match="same name"):
        read("http://127.0.0.1:9/").source.typed(Opened | Again)
