"""What an application has answered, and what of it the test hasn't looked at yet."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

from starlette.datastructures import Headers

from tidings.wire.decoder import EventDecoder, ReceivedEvent

__all__ = ["CommentReader", "Received"]

_SHOWN = 200
"""Bytes of the body that an error shows."""


class Received:
    """A response, as far as it has come.

    Attributes:
        status: None before the head has come.
        headers: of the response.
        body: its bytes so far.
        complete: whether the application has sent its last message.
        events: those that wait to be read.
        comments: all so far; the first `comments_read` of them are read.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers = Headers()
        self.body = bytearray()
        self.complete = False
        self.events: deque[ReceivedEvent] = deque()
        self.comments: list[str] = []
        self.comments_read = 0
        self._decoder = EventDecoder(sys.maxsize)
        self._last_read = ""
        self._comment_reader = CommentReader()
        self._events = 0  # all so far

    @property
    def retry(self) -> int | None:
        """The milliseconds that the application last asked its clients to wait before they reconnect."""
        return self._decoder.retry

    @property
    def last_event_id(self) -> str:
        """The id of the event that was read last; that of the stream, once all of them are."""
        return self._last_read if self.events else self._decoder.last_event_id

    def read_event(self) -> ReceivedEvent:
        """Hand out the next event."""
        event = self.events.popleft()
        self._last_read = event.id
        return event

    def take(self, message: Any) -> None:
        """Take a message of the application; RuntimeError or TypeError where a server would refuse it."""
        kind = message["type"]
        if kind == "http.response.start":
            if self.status is not None:
                raise RuntimeError("the application started its response twice")
            self._take_head(message)
        elif kind == "http.response.body":
            if self.status is None:
                raise RuntimeError("the application sent a body before it started its response")
            if self.complete:
                raise RuntimeError("the application sent more after the end of its response")
            self._take_body(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        else:
            raise RuntimeError(f"the application sent {kind!r}, which is no part of an HTTP response here")

    def _take_head(self, message: Any) -> None:
        headers = [(name, value) for name, value in message.get("headers", ())]
        for name, value in headers:
            if not isinstance(name, bytes) or not isinstance(value, bytes):
                raise TypeError(f"a header must be two bytes objects, not {name!r} and {value!r}")
        self.status = message["status"]
        self.headers = Headers(raw=[(name.lower(), value) for name, value in headers])

    def _take_body(self, chunk: Any) -> None:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise TypeError(f"the body must be bytes, not {type(chunk).__name__}")
        self.body += chunk
        # What says that it is something else is not read as an event stream, as no browser would (WHATWG HTML §9.2.2).
        if self.headers.get("content-type", "text/event-stream").lower().startswith("text/event-stream"):
            events = self._decoder.feed(chunk)
            self._events += len(events)
            self.events += events
            self.comments += self._comment_reader.feed(bytes(chunk))

    def __str__(self) -> str:
        if self.status is None:
            return "nothing has come"
        kind = self.headers.get("content-type", "no content type")
        told = [f"{self.status}, {kind}", _counted(self._events, "event"), _counted(len(self.comments), "comment")]
        if self.events:
            told.append(f"not read yet: {list(self.events)}")
        if self.body:
            told.append(f"{'the end of ' if len(self.body) > _SHOWN else ''}the body: {bytes(self.body[-_SHOWN:])!r}")
        return "; ".join(told)


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


class CommentReader:
    """Finds the comments in an event stream, over any chunking: the decoder drops them as a browser does."""

    def __init__(self) -> None:
        self._fragments: list[bytes] = []  # the unfinished line
        self._bom_due = True

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes; return the comments that they complete, each without its colon and one space."""
        # A CRLF that is split between two chunks gives an empty line more: here that makes no difference.
        first, *others = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._fragments.append(first)
        if not others:
            return []
        lines = [b"".join(self._fragments), *others]
        self._fragments = [lines.pop()]
        if self._bom_due:
            self._bom_due = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        return [line[1:].decode("utf-8", "replace").removeprefix(" ") for line in lines if line.startswith(b":")]
