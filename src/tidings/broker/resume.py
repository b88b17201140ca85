"""Where a subscription begins: what the id that a client was left with means for the log as it is now."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from tidings.broker.entry import NEVER, Draft, Entry, Kind, event_id, parse_id
from tidings.broker.storage import Page
from tidings.wire.encoder import encode
from tidings.wire.event import ServerSentEvent

__all__ = ["EARLIEST", "Reset", "check_last_event_id", "reset_entry", "start_of", "was_missed"]

EARLIEST: Final = "earliest"
"""In place of an id: everything that is retained."""

_REQUESTED_CHARACTERS: Final = 256
"""An id comes from a client and may be anything: so much of it is sent back."""


class Reset(StrEnum):
    """Why a client may have missed something."""

    EPOCH = "epoch"
    """Its id is of another log: the one that it knew is lost."""

    TRIMMED = "trimmed"
    """What followed its id isn't retained any more."""

    MALFORMED = "malformed"
    """Its id is none of a broker's."""

    AHEAD = "ahead"
    """Its id was never given out."""


def check_last_event_id(last_event_id: str | None) -> str | None:
    """Return the id that a subscription is to resume from; None if there is none.

    Raises:
        TypeError: it is no `str`.
    """
    if last_event_id is not None and not isinstance(last_event_id, str):
        raise TypeError(f"'last_event_id' must be a str or None, not {type(last_event_id).__name__}")
    return last_event_id or None


def start_of(requested: str | None, epoch: str) -> tuple[int | None, Reset | None]:
    """The position that an id stands for, None for the log's end; and why it stands for none of this log."""
    if requested is None:
        return None, None
    if requested == EARLIEST:
        return NEVER, None
    parsed = parse_id(requested)
    if parsed is None:
        return NEVER, Reset.MALFORMED
    if parsed[0] != epoch:
        return NEVER, Reset.EPOCH
    return parsed[1], None


def was_missed(position: int, page: Page) -> Reset | None:
    """Whether somebody who has seen everything up to a position has missed something, by what was read behind it."""
    if position > page.newest:
        return Reset.AHEAD
    if position < page.trimmed:
        return Reset.TRIMMED
    return None


def reset_entry(reason: Reset, requested: str | None, page: Page, epoch: str, channel: str) -> Entry:
    """The event that tells a client so. Its id is the position just before the first event that follows.

    So whoever resumes from it has no second reset, on one channel; and never misses anything.
    """
    first = page.entries[0].sequence if page.entries else None
    data: dict[str, Any] = {
        "reason": reason.value,
        "requested": None if requested is None else _sendable(requested),
        "oldest": None if first is None else event_id(epoch, first),
    }
    sequence = page.newest if first is None else first - 1
    draft = Draft(Kind.CONTROL, encode(ServerSentEvent(data, event="reset"))[:-1], b"\n")
    return Entry(sequence, channel, Kind.CONTROL, 0.0, draft.frame(epoch, sequence))


def _sendable(requested: str) -> str:
    # A str may hold halves of surrogate pairs, which UTF-8 can't carry.
    return requested[:_REQUESTED_CHARACTERS].encode(errors="replace").decode()
