"""Bytes to events: the algorithm of WHATWG HTML §9.2.6 over any chunking."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypeVar

from pydantic_core import from_json

from tidings.errors import EventTooLarge

__all__ = ["EventDecoder", "ReceivedEvent"]

T = TypeVar("T")

_FIELDS = frozenset({"data", "event", "id", "retry"})
_BOM = "\xef\xbb\xbf"  # read as Latin-1, see feed()

# A block as most servers write it, of which `_read_blocks` makes an event without a look at each line. Or else lines to
# interpret one by one: comments and blank lines between blocks, or the lines of any other block. Possessive quantifiers
# (`++`) go over nothing again, and keep no note of each line in case they had to. `(?:x|)` tells sooner than `(?:x)?`
# that there is no x.
_ID = r"(?:id: ?+([^\n\0]++)\n|)"
_BLOCKS = re.compile(
    rf"{_ID}(?:event: ?+(.*+)\n|){_ID}data: ?+(.*+(?:\ndata:.*+)*+)\n{_ID}(?:retry: ?+([0-9]++)\n|)\n"
    r"|((?:(?::.*+)?+\n)++|(?:.++\n)++\n?)"
)
_NEXT_DATA = re.compile("\ndata: ?")

_new = tuple.__new__  # of a ReceivedEvent: half of what calling the class costs


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
        from pydantic import TypeAdapter  # noqa: PLC0415 - so that the rest of the wire needs pydantic_core alone

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
        self._fragments: list[str] = []  # the unfinished line, in pieces: joining at each feed would be quadratic
        self._in_comment = False  # the unfinished line is a comment: its bytes are dropped
        self._held = 0  # bytes of the unfinished event, its unfinished line included
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None
        self._broken = False

    def feed(self, chunk: bytes | bytearray | memoryview) -> list[ReceivedEvent]:
        """Take the next bytes; return the events that they complete.

        Raises:
            EventTooLarge: the unfinished event outgrew `max_event_size`. The decoder is of no use after it.
        """
        if self._broken:
            raise RuntimeError("the decoder met an event that was too large: use a new one for a new stream")
        # As Latin-1 every byte is one character: a chunk may end inside of a UTF-8 sequence, lengths are those of the
        # bytes, and lines that are ASCII (the most) are text already. The others are read as UTF-8 once complete.
        text = str(chunk, "latin-1")
        if self._bom_due:
            text = "".join(self._fragments) + text
            self._fragments.clear()
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._fragments.append(text)  # too short to tell a BOM from text
                return []
            self._bom_due = False
            text = text.removeprefix(_BOM)
        text = self._with_line_feeds(text)
        events: list[ReceivedEvent] = []
        try:
            if "\n" in text:
                text = self._read(text, events)
            self._hold(text, events)
        except EventTooLarge:
            self._broken = True
            raise
        return events

    def _with_line_feeds(self, text: str) -> str:
        """The text with every line end an LF, also when a CRLF is split between two chunks."""
        if self._skip_lf and text:
            self._skip_lf = False
            text = text.removeprefix("\n")
        if "\r" in text:
            self._skip_lf = text.endswith("\r")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def _hold(self, fragment: str, events: list[ReceivedEvent]) -> None:
        """Keep a piece of the unfinished line."""
        if self._in_comment or not fragment:
            return
        if not self._fragments and fragment.startswith(":"):
            self._in_comment = True
            return
        self._fragments.append(fragment)
        self._held += len(fragment)
        if self._held > self._limit:
            raise EventTooLarge(self._limit, events)

    def _complete(self, fragment: str, events: list[ReceivedEvent]) -> str:
        """The unfinished line, with its last piece."""
        self._hold(fragment, events)
        if self._in_comment:
            self._in_comment = False
            return ":"
        line = "".join(self._fragments)
        self._fragments.clear()
        self._held -= len(line)  # it is counted as every complete line is
        return line

    def _read(self, text: str, events: list[ReceivedEvent]) -> str:
        """Read all lines that are complete; return the unfinished one after them."""
        # Bytes are counted line by line. Blocks are not, so a text that might hold one too large is read by its lines.
        if self._held or self._in_comment or len(text) > self._limit:
            text = self._read_lines(text, events)
        end = text.rfind("\n") + 1
        if end:
            self._read_blocks(text, end, events)
        return text[end:]

    def _read_lines(self, text: str, events: list[ReceivedEvent]) -> str:
        """Read what earlier chunks began, to the first blank line, or all lines of a large text; return the rest."""
        begun, blank, rest = text.partition("\n\n") if len(text) <= self._limit else (text, "", "")
        lines = begun.split("\n")
        if blank:
            lines.append("")
        else:
            rest = lines.pop()
        if self._fragments or self._in_comment:
            lines[0] = self._complete(lines[0], events)
        self._interpret(lines, events)
        return rest

    def _read_blocks(self, text: str, end: int, events: list[ReceivedEvent]) -> None:
        """Read a text that begins with a block, and whose lines are complete up to `end`."""
        ascii_only = text.isascii()
        for early_id, event, id, data, late_id, retry, lines in _BLOCKS.findall(text, 0, end):
            if lines:
                self._interpret(lines[:-1].split("\n"), events)
                continue
            id = late_id or id or early_id  # noqa: PLW2901
            if not ascii_only:
                id, event, data = _utf8(id), _utf8(event), _utf8(data)  # noqa: PLW2901
            if "\n" in data:
                data = _NEXT_DATA.sub("\n", data)  # noqa: PLW2901
            if id:
                self.last_event_id = id
            if retry:
                self._set_retry(retry)
            events.append(_new(ReceivedEvent, (event or "message", data, self.last_event_id)))

    def _interpret(self, lines: list[str], events: list[ReceivedEvent]) -> None:
        held = self._held
        for line in lines:
            if not line:
                self._dispatch(events)
                held = 0
                continue
            if line[0] == ":":  # "If the line starts with a U+003A COLON character: Ignore the line."
                continue
            # Before the line takes effect, ignored fields too: then how the bytes were cut makes no difference.
            held += len(line)
            if held > self._limit:
                raise EventTooLarge(self._limit, events)
            line = _utf8(line)  # noqa: PLW2901
            # "If value starts with a U+0020 SPACE character, remove it": one, not all. Most do.
            name, _, value = line.partition(": ")
            if name not in _FIELDS:
                name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value)
            elif name == "event":
                self._event = value
            elif name == "id" and "\0" not in value:
                self._id = value
            elif name == "retry":
                self._set_retry(value)
        self._held = held

    def _set_retry(self, value: str) -> None:
        # "If the field value consists of only ASCII digits": isdigit() alone knows the digits of every script.
        if value.isascii() and value.isdigit():
            try:
                self.retry = int(value)
            except ValueError:  # more digits than Python converts
                return

    def _dispatch(self, events: list[ReceivedEvent]) -> None:
        """A blank line ends the event."""
        if self._id is not None:
            self.last_event_id = self._id
            self._id = None
        if self._data:
            data = self._data[0] if len(self._data) == 1 else "\n".join(self._data)
            self._data.clear()
            events.append(_new(ReceivedEvent, (self._event or "message", data, self.last_event_id)))
        self._event = ""


def _utf8(text: str) -> str:
    """Text that was read as Latin-1, whole lines of it or the end of one.

    No line end or colon is ever part of a longer sequence, so this gives what decoding the whole stream gives.
    """
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")
