from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tidings.errors import ItemError, TidingsError
from tidings.wire import EventDecoder, ServerSentEvent, encode
from tidings.wire.encoder import COMMENT, PING, encode_json, retry_block

from .cases import ENCODED, Encoded
from .strategies import any_texts, chunkings, properties, server_sent_events


@pytest.mark.parametrize("row", ENCODED, ids=str)
def test_an_event_becomes_these_bytes(row: Encoded):
    assert encode(row.event) == row.block


@properties
@given(st.lists(server_sent_events(), max_size=5), st.data())
def test_what_was_encoded_is_decoded_however_it_is_cut(sent: list[ServerSentEvent], data: st.DataObject):
    stream = b"".join(encode(event) for event in sent)
    decoder = EventDecoder()

    received = [event for chunk in data.draw(chunkings(stream)) for event in decoder.feed(chunk)]

    with_data = list(filter(has_data, sent))
    assert [event.event for event in received] == [event.event or "message" for event in with_data]
    for before, after in zip(with_data, received, strict=True):
        if before.raw_data is None:
            assert same_json(after.json(), before.data)
        else:
            assert after.data == before.raw_data.replace("\r\n", "\n").replace("\r", "\n")

    last_ids = [""]
    for event in sent:
        last_ids.append(last_ids[-1] if event.id is None else event.id)
    ids = [id for event, id in zip(sent, last_ids[1:], strict=True) if has_data(event)]
    assert [event.id for event in received] == ids
    assert decoder.last_event_id == last_ids[-1]
    retries = [event.retry for event in sent if event.retry is not None]
    assert decoder.retry == (retries[-1] if retries else None)


def has_data(event: ServerSentEvent) -> bool:
    return event.data is not None or event.raw_data is not None


def same_json(left: Any, right: Any) -> bool:
    """Equal, and of the same types: `1 == True == 1.0` is not what is meant."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    return type(left) is type(right) and left == right


@properties
@given(server_sent_events())
def test_a_block_ends_with_the_only_blank_line_of_it(event: ServerSentEvent):
    block = encode(event)

    assert block.endswith(b"\n")
    assert b"\r" not in block
    assert b"\n\n" not in block[:-1]
    assert block == b"\n" or block.endswith(b"\n\n")


# -- JSON -------------------------------------------------------------------------------------------------------------


class Rank(Enum):
    MATE = "mate"


@dataclass
class Berth:
    number: int
    depth: float


class Ship(BaseModel):
    ship_name: str = Field(alias="shipName")
    secret: str = Field(default="x", exclude=True)


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (Berth(4, math.nan), b'{"number":4,"depth":null}'),
        (Ship(shipName="Ada"), b'{"shipName":"Ada"}'),
        ({"ships": (Ship(shipName="Ada"),)}, b'{"ships":[{"shipName":"Ada"}]}'),
        (Rank.MATE, b'"mate"'),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), b'"2024-02-29T12:00:00Z"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), b'"1.10"'),
        ({1: "a", None: "b"}, b'{"1":"a","None":"b"}'),
        (1e300, b"1e+300"),
        (10**30, b"1000000000000000000000000000000"),
        ("\x7f\x1f", b'"\x7f\\u001f"'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_is_what_pydantic_makes_json_of(value: Any, json: bytes):
    assert encode(ServerSentEvent(data=value)) == b"data: " + json + b"\n\n"
    assert encode_json(value) == json


def circle() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


def abyss() -> list[Any]:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object, id="an object"),
        pytest.param(lambda: {"deep": [object()]}, id="an object within"),
        pytest.param(lambda: b"\xff", id="bytes that are no UTF-8"),
        pytest.param(lambda: "\ud800", id="a lone surrogate"),
        pytest.param(lambda: {"\udfff": 1}, id="a lone surrogate in a key"),
        pytest.param(circle, id="a value within itself"),
        pytest.param(abyss, id="a value nested too deep"),
        pytest.param(lambda: lambda: None, id="a function"),
    ],
)
def test_data_that_json_can_not_carry_is_an_error_that_names_the_field(value: Callable[[], Any]):
    with pytest.raises(ItemError, match="SSE 'data' can't be encoded as JSON") as caught:
        encode(ServerSentEvent(data=value()))

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TidingsError)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("field", ["raw_data", "event", "id", "comment"])
def test_text_that_utf8_can_not_carry_is_an_error_that_names_the_field(field: str):
    event = ServerSentEvent(**{field: "lone \ud800"})

    with pytest.raises(ItemError, match=f"SSE '{field}' can't be encoded as UTF-8"):
        encode(event)


@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_text_that_utf8_can_not_carry_is_found_beside_data(field: str):
    with pytest.raises(ItemError, match=f"SSE '{field}' can't be encoded as UTF-8"):
        encode(ServerSentEvent(data={"a": 1}, **{field: "lone \ud800"}))


# -- blocks of our own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [COMMENT, PING])
def test_a_keep_alive_is_ignored_by_clients(block: bytes):
    decoder = EventDecoder()

    assert decoder.feed(b"id: 1\n\n" + block + b"data: a\n\n") == [("message", "a", "1")]


def test_the_shortest_block_is_an_empty_comment():
    assert COMMENT == b":\n\n"


def test_the_heartbeat_is_a_comment():
    assert PING == b": ping\n\n"


def test_a_retry_block_sets_the_time_alone():
    assert retry_block(2500) == b"retry: 2500\n\n"


# -- what users put in ------------------------------------------------------------------------------------------------


@properties
@given(any_texts(), any_texts(), any_texts(), any_texts())
def test_no_text_gets_out_of_its_field(raw_data: str, event: str, id: str, comment: str):
    refused = any(map(is_broken, (event, id))) or "\0" in id or any(map(has_surrogates, (raw_data, event, id, comment)))
    try:
        block = encode(ServerSentEvent(raw_data=raw_data, event=event, id=id, comment=comment))
    except ValueError:
        assert refused
        return
    assert not refused
    # Another event behind it tells whether something was left open.
    received = EventDecoder().feed(block + b"data: next\n\n")
    shown = raw_data.replace("\r\n", "\n").replace("\r", "\n")
    assert received == [(event or "message", shown, id), ("message", "next", id)]
    fields = {line.partition(b":")[0] for line in block[:-2].split(b"\n")}
    assert fields == {b"", b"event", b"data", b"id"}


@properties
@given(any_texts())
def test_no_text_gets_out_of_json(text: str):
    try:
        block = encode(ServerSentEvent(data={text: [text]}))
    except ValueError:
        assert has_surrogates(text)
        return
    [event] = EventDecoder().feed(block)
    assert block.count(b"\n") == 2
    assert event.json() == {text: [text]}


def is_broken(text: str) -> bool:
    return "\n" in text or "\r" in text


def has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
