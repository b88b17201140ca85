"""The receiving end: raw sockets, so that no client library stands between the server and the clock."""

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from benchmarks.wire import BodyReader, EventReader, ReceiveError, check_complete

TIMEOUT = 120.0
LAZY_PAUSE = 0.0005
RECEIVE_BUFFER = 4 << 20
CONNECTING_AT_ONCE = 100
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Stream:
    """One connection on which a stream runs."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.body = BodyReader()
        self.events = EventReader()

    def feed(self, data: bytes) -> list[Any]:
        return self.events.feed(self.body.feed(data))

    def wait_for_headers(self) -> None:
        while not self.body.headers_done:
            data = self.client.recv(1 << 12)
            if not data:
                raise ReceiveError("the connection ended before the headers")
            if self.feed(data):
                raise ReceiveError("an event came before any was due")

    def wait_for_end(self) -> None:
        while not self.body.finished:
            data = self.client.recv(1 << 12)
            if not data:
                raise ReceiveError("the connection ended before the response did")
            if self.feed(data):
                raise ReceiveError("more events came than were asked for")


def connect(port: int, path: str, last_event_id: str = "") -> socket.socket:
    client = socket.socket()
    # Before `connect`, which settles the window. Large, so that a receiver that loses its processor for a
    # moment doesn't push back on the server.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client.settimeout(TIMEOUT)
    client.connect(("127.0.0.1", port))
    resume = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n"
    client.sendall(request.encode())
    return client


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


def receive_ticks(stream: Stream, expected: int) -> list[int]:
    """Nanoseconds from when each event was made to its receipt. Here the receiver blocks, as an idle client
    does, and its wake-up is part of what is measured."""
    events: list[Any] = []
    times: list[int] = []
    while len(events) < expected:
        data = stream.client.recv(1 << 16)
        now = time.monotonic_ns()
        if not data:
            raise ReceiveError("the connection ended before the last event")
        for event in stream.feed(data):
            events.append(event)
            times.append(now)
    check_complete(events, stream.events.unfinished, expected)
    return [at - event["at"] for at, event in zip(times, events, strict=True)]


def open_streams(port: int, path: str, count: int) -> AbstractContextManager[list[Stream]]:
    """`count` streams, each of which has sent its headers."""
    return open_each(port, [path] * count)


@contextmanager
def open_each(port: int, paths: Sequence[str]) -> Iterator[list[Stream]]:
    """A stream of each path."""
    streams: list[Stream] = []
    with ExitStack() as stack:
        for first in range(0, len(paths), CONNECTING_AT_ONCE):
            some = paths[first : first + CONNECTING_AT_ONCE]
            batch = [Stream(stack.enter_context(connect(port, path))) for path in some]
            for stream in batch:
                stream.wait_for_headers()
            streams += batch
        yield streams


def send_request(client: socket.socket, method: str, path: str) -> None:
    request = f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    client.sendall(request.encode())


def read_json(client: socket.socket) -> Any:
    answer = bytearray()
    while data := client.recv(1 << 16):
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise ReceiveError(f"status line {bytes(head.splitlines()[0]) if head else b''!r}")
    return json.loads(body)


def get_json(port: int, path: str, method: str = "GET") -> Any:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        send_request(client, method, path)
        return read_json(client)
