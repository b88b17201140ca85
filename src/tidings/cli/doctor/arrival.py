"""Rules for how the bytes arrive: whether something on the way collects or compresses them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tidings.cli.doctor.finding import Finding, ok, problem, unknown, warning
from tidings.cli.doctor.record import Burst, Connection, End, Record

__all__ = ["check_arrival"]

_TORN: Final = 0.5
"""Seconds of waiting within lines, in all, that are no accident of the network."""

_CROWD: Final = 5
"""Events in a burst, on average, that are many."""

_NO_BUFFER: Final = (
    "nginx: proxy_buffering off, or no proxy_ignore_headers X-Accel-Buffering, which hides the stream's own wish; and "
    "proxy_http_version 1.1. "
    "Caddy: flush_interval -1. Apache: flushpackets=on. A CDN: no caching, no response buffering and no inspection of "
    "bodies for this path. In the application: no middleware that reads or changes bodies."
)
_NO_COMPRESSION: Final = (
    "nginx: no text/event-stream in gzip_types. Caddy: match other types in encode. In the application: no "
    "GZipMiddleware that compresses text/event-stream. A CDN: 'Cache-Control: no-cache, no-transform' forbids it."
)


def check_arrival(record: Record) -> Iterator[Finding]:
    seen = record.first
    bursts = seen.bursts
    yield _first_bytes(seen)
    yield from _compression(seen, bursts)
    yield _buffering(seen, bursts)


def _first_bytes(seen: Connection) -> Finding:
    if seen.pieces:
        return ok("time-to-first-byte", f"{seen.pieces[0].at:.2f} s after the head.")
    return unknown("time-to-first-byte", f"Nothing came in {seen.age:.1f} s.")


def _compression(seen: Connection, bursts: list[Burst]) -> Iterator[Finding]:
    value = seen.header("content-encoding")
    if value is None:
        yield ok("content-encoding", "Not compressed, though gzip was offered.")
    elif seen.undecodable:
        yield problem("content-encoding", f"{value}, which wasn't offered, or is broken.", _NO_COMPRESSION)
    elif seen.pieces and not bursts and seen.end is not End.COMPLETED:
        size = sum(piece.size for piece in seen.pieces)
        yield problem(
            "content-encoding",
            f"{value}: {size:,} bytes came in {seen.age:.1f} s and no text could be read from them. The compressor "
            "keeps it until it has enough.",
            _NO_COMPRESSION,
        )
    else:
        yield warning(
            "content-encoding",
            f"{value}: a compressor holds memory for each open stream, and has to be flushed after each event.",
            _NO_COMPRESSION,
        )


def _buffering(seen: Connection, bursts: list[Burst]) -> Finding:
    """Whether bytes arrive as they are written.

    A buffer sends when it is full, wherever that is; an application writes whole lines. And a few bytes that
    come alone, with nothing after them for a while, did not wait for a buffer to be full.
    """
    waits = [later.begin - earlier.end for earlier, later in pairwise(bursts)]
    if bursts:
        waits.append(seen.age - bursts[-1].end)
    torn = [(burst, wait) for burst, wait in zip(bursts, waits, strict=True) if burst.torn]
    if sum(wait for _, wait in torn) >= _TORN:
        sizes = ", ".join(f"{len(burst.text):,}" for burst, _ in torn[:3])
        return problem(
            "buffering",
            f"{len(torn)} of {len(bursts)} bursts stop in the middle of a line, and the rest of it comes "
            f"{max(wait for _, wait in torn):.1f} s later. They hold {sizes} bytes{_like_a_buffer(torn[0][0])}. "
            "Something collects bytes and sends them when it is full.",
            _NO_BUFFER,
        )
    if not bursts:
        return unknown(
            "buffering",
            f"Can't be told: no byte came in {seen.age:.1f} s. Either the stream was silent, or something holds its "
            "bytes back.",
            "A stream of tidings sends its first bytes within 0.1 s, and a ping every 15 s: if this is one, something "
            "holds them back. Else measure while events are sent, or longer, with --seconds. " + _NO_BUFFER,
        )
    if len(bursts) == 1:
        return _one_burst(seen, bursts[0])
    crowd = sum(burst.events for burst in bursts[1:]) / (len(bursts) - 1)  # the first may be history
    if crowd >= _CROWD and max(waits) >= _TORN:
        return warning(
            "buffering",
            f"Events come {crowd:.0f} at a time, up to {max(waits):.1f} s apart.",
            f"If they are made one at a time, something collects them. {_NO_BUFFER}",
        )
    return ok("buffering", f"{len(seen.events)} events came in {len(bursts)} bursts, none of them cut off: they pass.")


def _one_burst(seen: Connection, burst: Burst) -> Finding:
    if burst.end - burst.begin >= _TORN:
        return ok("buffering", f"{burst.events} events came in a steady flow: they pass.")
    late = (seen.head or 0) + burst.begin
    if seen.end is End.COMPLETED and burst.events > 1 and late >= _TORN:
        return warning(
            "buffering",
            f"All {burst.events} events came at once, {late:.1f} s after the request, and the stream was over.",
            f"If they are made one at a time, something waits for the end. {_NO_BUFFER}",
        )
    if seen.end is End.COMPLETED:
        return unknown("buffering", "Can't be told: everything came at once, and the stream was over.")
    return unknown(
        "buffering",
        f"Can't be told: {len(burst.text):,} bytes came at once, and then nothing for {seen.age - burst.end:.1f} s.",
        "Measure while events are sent, or longer, with --seconds: a stream of tidings pings every 15 s.",
    )


def _like_a_buffer(burst: Burst) -> str:
    # nginx's buffers hold the framing of the server behind it as well, so a little less than their size arrives.
    for size in (4096, 8192, 16384, 32768, 65536):
        if 0.85 * size <= len(burst.text) <= size:
            return f": about the {size:,} of a usual buffer"
    return ""
