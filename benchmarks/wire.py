"""HTTP responses and event streams taken apart, and whether all of it came; and a response made."""

import json
from collections.abc import Sequence
from typing import Any


class ReceiveError(Exception):
    """What arrived isn't what was asked for."""


class BodyReader:
    """HTTP response in, decoded body out, over any cutting of the bytes."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._headers_done = False
        self._chunked = False
        self._chunk_left = 0
        self._in_chunk = False
        self.finished = False
        """Whether the body has come to its end; never, if it isn't chunked: then it ends with the connection."""

    def feed(self, data: bytes) -> bytes:
        self._pending += data
        if not self._headers_done and not self._take_headers():
            return b""
        if self._chunked:
            return self._take_chunks()
        body = bytes(self._pending)
        self._pending.clear()
        return body

    @property
    def headers_done(self) -> bool:
        return self._headers_done

    def _take_chunks(self) -> bytes:
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

    def _take_headers(self) -> bool:
        head, separator, rest = bytes(self._pending).partition(b"\r\n\r\n")
        if not separator:
            return False
        status, _, fields = head.lower().partition(b"\r\n")
        if status.split(b" ")[1] != b"200":
            raise ReceiveError(f"status line {head.splitlines()[0]!r}")
        self._chunked = b"transfer-encoding: chunked" in fields
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


def check_complete(events: Sequence[Any], unfinished: bytes, expected: int) -> None:
    """Every event, once, in order, and nothing half sent."""
    if len(events) != expected:
        raise ReceiveError(f"{len(events)} events of {expected} arrived")
    for position, event in enumerate(events):
        if event.get("sequence") != position:
            raise ReceiveError(f"at position {position} arrived {event}")
    if unfinished:
        raise ReceiveError(f"the stream ends within an event: {unfinished[:80]!r}")


def chunked_response(chunks: Sequence[bytes]) -> bytes:
    """An event stream as an HTTP server sends it."""
    fields = b"Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nConnection: close"
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (fields, body)
