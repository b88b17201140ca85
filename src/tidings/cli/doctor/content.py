"""Rules for what the stream says: whether clients read it, and whether they can resume."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tidings.cli.doctor.finding import Finding, note, ok, problem, unknown, warning
from tidings.cli.doctor.record import Connection, End, Record, first_resumed
from tidings.wire import ReceivedEvent

__all__ = ["check_content"]

_FIELDS: Final = {"data", "event", "id", "retry"}


def check_content(record: Record) -> Iterator[Finding]:
    seen = record.first
    yield from _format(seen)
    yield _resuming(record)
    yield _retry(seen)


def _format(seen: Connection) -> Iterator[Finding]:
    """What clients drop or read in another way than it was meant."""
    body = seen.body
    if not body:
        return
    found = list(_oddities(body))
    if b"data" in body and not seen.events and len(body) > 1 and seen.end is not End.STOPPED:
        found.append(
            problem("format", "No event was complete at the end.", "End each event with an empty line, the last too.")
        )
    yield from found or [ok("format", f"{len(body):,} bytes, {len(seen.events)} events: valid.")]


def _oddities(body: bytes) -> Iterator[Finding]:
    # What is unfinished may have been cut off by the end of the measurement.
    complete = body[: max(body.rfind(b"\n"), body.rfind(b"\r")) + 1]
    if complete.startswith(b"\xef\xbb\xbf"):
        yield note("format", "It begins with a byte order mark, which clients drop.")
        complete = complete[3:]
    try:
        complete.decode()
    except UnicodeDecodeError as error:
        yield warning("format", f"Invalid UTF-8 at byte {error.start:,}: clients put '\ufffd' there.", "Send UTF-8.")
    if re.search(rb"\r(?!\n)", complete):
        yield warning(
            "format",
            "A CR without LF ends lines, also within data.",
            "Split data at CR, LF and CRLF into a data: line each, as tidings does.",
        )
    lines = re.split(r"\r\n|\r|\n", complete.decode("utf-8", "replace"))
    fields = [line.partition(":") for line in lines if line and not line.startswith(":")]
    foreign = sorted({name for name, _, _ in fields if name not in _FIELDS})
    if foreign:
        shown = ", ".join(repr(name[:40]) for name in foreign[:3])
        yield warning(
            "format",
            f"Lines that clients ignore: their fields are {shown}{' and others' if len(foreign) > 3 else ''}.",
            "A line is data:, event:, id:, retry: or a comment that begins with a colon. Each line of data takes a "
            "data: of its own.",
        )
    retries = [value.removeprefix(" ") for name, _, value in fields if name == "retry"]
    if any(not re.fullmatch("[0-9]+", value) for value in retries):
        yield warning("format", "A retry: that isn't made of digits is ignored.", "Send whole milliseconds.")
    if any(name == "id" and "\0" in value for name, _, value in fields):
        yield warning("format", "An id: with a NUL in it is ignored.", "Leave it out.")


def _retry(seen: Connection) -> Finding:
    if seen.retry is None:
        return note("retry", "No retry: clients choose when to come back, most of them after 3 s.")
    if seen.retry > 60_000:
        return warning("retry", f"{seen.retry} ms.", "It counts milliseconds; this is over a minute.")
    return ok("retry", f"{seen.retry} ms.")


def _resuming(record: Record) -> Finding:
    """Whether what follows an id comes again after reconnecting with it, and nothing else."""
    ids, again = record.first.ids, record.second
    if not record.first.events:
        return unknown("resuming", "Can't be told: no event came.")
    if not ids:
        return note(
            "resuming",
            "The events have no ids: what is sent while a client is away, it doesn't get.",
            "Fine for readings that the next one replaces. Else give them ids (with_ids, or a Broker's channel).",
        )
    if again is None or again.last_event_id is None:
        return unknown("resuming", "Can't be told: it wasn't connected to again.")
    if again.status != 200:
        return _refused(ids, again.last_event_id, again)
    event = first_resumed(record.first, again)
    if event is None:
        return _nothing(ids, again.last_event_id, again)
    return _first_after(ids, again.last_event_id, event)


_READ_IT: Final = (
    "Read the header Last-Event-ID and go on after it (LastEventId of tidings.fastapi, and with_ids or a Broker); and "
    "let the proxy pass it on."
)


def _refused(ids: list[str], given: str, again: Connection) -> Finding:
    if again.status == 204 and len(ids) == 1:
        return ok("resuming", f"After {given!r} there is nothing, and the answer is 204.")
    answer = again.status or again.unreachable or "none"
    return problem("resuming", f"With Last-Event-ID {given!r} the answer is {answer}.", _READ_IT)


def _nothing(ids: list[str], given: str, again: Connection) -> Finding:
    if len(ids) == 1 or again.end is not End.STOPPED:
        return unknown("resuming", f"Nothing followed after {given!r} in {again.age:.1f} s.")
    return problem(
        "resuming", f"After {given!r}, event {ids[-1]!r} didn't come again: what is missed is lost.", _READ_IT
    )


def _first_after(ids: list[str], given: str, first: ReceivedEvent) -> Finding:
    if first.event == "reset":
        return note("resuming", f"After {given!r} the server says that events may be missing (reset): {first.data}.")
    if len(ids) > 1 and first.id == ids[-1]:
        return ok("resuming", f"After {given!r} came {first.id!r}, as before.")
    if first.id in ids:
        return problem("resuming", f"After {given!r} came {first.id!r} again, which was read before.", _READ_IT)
    if len(ids) == 1:
        return unknown(
            "resuming", f"After {given!r} came {first.id!r}, which is new; whether any is missing can't be told."
        )
    return problem(
        "resuming", f"After {given!r} came {first.id!r}, and not {ids[-1]!r}: what is missed is lost.", _READ_IT
    )
