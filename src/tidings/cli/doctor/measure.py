"""Connects to a stream and writes down what comes, as it comes. What it means is for the rules to say."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx2

from tidings import __version__
from tidings.cli.doctor.record import Connection, End, Piece, Record, first_resumed
from tidings.cli.request import Request
from tidings.errors import EventTooLarge
from tidings.wire import EventDecoder

__all__ = ["measure"]

_CONNECT_TIMEOUT: Final = 10.0
_HEAD_TIMEOUT: Final = 5.0
"""Seconds at least: an answer is waited for as long as the stream is watched."""

_RESUME_SECONDS: Final = 5.0
"""What a client missed is sent at once."""

_ENOUGH: Final = 8 << 20
"""Bytes after which nothing new is to be learned."""

# As browsers ask, but for the compressions that can't be read here.
_HEADERS: Final = {
    "accept": "text/event-stream",
    "accept-encoding": "gzip",
    "cache-control": "no-cache",
    "user-agent": f"tidings/{__version__}",
}


async def measure(request: Request, seconds: float, origin: str | None) -> Record:
    """Connect, watch the stream for so many seconds, and connect again where that tells more."""
    first = await _connect(request, origin, seconds)
    again = None
    if first.status == httpx2.codes.OK and first.end is End.CUT:
        # Does it happen again, and at the same age?
        again = await _connect(request, origin, min(first.age + 2, seconds), last_event_id=_resumed_from(first))
    elif first.status == httpx2.codes.OK and first.ids:

        def resumed(again: Connection) -> bool:
            return first_resumed(first, again) is not None

        again = await _connect(request, origin, _RESUME_SECONDS, last_event_id=_resumed_from(first), enough=resumed)
    return Record(seconds, request.method, origin, _offers_http2(request), first, again)


def _resumed_from(first: Connection) -> str | None:
    """The id of the last event but one: then there is one that has to come, also if nothing happens meanwhile."""
    return first.ids[-2:][0] if first.ids else None


def _offers_http2(request: Request) -> bool:
    return urlsplit(request.url).scheme == "https" and find_spec("h2") is not None


async def _connect(
    request: Request,
    origin: str | None,
    seconds: float,
    last_event_id: str | None = None,
    enough: Callable[[Connection], bool] = lambda _: False,
) -> Connection:
    """One connection, read until its end, for so many seconds, or until there is enough."""
    seen = Connection(last_event_id)
    headers = {**_HEADERS, **({"origin": origin} if origin else {}), **request.headers}
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id
    timeout = httpx2.Timeout(None, connect=_CONNECT_TIMEOUT)
    async with httpx2.AsyncClient(timeout=timeout, http2=_offers_http2(request), follow_redirects=True) as client:
        clock = _Clock()
        built = client.build_request(
            request.method,
            request.url,
            headers=_encoded(headers),
            content=request.content,
            extensions={"trace": clock.trace},
        )
        with anyio.move_on_after(max(seconds, _HEAD_TIMEOUT)) as scope:
            try:
                response = await client.send(built, stream=True)
                _write_head(seen, response, clock)
                if seen.status == httpx2.codes.OK:
                    scope.deadline = anyio.current_time() + seconds
                    await _read(seen, response, clock, enough)
            except httpx2.RequestError as error:
                _write_error(seen, error)
            finally:
                if seen.head is not None:
                    seen.age = time.perf_counter() - clock.head
        if seen.head is None:
            seen.connecting = clock.sent - clock.begin
            if not clock.connected and seen.unreachable is None:
                seen.unreachable = "nothing answered"
    return seen


def _encoded(headers: dict[str, str]) -> dict[bytes, bytes]:
    # In UTF-8, as browsers send an id that isn't ASCII.
    return {name.encode(): value.encode() for name, value in headers.items()}


class _Clock:
    """When what happened. httpx2 follows redirects by itself: of them all the last times stay."""

    def __init__(self) -> None:
        self.begin = self.sent = self.head = time.perf_counter()
        self.connected = False

    async def trace(self, name: str, _info: object) -> None:
        if name.endswith("send_request_headers.started"):
            self.connected = True
            self.sent = time.perf_counter()
        elif name.endswith("receive_response_headers.complete"):
            self.head = time.perf_counter()


def _write_head(seen: Connection, response: httpx2.Response, clock: _Clock) -> None:
    seen.redirects = [(each.status_code, str(each.url.join(each.headers["location"]))) for each in response.history]
    seen.connecting = clock.sent - clock.begin
    seen.head = clock.head - clock.sent
    seen.url = str(response.url)
    seen.status = response.status_code
    seen.http_version = response.http_version
    seen.headers = response.headers.multi_items()


def _write_error(seen: Connection, error: httpx2.RequestError) -> None:
    what = str(error) or type(error).__name__
    if seen.head is None:
        seen.unreachable = what
    else:
        seen.end, seen.error = End.CUT, what


async def _read(
    seen: Connection, response: httpx2.Response, clock: _Clock, enough: Callable[[Connection], bool]
) -> None:
    decoder: EventDecoder | None = EventDecoder()
    decompress = _decompressor(seen)
    read = 0
    async for raw in response.aiter_raw():
        at = time.perf_counter() - clock.head
        text = decompress(raw)
        count = len(seen.events)
        if decoder is not None:
            try:
                seen.events += decoder.feed(text)
                seen.retry = decoder.retry
            except EventTooLarge as error:
                seen.events += error.events
                decoder = None
        seen.pieces.append(Piece(at, len(raw), text, len(seen.events) - count))
        read += len(raw) + len(text)
        if read > _ENOUGH or enough(seen):
            return
    seen.end = End.COMPLETED


def _decompressor(seen: Connection) -> Callable[[bytes], bytes]:
    encoding = (seen.header("content-encoding") or "identity").strip().lower()
    if encoding == "identity":
        return bytes
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        seen.undecodable = True
        return lambda _: b""
    stream: Any = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by what comes

    def decompress(raw: bytes) -> bytes:
        if seen.undecodable:
            return b""
        try:
            text: bytes = stream.decompress(raw)
        except zlib.error:
            seen.undecodable = True
            return b""
        return text

    return decompress
