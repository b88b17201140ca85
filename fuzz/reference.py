"""WHATWG HTML §9.2.5 and §9.2.6, step by step over a whole stream, with no thought for speed.

The decoder under test shares no line with it: what both make of the same bytes is what the standard makes of them. One
deliberate difference is copied from the decoder: a `retry` of more digits than `int()` takes (4,300) is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Interpretation", "interpret"]

_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
_DIGITS = frozenset("0123456789")
_MOST_DIGITS = 4300


@dataclass
class Interpretation:
    """What a client knows at the end of a stream; events are (event, data, id)."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None


def interpret(stream: bytes) -> Interpretation:
    """Interpret a whole event stream."""
    # "Streams must be decoded using the UTF-8 decode algorithm", which strips one leading byte order mark.
    text = stream.decode("utf-8", "replace")
    if text.startswith(_BOM):
        text = text[1:]
    interpreter = _Interpreter()
    for line in _complete_lines(text):
        interpreter.process_line(line)
    # "Once the end of the file is reached, any pending data must be discarded."
    return interpreter.result


def _complete_lines(text: str) -> list[str]:
    """The lines that have an end: CRLF, a lone LF or a lone CR. What follows the last of them is left out."""
    lines: list[str] = []
    line = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character not in "\r\n":
            line += character
            continue
        lines.append(line)
        line = ""
        if character == "\r" and text[position : position + 1] == "\n":
            position += 1
    return lines


class _Interpreter:
    def __init__(self) -> None:
        self.result = Interpretation()
        self.data_buffer = ""
        self.event_type_buffer = ""
        self.last_event_id_buffer = ""

    def process_line(self, line: str) -> None:
        colon = line.find(":")
        if line == "":
            self.dispatch()
        elif colon == 0:
            pass  # "If the line starts with a U+003A COLON character (:): Ignore the line."
        elif colon > 0:
            value = line[colon + 1 :]
            # "If value starts with a U+0020 SPACE character, remove it from value."
            self.process_field(line[:colon], value[1:] if value[:1] == " " else value)
        else:
            # "using the whole line as the field name, and the empty string as the field value"
            self.process_field(line, "")

    def process_field(self, name: str, value: str) -> None:
        if name == "event":
            self.event_type_buffer = value
        elif name == "data":
            self.data_buffer += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self.last_event_id_buffer = value
        elif name == "retry" and value and _DIGITS.issuperset(value) and len(value) <= _MOST_DIGITS:
            self.result.retry = int(value)

    def dispatch(self) -> None:
        self.result.last_event_id = self.last_event_id_buffer
        # "If the data buffer is an empty string, set the data buffer and the event type buffer to the empty string and
        # return." The buffer holds an LF after every value, so a field `data` without a value is not nothing.
        if self.data_buffer:
            data = self.data_buffer.removesuffix("\n")
            self.result.events.append((self.event_type_buffer or "message", data, self.result.last_event_id))
        self.data_buffer = ""
        self.event_type_buffer = ""
