"""Rules for the head of the answer: status, redirects and headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tidings.cli.doctor.finding import Finding, note, ok, problem, warning
from tidings.cli.doctor.record import Connection, Record
from tidings.client.http import shown

__all__ = ["check_connection", "check_headers", "check_status"]

_SLOW: Final = 2.0
"""Seconds until the head after which somebody holds it. tidings sends it after 0.1 s at the latest."""

_STATUSES: Final = {
    401: "Give the credentials with -H 'Authorization: …'. A browser's EventSource can only send cookies.",
    403: "The server knows who asks and refuses. Credentials are given with -H; a firewall may also refuse clients "
    "that are no browsers.",
    404: "Look at the path, and at what the proxy cuts off or puts before it.",
    405: "Another method may be what it wants: -X POST, or -d for a body. EventSource only sends GET.",
    406: "It doesn't want to answer with text/event-stream: the path may be another one.",
    421: "The proxy serves another host under this address.",
    429: "Too many requests or open streams: look for a limit of the proxy.",
    502: "The proxy answers, the server behind it doesn't: is it running, and on the port that the proxy uses?",
    503: "The server is overloaded, stopping, or has no room for another stream.",
    504: "The proxy waited too long for the head of the answer, which the server should send at once.",
}


def check_connection(record: Record) -> Iterator[Finding]:
    seen = record.first
    if seen.unreachable is not None:
        yield problem("connection", f"No answer: {seen.unreachable}.", "Look at the address, and whether it runs.")
        return
    if seen.head is None:
        yield problem(
            "connection",
            f"Connected after {seen.connecting:.1f} s, and then no head of an answer came.",
            "Somebody holds the head back until there is an event, or the server doesn't answer. Try a stream that "
            "sends something at once, and the server itself without the proxy.",
        )
        return
    for status, target in seen.redirects:
        yield note("redirect", f"{status} to {shown(target)}.", "Use that URL: each reconnect takes this way again.")
    yield _version(record)
    yield _time_to_head(seen)


def _version(record: Record) -> Finding:
    version = record.first.http_version
    if version == "HTTP/1.0":
        return warning(
            "http-version",
            "HTTP/1.0: a stream that was cut looks like one that has ended.",
            "Let the proxy or server speak HTTP/1.1 or newer (nginx to the server behind it: proxy_http_version 1.1).",
        )
    if version == "HTTP/1.1":
        asked = "" if record.http2 else " HTTP/2 wasn't asked for: that takes https and pip install 'httpx2[http2]'."
        return note(
            "http-version",
            "HTTP/1.1: a browser opens six connections to one host, over all tabs, and each stream takes one." + asked,
            "Let the proxy speak HTTP/2 to browsers.",
        )
    return ok("http-version", f"{version}: streams share a connection.")


def _time_to_head(seen: Connection) -> Finding:
    assert seen.head is not None
    text = f"Request sent after {seen.connecting:.2f} s, head {seen.head:.2f} s later."
    if seen.head < _SLOW:
        return ok("time-to-head", text)
    first = seen.silences[0]
    if seen.pieces and first < 0.1:
        return warning(
            "time-to-head",
            f"{text} The first bytes came with it.",
            "Either the server sends no head before it has an event, or something holds the head back until then. A "
            "page can't tell that from a server that doesn't answer. tidings sends the head and a comment at once.",
        )
    return warning("time-to-head", text, "Look at what the server does before it answers.")


def check_status(record: Record) -> Iterator[Finding]:
    status = record.first.status
    if status == 200:
        yield ok("status", "200.")
    elif status == 204:
        yield warning(
            "status",
            "204: the stream is over, and clients don't come back.",
            "Right for a channel that is finished. Try another to measure the rest.",
        )
    else:
        advice = _STATUSES.get(status, "A stream is answered with 200.")
        again = " Clients try again." if status in {429, 502, 503, 504} else " A browser doesn't try again."
        yield problem("status", f"{status}.{again}", advice)


def check_headers(record: Record) -> Iterator[Finding]:
    seen = record.first
    yield _content_type(seen)
    yield _cache_control(seen)
    yield from _accel(seen)
    yield from _length(seen)
    if record.origin is not None:
        yield _cors(seen, record.origin)


def _content_type(seen: Connection) -> Finding:
    value = seen.header("content-type")
    wanted = "Send 'Content-Type: text/event-stream'. Clients refuse anything else, and don't try again."
    if value is None:
        return problem("content-type", "There is none.", wanted)
    media_type = value.partition(";")[0].strip().lower()
    if media_type == "text/html":
        return problem("content-type", f"{value}: a page, such as one to log in or of an error.", wanted)
    if media_type != "text/event-stream":
        return problem("content-type", f"{value}.", wanted)
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", value, re.IGNORECASE)
    if charset and charset[1].lower() not in {"utf-8", "utf8"}:
        return warning("content-type", f"{value}: clients read UTF-8 all the same.", "Send UTF-8, and say so.")
    return ok("content-type", f"{value}.")


def _cache_control(seen: Connection) -> Finding:
    value = seen.header("cache-control")
    wanted = (
        "Send 'Cache-Control: no-cache' (or no-store): a cache could answer with an old stream, or wait for its end."
    )
    if value is None:
        return warning("cache-control", "There is none.", wanted)
    directives = {each.partition("=")[0].strip().lower() for each in value.split(",")}
    if not directives & {"no-cache", "no-store"}:
        return warning("cache-control", f"{value}.", wanted)
    return ok("cache-control", f"{value}.")


def _accel(seen: Connection) -> Iterator[Finding]:
    value = seen.header("x-accel-buffering")
    if value is None:
        yield note(
            "x-accel-buffering",
            "There is none. nginx takes it away when it obeys, so this is right behind nginx.",
            "Without nginx in between, send 'X-Accel-Buffering: no' from the server, for the day there is one.",
        )
    elif value.strip().lower() == "no":
        yield ok("x-accel-buffering", "no.")
    else:
        yield warning("x-accel-buffering", f"{value}: it tells nginx to collect.", "Send 'X-Accel-Buffering: no'.")


def _length(seen: Connection) -> Iterator[Finding]:
    value = seen.header("content-length")
    if value is not None:
        yield problem(
            "content-length",
            f"{value}: the answer ends there, so somebody had all of it before the first byte was sent.",
            "Look for what collects whole answers: a cache, a middleware that changes or measures bodies, a function "
            "platform without streaming. A stream has no length.",
        )


def _cors(seen: Connection, origin: str) -> Finding:
    value = seen.header("access-control-allow-origin")
    wanted = f"Send 'Access-Control-Allow-Origin: {origin}', once, as Starlette's CORSMiddleware does."
    if value is None:
        return problem("cors", f"No Access-Control-Allow-Origin: pages of {origin} can't read it.", wanted)
    if value == "*":
        return ok("cors", "Any origin may read it, without cookies.")
    if value != origin:
        return problem("cors", f"Access-Control-Allow-Origin is {value}: pages of {origin} can't read it.", wanted)
    if (seen.header("access-control-allow-credentials") or "").lower() == "true":
        return ok("cors", f"{origin} may read it, with cookies.")
    return ok("cors", f"{origin} may read it, without cookies.")
