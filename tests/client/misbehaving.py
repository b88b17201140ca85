"""A server that does what it is told, right or wrong: one script for each request, played over a plain socket.

A script is a list of what is done in turn: bytes are sent, a `threading.Event` is waited for, `RESET` breaks the
connection off, `HOLD` keeps it open until the client leaves, `KEEP` waits for the next request on it. At the end of a
script the connection is closed. A request for which there is no script left is answered with 204, so that a client
that should end does so, and one that comes too often is found out by the number of requests.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

from tests.servers.servers import free_port

PATIENCE = 20.0
"""Seconds after which something that must happen counts as not happening."""


class Act(Enum):
    RESET = auto()
    HOLD = auto()
    KEEP = auto()


RESET, HOLD, KEEP = Act

Script = Sequence[bytes | threading.Event | Act]

LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What a client sent, and when it was complete."""

    method: str
    target: str
    headers: Mapping[str, bytes]
    body: bytes
    at: float

    @property
    def last_event_id(self) -> bytes | None:
        return self.headers.get("last-event-id")

    @property
    def authorization(self) -> bytes | None:
        return self.headers.get("authorization")


# -- what scripts are made of -----------------------------------------------------------------------------------------


def head(status: int = 200, reason: str = "Whatever", *, version: str = "1.1", **headers: str) -> bytes:
    """The head of a response; `content_type` is written `content-type`. The connection isn't used again."""
    lines = [f"HTTP/{version} {status} {reason}"]
    fields = {"connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def until_close(**headers: str) -> bytes:
    """The head of a stream whose body ends with the connection."""
    return head(200, **{"content_type": "text/event-stream", **headers})


def chunked(**headers: str) -> bytes:
    """The head of a stream whose body comes in chunks, as every server sends it."""
    return until_close(transfer_encoding="chunked", **headers)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*pieces: bytes) -> list[bytes]:
    """A stream from head to its proper end, each piece a chunk."""
    return [chunked(), *map(chunk, pieces), LAST_CHUNK]


def answer(status: int, body: bytes = b"", **headers: str) -> list[bytes]:
    """A response that is complete at once."""
    return [head(status, content_length=str(len(body)), **headers), body]


def redirect(status: int, location: str) -> list[bytes]:
    return answer(status, location=location)


# -- the server -------------------------------------------------------------------------------------------------------


class MisbehavingServer:
    """Plays its scripts, each to the next request, whichever connection that comes on.

    Attributes:
        requests: what it got.
        errors: what went wrong in the server itself; a test that leaves some fails.
    """

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream"

    @property
    def last_event_ids(self) -> list[bytes | None]:
        return [request.last_event_id for request in self.requests]

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def play(self, *scripts: Script) -> None:
        """Append scripts."""
        self._scripts.extend(scripts)

    def listen(self) -> None:
        """Take connections, also again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept, self._listener)

    def refuse(self) -> None:
        """Close the port: who connects is refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()

    def wait_for_requests(self, count: int) -> None:
        self._wait(lambda: len(self.requests) >= count, f"{count} requests")

    def wait_until_left(self) -> None:
        """Wait until no connection is open."""
        self._wait(lambda: not self._open, "the client leaves")

    def _wait(self, condition: object, what: str) -> None:
        assert callable(condition)
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), f"not within {PATIENCE} s: {what}; got {self.requests}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing = True
        self.refuse()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if exc[0] is None and self.errors:
            raise self.errors[0]

    def _start(self, function: object, *args: object) -> None:
        assert callable(function)
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._changed:
                self._open.add(connection)
                self._changed.notify_all()
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            reader = connection.makefile("rb")
            with reader:
                while (request := self._read(reader)) is not None:
                    with self._changed:
                        self.requests.append(request)
                        script = self._scripts.pop(0) if self._scripts else [head(204)]
                        self._changed.notify_all()
                    if not self._play(script, connection, reader):
                        break
        except OSError:  # the client has left, or the test is over
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            connection.close()
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()

    def _read(self, reader: object) -> Request | None:
        line = reader.readline()  # type: ignore[attr-defined]
        if not line:
            return None
        method, target, _ = line.decode().split(" ")
        headers: dict[str, bytes] = {}
        while (field := reader.readline()) not in {b"\r\n", b""}:  # type: ignore[attr-defined]
            name, _, value = field.rstrip(b"\r\n").partition(b":")
            name = name.decode().lower()
            assert name not in headers, f"{name} came twice"
            headers[name] = value.strip(b" \t")
        body = reader.read(int(headers.get("content-length", b"0")))  # type: ignore[attr-defined]
        return Request(method, target, headers, body, time.monotonic())

    def _play(self, script: Script, connection: socket.socket, reader: object) -> bool:
        """Whether the connection waits for another request."""
        for act in script:
            if isinstance(act, bytes):
                connection.sendall(act)
            elif isinstance(act, threading.Event):
                while not (act.wait(0.05) or self._closing):
                    pass
            elif act is RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif act is HOLD:
                reader.read()  # type: ignore[attr-defined]
            elif act is KEEP:
                return True
        return False
