"""Bytes to events: the algorithm of WHATWG HTML §9.2.6 over any chunking."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from pydantic_core import from_json

from tidings.errors import EventTooLarge

__all__ = ["EventDecoder", "ReceivedEvent"]

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"


class ReceivedEvent(NamedTuple):
    """An event as a client dispatches it.

    Attributes:
        event: its name, "message" if the server gave none.
        data: its data lines, joined with line feeds.
        id: the last event id when it was dispatched, "" before any.
    """

    event: str
    data: str
    id: str

    def json(self) -> Any:
        """The data as JSON; `ValueError` if it is none."""
        return from_json(self.data)

    def parse(self, model: type[T]) -> T:
        """The data as JSON, validated by Pydantic as `model`; `pydantic.ValidationError` if it doesn't fit."""
        from pydantic import TypeAdapter  # here, so that the wire needs pydantic_core alone

        return TypeAdapter(model).validate_json(self.data)


class EventDecoder:
    """Decodes one event stream, fed with its bytes as they come.

    Args:
        max_event_size: bytes that an unfinished event may hold, its unfinished line included. Comments are
            dropped as they come and don't count.

    Attributes:
        last_event_id: what to send as `Last-Event-ID` on reconnecting; it changes at the blank line that ends an event.
        retry: the reconnection time in milliseconds that the server set last, None if it set none.

    What the stream's end leaves unfinished is never dispatched: just drop the decoder.
    """

    def __init__(self, max_event_size: int = 1_048_576) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._limit = max_event_size
        self._bom_due = True
        self._skip_lf = False  # the last chunk ended in CR: an LF that follows belongs to it
        self._fragments: list[bytes] = []  # the unfinished line, in pieces: joining at each feed would be quadratic
        self._in_comment = False  # the unfinished line is a comment: its bytes are dropped
        self._held = 0  # bytes of the unfinished event, its unfinished line included
        self._data: list[bytes] = []
        self._event = b""
        self._id: str | None = None
        self._broken = False

    def feed(self, chunk: bytes | bytearray | memoryview) -> list[ReceivedEvent]:
        """Take the next bytes; return the events that they complete.

        Raises:
            EventTooLarge: the unfinished event outgrew `max_event_size`. The decoder is of no use after it.
        """
        if self._broken:
            raise RuntimeError("the decoder met an event that was too large: use a new one for a new stream")
        chunk = bytes(chunk)  # no copy if it is bytes already
        if self._bom_due:
            chunk = b"".join(self._fragments) + chunk
            self._fragments.clear()
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._fragments.append(chunk)  # too short to tell a BOM from text
                return []
            self._bom_due = False
            chunk = chunk.removeprefix(_BOM)
        chunk = self._with_line_feeds(chunk)
        events: list[ReceivedEvent] = []
        try:
            self._take(chunk, events)
        except EventTooLarge:
            self._broken = True
            raise
        return events

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """The chunk with every line end an LF, also when a CRLF is split between two chunks."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _take(self, chunk: bytes, events: list[ReceivedEvent]) -> None:
        head, newline, rest = chunk.partition(b"\n")
        if not newline:
            self._hold(head, events)
            return
        if self._fragments or self._in_comment:
            self._hold(head, events)
            head = b"".join(self._fragments)
            self._held -= len(head)
            self._fragments.clear()
            if self._in_comment:
                self._in_comment = False
                head = b":"
        self._line(head, events)
        *lines, unfinished = rest.split(b"\n")
        for line in lines:
            self._line(line, events)
        self._hold(unfinished, events)

    def _hold(self, fragment: bytes, events: list[ReceivedEvent]) -> None:
        """Keep a piece of the unfinished line."""
        if self._in_comment or not fragment:
            return
        if not self._fragments and fragment.startswith(b":"):
            self._in_comment = True
            return
        self._fragments.append(fragment)
        self._held += len(fragment)
        if self._held > self._limit:
            raise EventTooLarge(self._limit, events)

    def _line(self, line: bytes, events: list[ReceivedEvent]) -> None:
        if not line:
            self._dispatch(events)
            return
        if line.startswith(b"data: "):
            value = line[6:]
            self._data.append(value)
        else:
            # "If the line contains a U+003A COLON character": the field's name is before it, and one space after it is no value.
            name, _, value = line.partition(b":")
            if not name:
                return  # a comment
            value = value.removeprefix(b" ")
            if name == b"data":
                self._data.append(value)
            elif name == b"event":
                self._event = value
            elif name == b"id":
                if b"\0" not in value:
                    self._id = _text(value)
            elif name == b"retry":
                self._set_retry(value)
        # An ignored field counts like the others: so a bound met does not depend on how the bytes were cut.
        self._held += len(line)
        if self._held > self._limit:
            raise EventTooLarge(self._limit, events)

    def _set_retry(self, value: bytes) -> None:
        # "If the field value consists of only ASCII digits": bytes.isdigit() knows no others.
        if value.isdigit():
            try:
                self.retry = int(value)
            except ValueError:  # more digits than Python converts
                return

    def _dispatch(self, events: list[ReceivedEvent]) -> None:
        """A blank line ends the event."""
        self._held = 0
        if self._id is not None:
            self.last_event_id = self._id
            self._id = None
        data, event = self._data, self._event
        if event:
            self._event = b""
        if not data:
            return
        text = data[0] if len(data) == 1 else b"\n".join(data)
        data.clear()
        events.append(ReceivedEvent(_text(event) if event else "message", _text(text), self.last_event_id))


def _text(value: bytes) -> str:
    # Line by line gives what decoding the whole stream gives: no line end is ever part of a longer sequence.
    return value.decode("utf-8", "replace")
