"""What a rule says of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level", "note", "ok", "problem", "unknown", "warning"]


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  # nothing to change, but good to know
    UNKNOWN = "unknown"  # what was seen doesn't tell
    WARNING = "warning"  # it works, and will cost something or break one day
    PROBLEM = "problem"  # events come late, get lost, or never come


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        check: a short name that stays the same, for scripts.
        level: how bad it is.
        seen: what was seen.
        change: what to do about it, "" if nothing.
    """

    check: str
    level: Level
    seen: str
    change: str = ""


def ok(check: str, seen: str) -> Finding:
    return Finding(check, Level.OK, seen)


def note(check: str, seen: str, change: str = "") -> Finding:
    return Finding(check, Level.NOTE, seen, change)


def unknown(check: str, seen: str, change: str = "") -> Finding:
    return Finding(check, Level.UNKNOWN, seen, change)


def warning(check: str, seen: str, change: str) -> Finding:
    return Finding(check, Level.WARNING, seen, change)


def problem(check: str, seen: str, change: str) -> Finding:
    return Finding(check, Level.PROBLEM, seen, change)
