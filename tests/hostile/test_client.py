"""What a hostile server can do to the client. What is merely broken is in `tests/client`: answers that are none, lines
without end, redirects in a circle, times that nobody would wait."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from tests.client import conftest
from tests.client.conftest import OWN_CLIENTS, Serve
from tests.client.misbehaving import HOLD, RESET, chunk, chunked, stream
from tests.client.reading import Read
from tidings.errors import EventTooLarge

read = conftest.read
serve = conftest.serve

MIB = 1 << 20


@OWN_CLIENTS
@pytest.mark.parametrize(
    "body",
    [
        pytest.param([b"data: " + b"x" * MIB, *[b"x" * MIB] * 20], id="one line without end"),
        pytest.param([b"data: x\n" * 100_000] * 20, id="lines without end"),
        pytest.param([b"id: " + b"7" * MIB, *[b"7" * MIB] * 20], id="an id without end"),
        pytest.param([b"\0" * MIB] * 20, id="no field at all"),
    ],
)
def test_an_endless_event_is_an_error_at_the_bound(serve: Serve, read: Read, body: list[bytes]) -> None:
    server = serve([chunked(), *map(chunk, body), HOLD])
    reading = read(server.url)
    with pytest.raises(EventTooLarge, match="max_event_size=1048576"):
        reading.next()
    assert reading.source.state == "closed"
    server.wait_until_left()


@OWN_CLIENTS
def test_a_compressed_bomb_is_unpacked_up_to_the_bound(serve: Serve, read: Read) -> None:
    """None was asked for: `accept-encoding` is `identity`."""
    bomb = gzip.compress(b"data: " + b"x" * (100 * MIB))
    assert len(bomb) < MIB
    server = serve([chunked(content_encoding="gzip"), chunk(bomb), HOLD])
    reading = read(server.url)
    tracemalloc.start()
    try:
        with pytest.raises(EventTooLarge):
            reading.next()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * MIB
    server.wait_until_left()


@OWN_CLIENTS
def test_garbage_in_a_stream_is_no_event(serve: Serve, read: Read) -> None:
    garbage = bytes(range(256)) * 100 + b"\n\n"
    server = serve(stream(garbage, b"\xff\xfe: \n: \xff\nda\xffta: x\n\n", b"data: \xff\n\n"))
    assert read(server.url).data() == ["\ufffd"]


@OWN_CLIENTS
@pytest.mark.parametrize("size", [b"ffffffffffffffffffff", b"-1", b"x", b"1" * 10_000])
def test_a_chunk_of_an_impossible_size_is_a_lost_connection(serve: Serve, read: Read, size: bytes) -> None:
    server = serve([chunked(), chunk(b"id: 1\ndata: one\n\n"), size + b"\r\ndata: two\n\n", RESET])
    reading = read(server.url)
    assert reading.data()[0] == "one"
    assert server.last_event_ids[:2] == [None, b"1"]


@OWN_CLIENTS
@pytest.mark.parametrize("id", [b"\x7f", "é🐟".encode(), b"\x01\x1b[2J", b"a: b", b"x" * 4_000])
def test_any_id_is_sent_back_as_it_came(serve: Serve, read: Read, id: bytes) -> None:
    """What would end a header ends the id before: line breaks can't be in one."""
    server = serve(stream(b"id: " + id + b"\ndata: one\n\n"))
    assert read(server.url).data() == ["one"]
    assert server.last_event_ids == [None, id]
