"""The receiving end: raw sockets, so that no client library stands between the server and the clock."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

TIMEOUT = 120.0
LAZY_PAUSE = 0.0005
RECEIVE_BUFFER = 4 << 20
CONNECTING_AT_ONCE = 100
LAST_CHUNK = b"\r\n0\r\n\r\n"


class ReceiveError(Exception):
    """What arrived isn't what was asked for."""


class BodyReader:
    """HTTP response in, decoded body out, over any cutting of the bytes."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._headers_done = False
        self._chunk_left = 0
        self._in_chunk = False
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        self._pending += data
        if not self._headers_done and not self._take_headers():
            return b""
        body = bytearray()
        start = 0
        pending = self._pending
        while not self.finished:
            if self._in_chunk:
                # The two bytes after the chunk are its line end.
                if len(pending) - start < self._chunk_left + 2:
                    break
                body += pending[start : start + self._chunk_left]
                start += self._chunk_left + 2
                self._in_chunk = False
            else:
                end = pending.find(b"\r\n", start)
                if end < 0:
                    break
                self._chunk_left = int(pending[start:end], 16)
                start = end + 2
                self._in_chunk = True
                self.finished = self._chunk_left == 0
        # Once a call and not once a chunk: each deletion moves all that follows.
        del pending[:start]
        return bytes(body)

    @property
    def headers_done(self) -> bool:
        return self._headers_done

    def _take_headers(self) -> bool:
        head, separator, rest = bytes(self._pending).partition(b"\r\n\r\n")
        if not separator:
            return False
        status, _, fields = head.lower().partition(b"\r\n")
        if status.split(b" ")[1] != b"200":
            raise ReceiveError(f"status line {head.splitlines()[0]!r}")
        if b"transfer-encoding: chunked" not in fields:
            raise ReceiveError("the response isn't chunked")
        self._pending = bytearray(rest)
        self._headers_done = True
        return True


class EventReader:
    """Event-stream text in, the JSON of each event out. Written for the peers at hand: `data` in one line,
    line ends LF or CRLF. Comments, `retry` and other blocks without data are none of its events."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, body: bytes) -> list[Any]:
        # A CR that waits for its LF stays in front of it, and both are replaced when the LF is there.
        *blocks, self._pending = (self._pending + body).replace(b"\r\n", b"\n").split(b"\n\n")
        return [json.loads(line[5:]) for block in blocks for line in block.split(b"\n") if line.startswith(b"data:")]

    @property
    def unfinished(self) -> bytes:
        return self._pending


def connect(port: int, path: str) -> socket.socket:
    client = socket.socket()
    # Before `connect`, which settles the window. Large, so that a receiver that loses its processor for a
    # moment doesn't push back on the server.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client.settimeout(TIMEOUT)
    client.connect(("127.0.0.1", port))
    client.sendall(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n" % path.encode())
    return client


def check_complete(events: list[Any], unfinished: bytes, expected: int) -> None:
    """Every event, once, in order, and nothing half sent."""
    if len(events) != expected:
        raise ReceiveError(f"{len(events)} events of {expected} arrived")
    for position, event in enumerate(events):
        if event["sequence"] != position:
            raise ReceiveError(f"event {event['sequence']} arrived at position {position}")
    if unfinished:
        raise ReceiveError(f"the stream ends within an event: {unfinished[:80]!r}")


def receive_burst(port: int, path: str, expected: int) -> float:
    """Seconds from the request to the last byte of a stream of `expected` events.

    The clock runs over reading only; what was read is decoded and checked afterwards. The receiver polls and
    pauses instead of blocking: blocked, it would be woken by every write of the server, at the server's
    expense, which no client on another machine costs it.
    """
    received: list[bytes] = []
    tail = b""
    with connect(port, path) as client:
        client.setblocking(False)
        started = time.perf_counter()
        deadline = started + TIMEOUT
        finished = started
        while True:
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                if time.perf_counter() > deadline:
                    raise ReceiveError(f"no end of the stream after {TIMEOUT:.0f} s") from None
                time.sleep(LAZY_PAUSE)
                continue
            finished = time.perf_counter()
            received.append(data)
            # The bytes that end a chunked body. Should they ever stand elsewhere at the end of a read, the
            # check below says so.
            tail = (tail + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
            if not data or tail == LAST_CHUNK:
                break
    body_reader, event_reader = BodyReader(), EventReader()
    events = event_reader.feed(body_reader.feed(b"".join(received)))
    if not body_reader.finished:
        raise ReceiveError("the response has no end")
    check_complete(events, event_reader.unfinished, expected)
    return finished - started


def receive_ticks(port: int, path: str, expected: int) -> list[int]:
    """Nanoseconds from the yield of each event to its receipt. Here the receiver blocks, as an idle client
    does, and its wake-up is part of what is measured."""
    latencies: list[int] = []
    events: list[Any] = []
    body_reader, event_reader = BodyReader(), EventReader()
    with connect(port, path) as client:
        while not body_reader.finished:
            data = client.recv(1 << 16)
            now = time.monotonic_ns()
            if not data:
                raise ReceiveError("the connection ended before the response did")
            for event in event_reader.feed(body_reader.feed(data)):
                events.append(event)
                latencies.append(now - event["at"])
    check_complete(events, event_reader.unfinished, expected)
    return latencies


@contextmanager
def open_streams(port: int, path: str, count: int) -> Iterator[None]:
    """`count` streams, each of which has sent its headers."""
    with ExitStack() as stack:
        for first in range(0, count, CONNECTING_AT_ONCE):
            batch = [connect(port, path) for _ in range(min(CONNECTING_AT_ONCE, count - first))]
            for client in batch:
                stack.enter_context(client)
            for client in batch:
                reader = BodyReader()
                while not reader.headers_done:
                    data = client.recv(1 << 12)
                    if not data:
                        raise ReceiveError("the connection ended before the headers")
                    reader.feed(data)
        yield


def get_json(port: int, path: str) -> Any:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        client.sendall(b"GET %b HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % path.encode())
        answer = b""
        while data := client.recv(1 << 12):
            answer += data
    return json.loads(answer.partition(b"\r\n\r\n")[2])
