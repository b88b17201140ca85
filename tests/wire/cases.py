"""The wire format in tables: what goes out for an event, and what a client makes of a stream.

What goes out is a stream too, so the decoder is fed the rows of both tables, through `check_decoding`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from tidings.wire import EventDecoder, ServerSentEvent

Dispatched = tuple[str, str, str]  # event, data, id


@dataclass(frozen=True)
class Case:
    """A stream, and what a client makes of it."""

    name: str
    stream: bytes
    events: list[Dispatched] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None
    unfinished: bool = False  # the stream stops within an event, or within the byte order mark

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Encoded:
    """An event, its bytes, and what a client makes of them."""

    name: str
    event: ServerSentEvent
    block: bytes
    events: list[Dispatched] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None

    def __str__(self) -> str:
        return self.name


def message(data: str, id: str = "") -> Dispatched:
    """An event without a name of its own."""
    return ("message", data, id)


# -- events to bytes --------------------------------------------------------------------------------------------------


class Parcel(BaseModel):
    weight_kg: float = Field(serialization_alias="weightKg")
    label: str = "fragile"


ENCODED = [
    Encoded("nothing", ServerSentEvent(), b"\n"),
    Encoded(
        "every field in its order",
        ServerSentEvent(data={"depth": 3}, event="sounding", id="s-9", retry=1500, comment="from the bridge"),
        b': from the bridge\nevent: sounding\ndata: {"depth":3}\nid: s-9\nretry: 1500\n\n',
        [("sounding", '{"depth":3}', "s-9")],
        "s-9",
        1500,
    ),
    Encoded(
        "every field in its order with raw data",
        ServerSentEvent(raw_data="three\nfathoms", event="sounding", id="s-10", retry=0, comment="from\nthe bridge"),
        b": from\n: the bridge\nevent: sounding\ndata: three\ndata: fathoms\nid: s-10\nretry: 0\n\n",
        [("sounding", "three\nfathoms", "s-10")],
        "s-10",
        0,
    ),
    # Any JSON value, compact and in UTF-8.
    Encoded("a string is JSON", ServerSentEvent(data="ahoy"), b'data: "ahoy"\n\n', [message('"ahoy"')]),
    Encoded("an empty string is JSON", ServerSentEvent(data=""), b'data: ""\n\n', [message('""')]),
    Encoded("zero is data", ServerSentEvent(data=0), b"data: 0\n\n", [message("0")]),
    Encoded("false is data", ServerSentEvent(data=False), b"data: false\n\n", [message("false")]),
    Encoded("an empty list is data", ServerSentEvent(data=[]), b"data: []\n\n", [message("[]")]),
    Encoded(
        "JSON is compact and not ASCII",
        ServerSentEvent(data={"naïve": ["ß", "🐟"], "n": None}),
        '{"naïve":["ß","🐟"],"n":null}'.join(["data: ", "\n\n"]).encode(),
        [message('{"naïve":["ß","🐟"],"n":null}')],
    ),
    Encoded(
        "line breaks in a string are escaped",
        ServerSentEvent(data="one\r\ntwo\nthree\rfour"),
        b'data: "one\\r\\ntwo\\nthree\\rfour"\n\n',
        [message(r'"one\r\ntwo\nthree\rfour"')],
    ),
    Encoded(
        "separators of Unicode are no line ends in JSON",
        ServerSentEvent(data="a\u2028b\u2029c\x85d"),
        b'data: "a\xe2\x80\xa8b\xe2\x80\xa9c\xc2\x85d"\n\n',
        [message('"a\u2028b\u2029c\x85d"')],
    ),
    Encoded(
        "floats that are not finite are null",
        ServerSentEvent(data=[math.nan, math.inf, -math.inf, 0.5]),
        b"data: [null,null,null,0.5]\n\n",
        [message("[null,null,null,0.5]")],
    ),
    Encoded(
        "a model goes out by its aliases",
        ServerSentEvent(data=Parcel(weight_kg=math.inf)),
        b'data: {"weightKg":null,"label":"fragile"}\n\n',
        [message('{"weightKg":null,"label":"fragile"}')],
    ),
    Encoded(
        "a model within a list goes out by its aliases",
        ServerSentEvent(data=[Parcel(weight_kg=2)]),
        b'data: [{"weightKg":2.0,"label":"fragile"}]\n\n',
        [message('[{"weightKg":2.0,"label":"fragile"}]')],
    ),
    Encoded(
        "an integer of forty digits",
        ServerSentEvent(data=10**40),
        b"data: 1" + 40 * b"0" + b"\n\n",
        [message("1" + 40 * "0")],
    ),
    # Raw data, as it is.
    Encoded("raw data", ServerSentEvent(raw_data="<p>hi</p>"), b"data: <p>hi</p>\n\n", [message("<p>hi</p>")]),
    Encoded("raw null", ServerSentEvent(raw_data="null"), b"data: null\n\n", [message("null")]),
    Encoded("raw data that is empty", ServerSentEvent(raw_data=""), b"data: \n\n", [message("")]),
    Encoded("raw data in lines", ServerSentEvent(raw_data="a\nb"), b"data: a\ndata: b\n\n", [message("a\nb")]),
    Encoded("raw data in CRLF lines", ServerSentEvent(raw_data="a\r\nb"), b"data: a\ndata: b\n\n", [message("a\nb")]),
    Encoded("raw data in CR lines", ServerSentEvent(raw_data="a\rb"), b"data: a\ndata: b\n\n", [message("a\nb")]),
    Encoded(
        "raw data in lines of every kind",
        ServerSentEvent(raw_data="a\r\r\nb\n\rc"),
        b"data: a\ndata: \ndata: b\ndata: \ndata: c\n\n",
        [message("a\n\nb\n\nc")],
    ),
    Encoded("a line end at the end", ServerSentEvent(raw_data="a\n"), b"data: a\ndata: \n\n", [message("a\n")]),
    Encoded("a CRLF at the end", ServerSentEvent(raw_data="a\r\n"), b"data: a\ndata: \n\n", [message("a\n")]),
    Encoded("a CR at the end", ServerSentEvent(raw_data="a\r"), b"data: a\ndata: \n\n", [message("a\n")]),
    Encoded("a line end alone", ServerSentEvent(raw_data="\n"), b"data: \ndata: \n\n", [message("\n")]),
    Encoded(
        "spaces at the ends of a line",
        ServerSentEvent(raw_data="  a \n b"),
        b"data:   a \ndata:  b\n\n",
        [message("  a \n b")],
    ),
    Encoded(
        "raw data that looks like fields",
        ServerSentEvent(raw_data="id: 7\n: no\n\nretry: 1"),
        b"data: id: 7\ndata: : no\ndata: \ndata: retry: 1\n\n",
        [message("id: 7\n: no\n\nretry: 1")],
    ),
    Encoded(
        "what splitlines() takes for line ends is text",
        ServerSentEvent(raw_data="a\vb\fc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"),
        b"data: a\vb\fc\x1cd\x1de\x1ef\xc2\x85g\xe2\x80\xa8h\xe2\x80\xa9i\n\n",
        [message("a\vb\fc\x1cd\x1de\x1ef\x85g\u2028h\u2029i")],
    ),
    Encoded(
        "a byte order mark is text",
        ServerSentEvent(raw_data="\ufeffa"),
        b"data: \xef\xbb\xbfa\n\n",
        [message("\ufeffa")],
    ),
    Encoded("a NUL is text", ServerSentEvent(raw_data="a\0b"), b"data: a\0b\n\n", [message("a\0b")]),
    # The other fields.
    Encoded("a name without data", ServerSentEvent(event="left"), b"event: left\n\n"),
    Encoded("a name that is empty", ServerSentEvent(data=1, event=""), b"event: \ndata: 1\n\n", [message("1")]),
    Encoded(
        "a name with a space and a colon",
        ServerSentEvent(data=1, event=" a: b"),
        b"event:  a: b\ndata: 1\n\n",
        [(" a: b", "1", "")],
    ),
    Encoded(
        "a name in Unicode",
        ServerSentEvent(data=1, event="møte\u2028"),
        b"event: m\xc3\xb8te\xe2\x80\xa8\ndata: 1\n\n",
        [("møte\u2028", "1", "")],
    ),
    Encoded("an id alone", ServerSentEvent(id="k1"), b"id: k1\n\n", last_event_id="k1"),
    Encoded("an id that is an int", ServerSentEvent(data=1, id=7), b"data: 1\nid: 7\n\n", [message("1", "7")], "7"),
    Encoded("an id that is 0", ServerSentEvent(id=0), b"id: 0\n\n", last_event_id="0"),
    Encoded("an id that is empty", ServerSentEvent(data=1, id=""), b"data: 1\nid: \n\n", [message("1")]),
    Encoded("an id in Unicode", ServerSentEvent(id="ø:1 "), b"id: \xc3\xb8:1 \n\n", last_event_id="ø:1 "),
    Encoded("a retry alone", ServerSentEvent(retry=250), b"retry: 250\n\n", retry=250),
    Encoded("a retry of 0", ServerSentEvent(retry=0), b"retry: 0\n\n", retry=0),
    Encoded("a comment alone", ServerSentEvent(comment="still here"), b": still here\n\n"),
    Encoded("a comment that is empty", ServerSentEvent(comment=""), b": \n\n"),
    Encoded("a comment of lines", ServerSentEvent(comment="a\r\nb\rc\n"), b": a\n: b\n: c\n: \n\n"),
    Encoded(
        "a comment that looks like a field",
        ServerSentEvent(comment="a\ndata: b", raw_data="c"),
        b": a\n: data: b\ndata: c\n\n",
        [message("c")],
    ),
]


# -- bytes to events --------------------------------------------------------------------------------------------------

FISH = "🐟".encode()

DECODED = [
    Case("an empty stream", b""),
    # "One leading U+FEFF BYTE ORDER MARK character must be ignored if any are present."
    Case("a byte order mark is ignored", b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
    Case("a byte order mark alone", b"\xef\xbb\xbf"),
    Case("a byte order mark before a blank line", b"\xef\xbb\xbf\n\ndata: a\n\n", [message("a")]),
    Case("a byte order mark before a comment", b"\xef\xbb\xbf: hi\ndata: a\n\n", [message("a")]),
    Case("a second byte order mark is part of the name", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n"),
    Case("a byte order mark later is part of the name", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [message("a")]),
    Case("a byte order mark after a line end", b"\n\xef\xbb\xbfdata: a\n\n"),
    Case("a byte order mark within data", b"data: \xef\xbb\xbfa\n\n", [message("\ufeffa")]),
    Case("a first byte of a byte order mark", b"\xef", unfinished=True),
    Case("two bytes of a byte order mark", b"\xef\xbb", unfinished=True),
    Case("two bytes of a byte order mark and a field", b"\xef\xbbdata: a\n\n"),
    Case("two bytes of a byte order mark, a line end and a field", b"\xef\xbb\ndata: a\n\n", [message("a")]),
    # "Lines must be separated by either a CRLF pair, a single LF character, or a single CR character."
    Case("LF", b"data: a\ndata: b\n\ndata: c\n\n", [message("a\nb"), message("c")]),
    Case("CRLF", b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [message("a\nb"), message("c")]),
    Case("CR", b"data: a\rdata: b\r\rdata: c\r\r", [message("a\nb"), message("c")]),
    Case("LF, then CRLF", b"data: a\n\r\ndata: b\n\r\n", [message("a"), message("b")]),
    Case("LF, then CR", b"data: a\n\rdata: b\n\r", [message("a"), message("b")]),
    Case("CRLF, then LF", b"data: a\r\n\ndata: b\r\n\n", [message("a"), message("b")]),
    Case("CRLF, then CR", b"data: a\r\n\rdata: b\r\n\r", [message("a"), message("b")]),
    Case("CR, then CRLF", b"data: a\r\r\ndata: b\r\r\n", [message("a"), message("b")]),
    Case("CRLF is one line end, not two", b"data: a\r\ndata: b\r\n\r\n", [message("a\nb")]),
    Case("a CR at the very end", b"data: a\n\r", [message("a")]),
    Case("blank lines only", b"\n\r\n\r\r\n\n"),
    Case("blank lines between events", b"\n\n\ndata: a\n\n\n\r\n\rdata: b\n\n", [message("a"), message("b")]),
    Case("U+2028 ends no line", "data: a\u2028data: b\n\n".encode(), [message("a\u2028data: b")]),
    Case("U+2029 ends no line", "data: a\u2029data: b\n\n".encode(), [message("a\u2029data: b")]),
    Case("U+0085 ends no line", "data: a\x85data: b\n\n".encode(), [message("a\x85data: b")]),
    Case("the byte 0x85 ends no line", b"data: a\x85b\n\n", [message("a\ufffdb")]),
    Case("VT and FF end no line", b"data: a\vb\fc\n\n", [message("a\vb\fc")]),
    Case("FS, GS and RS end no line", b"data: a\x1cb\x1dc\x1ed\n\n", [message("a\x1cb\x1dc\x1ed")]),
    # A line that "starts with a U+003A COLON character (:)": "Ignore the line."
    Case("a comment", b": hello\n\n"),
    Case("a comment without text", b":\n\n"),
    Case("a comment among the fields", b"data: a\n: hello\ndata: b\n\n", [message("a\nb")]),
    Case("a comment that looks like a field", b":data: a\n\n"),
    Case("a comment before an event", b": hello\nevent: x\ndata: a\n\n", [("x", "a", "")]),
    Case("comments between events", b"data: a\n\n: b\n\n:\n: c\n\ndata: d\n\n", [message("a"), message("d")]),
    Case("a comment in Unicode", b": " + FISH + b"\xff\ndata: a\n\n", [message("a")]),
    Case("a space before the colon makes no comment", b" : a\ndata: b\n\n", [message("b")]),
    Case("a comment that is unfinished", b"data: a\n\n: hel", [message("a")], unfinished=True),
    # "If the line contains a U+003A COLON character (:)": the first one, and one space after it.
    Case("no space after the colon", b"data:a\n\n", [message("a")]),
    Case("two spaces after the colon", b"data:  a\n\n", [message(" a")]),
    Case("many spaces after the colon", b"data:    a\n\n", [message("   a")]),
    Case("a space alone", b"data: \n\n", [message("")]),
    Case("two spaces alone", b"data:  \n\n", [message(" ")]),
    Case("a space at the end", b"data: a \n\n", [message("a ")]),
    Case("a tab after the colon", b"data:\ta\n\n", [message("\ta")]),
    Case("a no-break space after the colon", "data:\xa0a\n\n".encode(), [message("\xa0a")]),
    Case("more colons", b"data: a: b:c\n\n", [message("a: b:c")]),
    Case("a colon after the colon", b"data::a\n\n", [message(":a")]),
    Case("a colon after the colon and a space", b"data: :a\n\n", [message(":a")]),
    # "Otherwise, the string is not empty but does not contain a U+003A COLON character (:)": no value.
    Case("data without a colon", b"data\n\n", [message("")]),
    Case("data without a colon, twice", b"data\ndata\n\n", [message("\n")]),
    Case("data without a colon, then with", b"data\ndata: a\n\n", [message("\na")]),
    Case("event without a colon", b"event: x\nevent\ndata: a\n\n", [message("a")]),
    Case("id without a colon", b"id: 1\ndata: a\n\nid\ndata: b\n\n", [message("a", "1"), message("b")]),
    Case("retry without a colon", b"retry: 5\nretry\n\n", retry=5),
    Case("data with a colon, then without", b"data: a\ndata\n\n", [message("a\n")]),
    Case("a word without a colon", b"hello\ndata: a\n\n", [message("a")]),
    # The field "data": "Append the field value to the data buffer, then append a single U+000A LINE FEED (LF)".
    Case("data of many lines", b"data: a\ndata: b\ndata: c\n\n", [message("a\nb\nc")]),
    Case("data that is empty", b"data:\n\n", [message("")]),
    Case("data of two empty lines", b"data:\ndata:\n\n", [message("\n")]),
    Case("data that ends with an empty line", b"data: a\ndata:\n\n", [message("a\n")]),
    Case("data that begins with an empty line", b"data:\ndata: a\n\n", [message("\na")]),
    Case("data with a NUL", b"data: a\0b\n\n", [message("a\0b")]),
    Case("data of lines that begin with a space", b"data:  a\ndata:b\ndata:  c\n\n", [message(" a\nb\n c")]),
    Case("data of lines that look like data", b"data: data: a\ndata:data:b\n\n", [message("data: a\ndata:b")]),
    Case("data on both sides of a name", b"data: a\nevent: x\ndata: b\n\n", [("x", "a\nb", "")]),
    Case("data of one event is not the next one's", b"data: a\n\ndata: b\n\n", [message("a"), message("b")]),
    # With an empty data buffer, "set the data buffer and the event type buffer to the empty string and return".
    Case("a name without data is no event", b"event: x\n\n"),
    Case("a name without data is forgotten", b"event: x\n\ndata: a\n\n", [message("a")]),
    # The field "event": "Set the event type buffer to field value."
    Case("a name", b"event: x\ndata: a\n\n", [("x", "a", "")]),
    Case("a name after the data", b"data: a\nevent: x\n\n", [("x", "a", "")]),
    Case("the last name counts", b"event: x\nevent: y\ndata: a\n\n", [("y", "a", "")]),
    Case("a name holds for one event", b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a", ""), message("b")]),
    Case("a name that is empty is message", b"event:\ndata: a\n\n", [message("a")]),
    Case("a name of spaces", b"event:   \ndata: a\n\n", [("  ", "a", "")]),
    Case("a name in Unicode", b"event: " + FISH + b"\ndata: a\n\n", [("🐟", "a", "")]),
    Case("a name with a NUL", b"event: x\0y\ndata: a\n\n", [("x\0y", "a", "")]),
    # "Set the last event ID string of the event source to the value of the last event ID buffer."
    Case("an id", b"id: 1\ndata: a\n\n", [message("a", "1")], "1"),
    Case("an id after the data", b"data: a\nid: 1\n\n", [message("a", "1")], "1"),
    Case("an id persists", b"id: 1\ndata: a\n\ndata: b\n\n", [message("a", "1"), message("b", "1")], "1"),
    Case("an id changes", b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", [message("a", "1"), message("b", "2")], "2"),
    Case("the last id counts", b"id: 1\nid: 2\ndata: a\n\n", [message("a", "2")], "2"),
    Case("the last id counts after the data", b"id: 1\ndata: a\nid: 2\n\n", [message("a", "2")], "2"),
    Case("the last id counts after the name", b"id: 1\nevent: x\nid: 2\ndata: a\n\n", [("x", "a", "2")], "2"),
    Case("the last of all ids counts", b"id: 1\nevent: x\nid: 2\ndata: a\nid: 3\n\n", [("x", "a", "3")], "3"),
    Case("the last of all ids may be empty", b"id: 1\nevent: x\nid: 2\ndata: a\nid:\n\n", [("x", "a", "")]),
    Case("an id that is empty", b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [message("a", "1"), message("b", "")]),
    Case("an id without data", b"id: 1\n\n", last_event_id="1"),
    Case("an id without data is the next event's", b"id: 1\n\ndata: a\n\n", [message("a", "1")], "1"),
    Case("an id before its blank line", b"id: 1\ndata: a\n\nid: 2\n", [message("a", "1")], "1", unfinished=True),
    Case("an id of spaces", b"id:   \ndata: a\n\n", [message("a", "  ")], "  "),
    Case("an id in Unicode", b"id: " + FISH + b"\ndata: a\n\n", [message("a", "🐟")], "🐟"),
    # "If the field value does not contain U+0000 NULL, then set the last event ID buffer to the field value."
    Case("an id with a NUL is ignored", b"id: 1\0\ndata: a\n\n", [message("a")]),
    Case("an id with a NUL keeps the one before", b"id: 1\nid: 2\0\ndata: a\n\n", [message("a", "1")], "1"),
    Case("an id with a NUL keeps the last one", b"id: 1\n\nid: \0002\ndata: a\n\n", [message("a", "1")], "1"),
    Case("an id of a NUL alone", b"id:\0\ndata: a\n\n", [message("a")]),
    # "If the field value consists of only ASCII digits, then interpret the field value as an integer in base ten."
    Case("a retry", b"retry: 3000\n\n", retry=3000),
    Case("a retry without a space", b"retry:3000\n\n", retry=3000),
    Case("a retry needs no blank line", b"retry: 3000\n", retry=3000, unfinished=True),
    Case("a retry on a line that is unfinished", b"retry: 3000", unfinished=True),
    Case("the last retry counts", b"retry: 1\nretry: 2\n\n", retry=2),
    Case("a retry of 0", b"retry: 0\n\n", retry=0),
    Case("a retry with zeros in front", b"retry: 007\n\n", retry=7),
    Case("a retry of forty digits", b"retry: " + 40 * b"9" + b"\n\n", retry=10**40 - 1),
    Case("a retry of more digits than Python converts", b"retry: 5\nretry: " + 4301 * b"9" + b"\n\n", retry=5),
    Case("a retry that is negative", b"retry: 5\nretry: -1\n\n", retry=5),
    Case("a retry with a plus", b"retry: +1\n\n"),
    Case("a retry with a fraction", b"retry: 1.5\n\n"),
    Case("a retry with an exponent", b"retry: 1e3\n\n"),
    Case("a retry with an underscore", b"retry: 1_000\n\n"),
    Case("a retry in hexadecimal", b"retry: 0x10\n\n"),
    Case("a retry with a space at the end", b"retry: 1 \n\n"),
    Case("a retry with two spaces in front", b"retry:  1\n\n"),
    Case("a retry with a NUL", b"retry: 1\0\n\n"),
    Case("a retry that is empty", b"retry:\nretry: \n\n"),
    Case("a retry in Arabic-Indic digits", "retry: ٣٠٠\n\n".encode()),
    Case("a retry in full-width digits", "retry: \uff13\n\n".encode()),
    Case("a retry in superscript digits", "retry: ²\n\n".encode()),
    Case("a retry of bytes that are digits in Latin-1", b"retry: \xb2\n\n"),
    Case(
        "a retry after the data",
        b"data: a\nretry: 1\n\ndata: b\nid: 1\nretry:2\n\n",
        [message("a"), message("b", "1")],
        "1",
        2,
    ),
    Case(
        "no retry after the data",
        b"retry: 5\ndata: a\nretry: x\n\ndata: b\nretry:\n\n",
        [message("a"), message("b")],
        retry=5,
    ),
    Case("digits of another script after the data", "data: a\nretry: ٣\n\n".encode(), [message("a")]),
    Case("a retry is no data", b"retry: 1\nevent: x\n\ndata: a\n\n", [message("a")], retry=1),
    # Every other field: "The field is ignored."
    Case("an unknown field", b"color: red\ndata: a\n\n", [message("a")]),
    Case("names are case-sensitive", b"Data: a\nDATA: b\nEVENT: x\nId: 1\nRetry: 2\ndata: c\n\n", [message("c")]),
    Case("a space before the name", b" data: a\n\n"),
    Case("a space after the name", b"data : a\n\n"),
    Case("a tab after the name", b"data\t: a\n\n"),
    Case("a NUL before the name", b"\0data: a\n\n"),
    Case("a longer name", b"datax: a\ndata-id: b\n\n"),
    Case("a longer name after data", b"data: a\ndatax: b\n\n", [message("a")]),
    Case("a shorter name", b"dat: a\n\n"),
    Case("an unknown field in Unicode", b"d\xc3\xa4ta: a\n\n"),
    Case("a name with a byte that is not UTF-8", b"data\xff: a\nda\xfftah: b\n\n"),
    # "Once the end of the file is reached, any pending data must be discarded."
    Case("data without its blank line", b"data: a\n\ndata: b\n", [message("a")], unfinished=True),
    Case("data without its line end", b"data: a\n\ndata: b", [message("a")], unfinished=True),
    Case("a name without its blank line", b"event: x\n", unfinished=True),
    # "Streams must be decoded using the UTF-8 decode algorithm."
    Case("UTF-8 of every length", b"data: a\xc3\xa9\xe2\x82\xac" + FISH + b"\n\n", [message("aé€🐟")]),
    Case("UTF-8 in the second line", b"data: a\ndata: " + FISH + b"\n\n", [message("a\n🐟")]),
    Case("a byte that is no UTF-8", b"data: a\xffb\n\n", [message("a\ufffdb")]),
    Case("a continuation byte alone", b"data: \x80\n\n", [message("\ufffd")]),
    Case("a sequence cut short by text", b"data: \xf0\x9f\x90a\n\n", [message("\ufffda")]),
    Case("a sequence cut short by a line end", b"data: \xf0\x9f\x90\n\n", [message("\ufffd")]),
    Case("a sequence cut short by a CR", b"data: \xe2\x82\rdata: b\r\r", [message("\ufffd\nb")]),
    Case("a sequence that goes on in the next line", b"data: \xe2\x82\ndata: \xac\n\n", [message("\ufffd\n\ufffd")]),
    Case("an overlong sequence", b"data: \xc0\xaf\n\n", [message("\ufffd\ufffd")]),
    Case("an overlong line end is none", b"data: a\xc0\x8ab\n\n", [message("a\ufffd\ufffdb")]),
    Case("a surrogate", b"data: \xed\xa0\x80\n\n", [message("\ufffd\ufffd\ufffd")]),
    Case("a character past the last one", b"data: \xf4\x90\x80\x80\n\n", [message(4 * "\ufffd")]),
    Case("bytes that are no UTF-8 in a name", b"event: \xff\ndata: a\n\n", [("\ufffd", "a", "")]),
    Case("bytes that are no UTF-8 in an id", b"id: \xff\ndata: a\n\n", [message("a", "\ufffd")], "\ufffd"),
    # All of it.
    Case(
        "a stream with everything in it",
        b"\xef\xbb\xbf: welcome\r\nretry: 10\r\n\r\nid: 1\r\nevent: opened\r\ndata: {\r\ndata: }\r\n\r\n"
        b": ping\n\ndata: plain\n\nid\nevent: closed\rdata\r\rdata: lost",
        [("opened", "{\n}", "1"), message("plain", "1"), ("closed", "", "")],
        retry=10,
        unfinished=True,
    ),
]

DECODE = [*DECODED, *(Case(row.name, row.block, row.events, row.last_event_id, row.retry) for row in ENCODED)]


def check_decoding(case: Case) -> None:
    """Feed a case whole, byte by byte, in every two-way split, and with more data after it."""
    stream = case.stream
    expected = (case.events, case.last_event_id, case.retry)
    assert decode([stream]) == expected
    assert decode(stream[i : i + 1] for i in range(len(stream))) == expected, "byte by byte"
    for i in range(len(stream) + 1):
        assert decode([stream[:i], b"", stream[i:]]) == expected, f"split at {i}"

    # More data that ends no line completes nothing; with its end it is the next event.
    more = b"data: more"
    assert decode([stream + more]) == expected, "more data in the same chunk"
    assert decode([stream, more]) == expected, "more data in a chunk of its own"
    if not case.unfinished:
        expected = ([*case.events, message("more", case.last_event_id)], case.last_event_id, case.retry)
        assert decode([stream + more + b"\n\n"]) == expected, "another event in the same chunk"
        assert decode([stream, more, b"\n", b"\n"]) == expected, "another event in chunks of its own"


def decode(chunks: Iterable[bytes]) -> tuple[list[Any], str, int | None]:
    """The events, the last event id and the retry of a stream that comes in these chunks."""
    decoder = EventDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events, decoder.last_event_id, decoder.retry
