"""Channels, published events and tickets of any text: they are refused, or they work and stay what they are."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.strategies import any_texts
from tidings import Broker
from tidings.broker.draft import check_channel, draft_of
from tidings.broker.entry import split_frame
from tidings.errors import TicketRefused
from tidings.tickets import Tickets
from tidings.wire import EventDecoder

properties = settings(max_examples=100, deadline=None, derandomize=True)

SECRET = "the keeper of the lighthouse"


def is_channel(name: str) -> bool:
    """As the documentation has it: 1 to 255 bytes of UTF-8 without control characters."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 1 <= size <= 255 and not any(ord(letter) < 32 or 127 <= ord(letter) <= 159 for letter in name)


@properties
@given(
    any_texts()
    | st.text(min_size=80, max_size=300)
    | st.text(alphabet="*?[]\x1f\x7f\x80\x9f\xa0%_'\"\\:{} -$/.#é🐟", max_size=20)
)
def test_a_name_is_a_channel_of_its_own_or_refused(name: str) -> None:
    if not is_channel(name):
        with pytest.raises(ValueError, match="'channel'") as refused:
            check_channel(name)
        assert len(str(refused.value)) < 500
        return
    assert check_channel(name) == name
    assert asyncio.run(read_back(name)) == [name]


async def read_back(name: str) -> list[str]:
    """What a channel holds, beside two others whose names are nearly its own."""
    async with Broker() as broker:
        for each in {name[:-1] or "x", name, "*"}:
            await broker.publish(each, each)
        await broker.finish(name)
        return [event.data async for event in broker.subscribe(name, last_event_id="earliest")]


@properties
@given(any_texts(), any_texts())
def test_a_published_event_is_one_event_whatever_it_holds(raw_data: str, event: str) -> None:
    try:
        frame = draft_of(None, event=event, raw_data=raw_data).frame("k3", 7)
    except ValueError:
        return  # tests/wire says when
    shown = raw_data.replace("\r\n", "\n").replace("\r", "\n")
    assert EventDecoder().feed(frame) == [(event or "message", shown, "k3-7")]
    assert split_frame(frame) == (event, shown)


@properties
@given(
    any_texts()
    | st.text(alphabet="abcXYZ019-_.", max_size=300)
    | st.binary(max_size=50).map(lambda b: b.decode("latin-1"))
)
def test_no_text_is_a_ticket(ticket: str) -> None:
    async def redeem() -> str:
        try:
            await Tickets(SECRET, Broker()).redeem(ticket)
        except TicketRefused as refused:
            return refused.reason
        return "redeemed"

    assert asyncio.run(redeem()) == ("forged" if ticket else "missing")
