"""Requests that no client should send, made by chance: `malformed` gives as many as are wanted for one endpoint.

Some are broken, some only odd: an odd one may well be answered with 200. What `fuzz/demo.py` sends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import cycle

__all__ = ["Ending", "Endpoint", "Request", "malformed"]

Header = tuple[bytes, bytes]


class Ending(Enum):
    """What a client does when it has sent all."""

    WAIT = auto()
    """It waits for the answer, which has to come: the server has all that it needs to give one."""
    CLOSE = auto()
    """If no answer comes at once it says that nothing follows (FIN), and waits for the answer or the end."""
    RESET = auto()
    """It is gone (RST)."""


@dataclass(frozen=True)
class Endpoint:
    """One operation of the application; `path` and `body` are such that it would do something."""

    method: str
    path: str
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Request:
    """What goes over the socket, in one piece.

    Attributes:
        kind: the function that has made it.
        refused: whether only a 4xx will do, or no answer at all.
    """

    kind: str
    data: bytes
    ending: Ending = Ending.WAIT
    refused: bool = False


def malformed(endpoint: Endpoint, count: int, source: random.Random) -> Iterator[Request]:
    """So many requests, of each kind as many as of any other."""
    kinds = [kind for kind in KINDS if endpoint.body or kind not in OF_BODIES]
    for _, kind in zip(range(count), cycle(kinds), strict=False):
        request = kind(endpoint, source)
        yield replace(request, kind=kind.__name__)


def written(
    endpoint: Endpoint,
    *,
    method: bytes | None = None,
    target: bytes | None = None,
    version: bytes = b"HTTP/1.1",
    headers: tuple[Header, ...] = (),
    without: bytes = b"",
    body: bytes | None = None,
) -> bytes:
    """A request to an endpoint, in good order but for what is given."""
    body = endpoint.body if body is None else body
    fields: list[Header] = [(b"Host", b"localhost"), (b"Connection", b"close")]
    if endpoint.method == "POST":
        fields += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
    kept = [field for field in fields if field[0] != without]
    lines = [b"%b: %b\r\n" % field for field in (*kept, *headers)]
    method, target = method or endpoint.method.encode(), endpoint.path.encode() if target is None else target
    return b"%b %b %b\r\n%b\r\n%b" % (method, target, version, b"".join(lines), body)


def noise(source: random.Random, most: int = 200) -> bytes:
    return source.randbytes(source.randint(1, most))


# -- request lines ----------------------------------------------------------------------------------------------------


def no_http(_endpoint: Endpoint, source: random.Random) -> Request:
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(200)
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    other = (b"SSH-2.0-OpenSSH_9.6\r\n", b"HELO localhost\r\n", b"\0" * 100, b"*1\r\n$4\r\nPING\r\n", b"\r\n" * 50)
    return Request("", source.choice((tls, http2, noise(source), noise(source), *other)), Ending.CLOSE, refused=True)


def broken_request_line(endpoint: Endpoint, source: random.Random) -> Request:
    line = bytearray(written(endpoint))
    end = line.index(b"\r\n")
    match source.randrange(4):
        case 0:
            del line[source.randrange(end)]
        case 1:
            line[source.randrange(end)] = source.randrange(256)
        case 2:
            place = source.randrange(end)
            line[place:place] = noise(source, 10)
        case _:
            line[:end] = source.choice((b"GET", b"GET /", b"/ HTTP/1.1", b" / HTTP/1.1", b"GET  / HTTP/1.1", b"", b":"))
    return Request("", bytes(line), Ending.CLOSE)


def odd_method(endpoint: Endpoint, source: random.Random) -> Request:
    odd = (b"get", b"PROPFIND", b"CONNECT", b"TRACE", b"OPTIONS", b"PUT", b"PATCH", b"FOO", b"G\xc9T", b"X" * 10_000)
    return Request("", written(endpoint, method=source.choice(odd)), Ending.CLOSE, refused=True)


def odd_version(endpoint: Endpoint, source: random.Random) -> Request:
    odd = (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2", b"HTTP/9.9", b"HTTP/1.1.1", b"HTTP/-1", b"http/1.1", b"HTTPS/1.1", b"")
    return Request("", written(endpoint, version=source.choice(odd)), Ending.CLOSE)


def odd_target(endpoint: Endpoint, source: random.Random) -> Request:
    path = endpoint.path.encode()
    odd = (
        *(b"*", b"//", b"///etc/passwd", b"/../../../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/..%5c..%5cx"),
        *(path + b"/", path + b"%00", path + b"%", path + b"%zz", path + b"%ff%fe", path + b"#x", b"/" + b"a/" * 5_000),
        *(
            path + b"\0",
            path + b"\xff",
            path + b"\t",
            b"http://[::1",
            b"http://user:pass@host:99999" + path,
            path * 999,
        ),
        *(
            b"/source/" + b"%41" * 3_000,
            b"/tasks/" + b"9" * 5_000,
            b"/tasks/-0",
            b"/workers/" + b"1" * 5_000 + b"/kill",
        ),
        *(
            b"/workers/-1/kill",
            b"/workers/0/kill",
            b"/source/__class__",
            "/tasks/٣".encode(),
            b"/tasks/1e0",
            b"/chat/..",
        ),
        b"/" + noise(source),
    )
    return Request("", written(endpoint, target=source.choice(odd)), Ending.CLOSE)


def odd_query(endpoint: Endpoint, source: random.Random) -> Request:
    values = (b"", b"x" * 300, b"x" * 60_000, b"%00", b"%ff%fe", b"%ed%a0%80", b"%", b"%zz", b"\xff", b"k3-0%0Adata:x")
    name = source.choice((b"last_event_id", b"lastEventId", b"keyword", b"%00", b"", b"x" * 1_000))
    pairs = [name + b"=" + source.choice(values) for _ in range(source.choice((1, 1, 2, 500)))]
    query = source.choice((b"&", b";", b"&&")).join(pairs)[:100_000]
    return Request("", written(endpoint, target=endpoint.path.encode() + b"?" + query), Ending.CLOSE)


# -- headers ----------------------------------------------------------------------------------------------------------

IDS = (
    *(b"x" * 100_000, b"a\0b", b"\0", b"\xe9t\xe9", b"\xff\xfe", b"\xed\xa0\x80", "🐟".encode(), b"-", b"0-0", b"k3-1"),
    *(b"earliest", b"EARLIEST", b"earliest ", b"0" * 33 + b"-1", b"k3-" + b"9" * 19, b"k3-" + b"9" * 20, b"k3--1"),
    *(b"ffffffff-ffffffff-" + b"9" * 18, b"1-1-1", b"1-0-0", b'"', b"\t", b"", b"\x7f", b"\x1b[2J", b"data: x"),
)


def odd_last_event_id(endpoint: Endpoint, source: random.Random) -> Request:
    id = source.choice((*IDS, noise(source).replace(b"\r", b"").replace(b"\n", b"")))
    fields = ((b"Last-Event-ID", id),) * source.choice((1, 1, 2, 100 if len(id) < 1_000 else 2))
    return Request("", written(endpoint, headers=fields))


def broken_header(endpoint: Endpoint, source: random.Random) -> Request:
    lines = (
        *(b"no colon", b": no name", b"a b: c", b"name : space", b" folded: line", b"a\0: b", b"a: b\0", b"\xff: \xff"),
        *(b"a: b\rc: d", b"a: b\nc: d", b"a: " + noise(source), noise(source) + b": b"),
    )
    line = source.choice(lines)
    data = written(endpoint).replace(b"\r\n", b"\r\n" + line + b"\r\n", 1)
    return Request("", data, Ending.CLOSE)


def many_headers(endpoint: Endpoint, source: random.Random) -> Request:
    count, size = source.choice(((2_000, 5), (1, 200_000), (50, 5_000)))
    fields = tuple((b"X-%d" % number, b"x" * size) for number in range(count))
    return Request("", written(endpoint, headers=fields), Ending.CLOSE)


def odd_headers(endpoint: Endpoint, source: random.Random) -> Request:
    odd: tuple[tuple[Header, ...], ...] = (
        ((b"Host", b"localhost"),) * 3,
        ((b"Host", b"evil.example"),),
        ((b"Accept", b"x" * 50_000), (b"Accept-Encoding", b"gzip;q=x, *;q=\xff")),
        ((b"Connection", b"Upgrade"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")),
        ((b"Expect", b"100-continue"), (b"Expect", b"something")),
        ((b"Range", b"bytes=0-0,5-1,99999999999999999999-"), (b"If-Modified-Since", b"never")),
        ((b"Range", b"bytes=-"), (b"If-Range", b'"x')),
        ((b"If-None-Match", b'"' * 1_000), (b"Cookie", b"a=b; " * 5_000)),
        ((b"Origin", b"null"), (b"Referer", noise(source).replace(b"\r", b"").replace(b"\n", b""))),
        ((b"X-Forwarded-For", b"::" * 1_000), (b"X-Forwarded-Proto", b"wss"), (b"Forwarded", b'for="')),
    )
    return Request("", written(endpoint, headers=source.choice(odd)), Ending.CLOSE)


def websocket(endpoint: Endpoint, source: random.Random) -> Request:
    fields: tuple[Header, ...] = (
        *((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")),
        *((b"Sec-WebSocket-Version", source.choice((b"13", b"0", b"x"))), (b"Sec-WebSocket-Key", b"AAAA")),
    )
    return Request("", written(endpoint, headers=fields, without=b"Connection"), Ending.CLOSE)


def no_or_another_host(endpoint: Endpoint, source: random.Random) -> Request:
    hosts = (b"evil.example", b"localhost.evil.example", b"", b"127.0.0.1.evil", b"\xff", b"[::", b"localhost:x:y")
    host = source.choice((None, *hosts))
    fields = () if host is None else ((b"Host", host),)
    return Request(
        "", written(endpoint, headers=fields, without=b"Host"), Ending.CLOSE, refused=host != b"localhost:x:y"
    )


# -- bodies -----------------------------------------------------------------------------------------------------------


def odd_length(endpoint: Endpoint, source: random.Random) -> Request:
    odd = (
        b"-1",
        b"+5",
        b"0x10",
        b"5.0",
        b"1e3",
        b"",
        b"five",
        b"9" * 100,
        b"18446744073709551616",
        b"5, 6",
        "٣".encode(),
    )
    fields = tuple((b"Content-Length", source.choice(odd)) for _ in range(source.choice((1, 1, 2))))
    return Request("", written(endpoint, headers=fields, without=b"Content-Length"), Ending.CLOSE, refused=True)


def two_lengths(endpoint: Endpoint, source: random.Random) -> Request:
    """What hides a second request from one of two servers."""
    odd: tuple[Header, ...] = (
        *((b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"identity")),
        *(
            (b"Transfer-Encoding", b"chunked, chunked"),
            (b"Transfer-Encoding", b"xchunked"),
            (b"Transfer-Encoding", b""),
        ),
    )
    hidden = written(Endpoint("GET", "/source/live"))
    body = endpoint.body if source.random() < 0.5 else b"0\r\n\r\n" + hidden
    return Request("", written(endpoint, headers=(source.choice(odd),), body=body), Ending.CLOSE)


def broken_chunks(endpoint: Endpoint, source: random.Random) -> Request:
    bodies = (
        *(b"x\r\nabc\r\n0\r\n\r\n", b"-5\r\nabc\r\n", b"5\r\nab", b"3\r\nabcdef\r\n0\r\n\r\n", b"\r\n\r\n"),
        *(b"f" * 40 + b"\r\n", b"3;" + b"x" * 50_000 + b"\r\nabc\r\n0\r\n\r\n", b"0\r\nTrailer: \0\r\n\r\n"),
        *(noise(source), b"3\nabc\n0\n\n"),
    )
    body = source.choice(bodies)
    fields = ((b"Transfer-Encoding", b"chunked"),)
    return Request("", written(endpoint, headers=fields, without=b"Content-Length", body=body), Ending.CLOSE)


JSON = (
    *(
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{}",
        b'{"text": null}',
        b'{"text": 5}',
        b'{"text": ""}',
        b"\xff\xfe",
    ),
    *(b'{"text": "\\ud800"}', b'{"text": "\xff"}', b'{"text": "\xed\xa0\x80"}', b'{"text": NaN}', b'{"text": 1e999}'),
    *(b'{"text": -Infinity}', b"NaN", b'{"text": ' + b"9" * 5_000 + b"}", b'{"text": "' + b"x" * 5_000 + b'"}'),
    *(b"[" * 100_000, b'{"a":' * 20_000, b'{"text": "a", "text": {}}', b'{"kind": "\\udfff"}', b'{"kind": "x"}'),
    *(
        b'{"\\ud800": 1}',
        b'{"text": ["\\ud800", NaN]}',
        b'{"kind": {"a": NaN}}',
        b'{"text": "a\\u0000b"}x',
        b"\0" * 100,
    ),
    *(
        b'{"text": "' + b"x" * 1_000_000 + b'"}',
        b"[" + b"1," * 300_000 + b"1]",
        b"\xef\xbb\xbf{}",
        b"'text'",
        b"{'a':1}",
    ),
)


def bad_json(endpoint: Endpoint, source: random.Random) -> Request:
    return Request("", written(endpoint, body=source.choice(JSON)), refused=True)


def changed_json(endpoint: Endpoint, source: random.Random) -> Request:
    body = bytearray(endpoint.body)
    for _ in range(source.randint(1, 3)):
        body[source.randrange(len(body))] = source.randrange(256)
    return Request("", written(endpoint, body=bytes(body)))


def no_json(endpoint: Endpoint, source: random.Random) -> Request:
    types = (
        b"text/plain",
        b"multipart/form-data; boundary=",
        b"application/x-www-form-urlencoded",
        b"",
        b"\xff",
        b"json",
    )
    fields = ((b"Content-Type", source.choice((*types, b"x" * 10_000))),)
    return Request("", written(endpoint, headers=fields, without=b"Content-Type"), refused=True)


# -- clients that leave -----------------------------------------------------------------------------------------------


def cut(endpoint: Endpoint, source: random.Random) -> Request:
    data = written(endpoint)
    ending = source.choice((Ending.CLOSE, Ending.RESET))
    return Request("", data[: source.randint(0, len(data))], ending)


def gone(endpoint: Endpoint, _source: random.Random) -> Request:
    return Request("", written(endpoint), Ending.RESET)


def several_at_once(endpoint: Endpoint, source: random.Random) -> Request:
    """Requests that don't wait for their answers."""
    one = written(endpoint, without=b"Connection")
    return Request("", one * source.randint(2, 20), source.choice((Ending.WAIT, Ending.CLOSE, Ending.RESET)))


Kind = Callable[[Endpoint, random.Random], Request]

OF_BODIES: tuple[Kind, ...] = (odd_length, two_lengths, broken_chunks, bad_json, changed_json, no_json)

KINDS: tuple[Kind, ...] = (
    *(no_http, broken_request_line, odd_method, odd_version, odd_target, odd_query),
    *(odd_last_event_id, broken_header, many_headers, odd_headers, websocket, no_or_another_host),
    *OF_BODIES,
    *(cut, gone, several_at_once),
)
