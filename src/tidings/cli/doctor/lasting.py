"""Rules for how long a stream lives: keep-alives, and who cuts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tidings.cli.doctor.finding import Finding, note, ok, problem, unknown, warning
from tidings.cli.doctor.record import Connection, End, Record

__all__ = ["check_lasting"]

_USUAL: Final = 55.0
"""Seconds of silence that most proxies allow: nginx and most load balancers 60, some platforms 55."""

_EXPECTED: Final = 16.0
"""WHATWG HTML §9.2.7 recommends "a comment line (one starting with a ':' character) every 15 seconds or so"."""

_KEEP_ALIVE: Final = (
    "Send a comment when there is nothing else to send: ping_interval=15 of EventSourceResponse, which is its default. "
    "Proxies and load balancers cut connections that are silent for about 60 s, some sooner."
)


def check_lasting(record: Record) -> Iterator[Finding]:
    seen = record.first
    yield _keep_alive(seen)
    yield _ending(seen, record.second)


def _keep_alive(seen: Connection) -> Finding:
    comments = len(re.findall(rb"^:.*$", seen.body, re.MULTILINE))
    longest = max(seen.silences)
    text = f"The longest silence was {longest:.1f} s, and {comments} {'comment' if comments == 1 else 'comments'} came."
    if longest >= _EXPECTED:
        return (problem if longest >= _USUAL else warning)("keep-alive", text, _KEEP_ALIVE)
    if comments > 1:
        return ok("keep-alive", text)
    return unknown(
        "keep-alive", f"{text} Too short to see a keep-alive.", "Measure a silent stream for longer: --seconds 20."
    )


def _ending(seen: Connection, again: Connection | None) -> Finding:
    if seen.end is End.STOPPED:
        return ok("cut", f"It was still open after {seen.age:.1f} s.")
    if seen.end is End.COMPLETED:
        return note(
            "cut",
            f"The server ended it, in order, after {seen.age:.1f} s. Clients come back"
            f"{'' if seen.retry is None else f' after {seen.retry / 1000:g} s'}.",
            "Right for a stream that is finite: answer the next request with 204, and they stay away. Else look for "
            "what ends it.",
        )
    silence = seen.silences[-1]
    text = f"Cut after {seen.age:.1f} s, {silence:.1f} s after the last byte ({seen.error})."
    if again is None or again.end is not End.CUT:
        return problem("cut", text, f"A proxy's time limit, or a server that failed: look at their logs. {_KEEP_ALIVE}")
    text += f" And again after {again.age:.1f} s, {again.silences[-1]:.1f} s after the last byte."
    outlived = max(seen.silences[:-1], default=0.0)
    if silence >= 1 and silence > 1.2 * outlived and _close(silence, again.silences[-1]):
        return problem(
            "cut",
            f"{text} Something allows {silence:.0f} s of silence.",
            f"Ping more often than that, or allow more (nginx: proxy_read_timeout 60s). {_KEEP_ALIVE}",
        )
    if _close(seen.age, again.age):
        return problem(
            "cut",
            f"{text} Always at the same age, whatever is sent.",
            "A limit on the whole request: of a function platform, a load balancer or a server's worker timeout. Raise "
            "it, or end streams yourself before it: max_duration of EventSourceResponse, after which clients resume.",
        )
    return problem("cut", text, "Look at the logs of the server and the proxy: something fails.")


def _close(first: float, second: float) -> bool:
    return abs(first - second) <= max(0.3, 0.15 * first)
