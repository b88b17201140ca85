"""A broker's URL to its storage."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tidings.broker.memory import MemoryStorage
from tidings.broker.storage import Retention, Storage

__all__ = ["make_storage"]

_FORMS = "memory://, sqlite:///events.db (a relative path) or sqlite:////var/lib/events.db (an absolute one)"


def make_storage(url: str, retention: Retention, timeout: float | None) -> Storage:
    """The storage that a URL names; nothing is opened.

    Args:
        url: as `Broker` takes it.
        retention: what the storage is to keep.
        timeout: seconds after which it gives an append up; None: never.

    Raises:
        TypeError: `url` is no `str`.
        ValueError: it names no storage; the message lists those there are.
    """
    if not isinstance(url, str):
        raise TypeError(f"'url' must be a str, not {type(url).__name__}: {_FORMS}")
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ValueError(f"'url' is none: {error}") from error
    match parts.scheme:
        case "memory":
            _refuse(
                url, bool(parts.netloc or parts.path or options or parts.fragment), "memory:// has nothing behind it"
            )
            return MemoryStorage(retention)
        case "sqlite":
            return _sqlite(url, parts.netloc, unquote(parts.path), options, retention, timeout)
        case _:
            raise ValueError(f"'url' must be {_FORMS}, not {url!r}")


def _sqlite(
    url: str, host: str, path: str, options: dict[str, str], retention: Retention, timeout: float | None
) -> Storage:
    from tidings.broker.sqlite import SQLiteStorage  # noqa: PLC0415 - so that memory:// needs no database

    _refuse(url, bool(host), f"two slashes and a host: write sqlite:///{host}{path}")
    _refuse(url, path in {"", "/"}, "sqlite:/// needs the path of a file")
    _refuse(url, path == "/:memory:", "a database in memory can't be shared by connections: use memory://")
    synchronous = options.pop("synchronous", "NORMAL").upper()
    _refuse(url, synchronous not in {"NORMAL", "FULL"}, "synchronous must be NORMAL or FULL")
    _refuse(url, bool(options), f"unknown: {', '.join(options)}; there is synchronous")
    return SQLiteStorage(Path(path.removeprefix("/")), retention, synchronous=synchronous, timeout=timeout)


def _refuse(url: str, wrong: bool, why: str) -> None:
    if wrong:
        raise ValueError(f"'url' {url!r} can't be used: {why}")
