"""A broker's URL to its storage."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from tidings.broker.memory import MemoryStorage
from tidings.broker.storage import Retention, Storage

__all__ = ["file_of", "make_storage"]

_FORMS = "memory://, sqlite:///events.db (a relative path) or sqlite:////var/lib/events.db (an absolute one)"


def make_storage(url: str, retention: Retention, timeout: float | None) -> Storage:
    """The storage that a URL names; nothing is opened.

    Args:
        url: as `Broker` takes it.
        retention: what the storage is to keep.
        timeout: seconds after which it gives an append up; None: never.

    Raises:
        TypeError: `url` is no `str`.
        ValueError: it names no storage; the message lists those there are, and repeats no password.
    """
    if not isinstance(url, str):
        raise TypeError(f"'url' must be a str, not {type(url).__name__}: {_FORMS}")
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "memory":
        _refuse(url, "memory:// has nothing behind it", rest)
        return MemoryStorage(retention)
    if separator and scheme == "sqlite":
        return _sqlite(url, rest, retention, timeout)
    raise ValueError(f"'url' must be {_FORMS}, not {_presentable(url)!r}")


def file_of(url: str) -> Path | None:
    """The file that a URL which `make_storage` takes names; None if it names none."""
    return _path(url) if url.startswith("sqlite://") else None


def _path(url: str) -> Path:
    return Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))


def _sqlite(url: str, rest: str, retention: Retention, timeout: float | None) -> Storage:
    from tidings.broker.sqlite import SQLiteStorage  # noqa: PLC0415 - so that memory:// needs no database

    location, _, query = rest.partition("?")
    slash, path = location[:1], unquote(location[1:])
    hint = f"write sqlite:///{_presentable(location)}"
    _refuse(url, f"between the slashes would be a host: {hint}", slash != "/" and location)
    _refuse(url, "sqlite:/// needs the path of a file", not path.strip("/"))
    _refuse(url, "'#' in a path is written %23", "#" in rest)
    _refuse(url, "a path can't hold a null character", "\0" in path)
    _refuse(url, "each connection would have a database of its own: use memory://", path == ":memory:")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise ValueError(f"'url' {_presentable(url)!r} can't be used: {error}") from error
    synchronous = options.pop("synchronous", "NORMAL").upper()
    _refuse(url, "synchronous must be NORMAL or FULL", synchronous not in {"NORMAL", "FULL"})
    _refuse(url, f"{', '.join(options)} is no option; synchronous is", options)
    return SQLiteStorage(_path(url), retention, synchronous=synchronous, timeout=timeout)


def _refuse(url: str, why: str, wrong: object) -> None:
    if wrong:
        raise ValueError(f"'url' {_presentable(url)!r} can't be used: {why}")


def _presentable(url: str) -> str:
    """The URL, or its scheme alone if there may be a password in it: messages end up in logs."""
    scheme = re.match(r"[\w+.-]*://", url)
    if "@" in url or (scheme is not None and scheme[0] not in {"memory://", "sqlite://"}):
        return f"{'' if scheme is None else scheme[0]}…"
    return url
