"""A broker's URL to its storage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from tidings.broker.memory import MemoryStorage
from tidings.broker.storage import Retention, Storage

__all__ = ["file_of", "make_storage"]

_FORMS = (
    "memory://, sqlite:///events.db (a relative path), sqlite:////var/lib/events.db (an absolute one), "
    "redis://host:6379/0, rediss:// (with TLS) or unix:///run/redis.sock; valkey:// and valkeys:// are the same"
)


def make_storage(url: str, retention: Retention, namespace: str, timeout: float | None) -> Storage:
    """The storage that a URL names; nothing is opened.

    Args:
        url: as `Broker` takes it.
        retention: what the storage is to keep.
        namespace: which of the logs in one Redis.
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
    if separator and scheme in {"redis", "rediss", "unix", "valkey", "valkeys"}:
        _check_redis(url, scheme, rest)
        from tidings.broker.redis import RedisStorage  # noqa: PLC0415 - it is an extra

        return RedisStorage(url, retention, namespace=namespace, timeout=timeout)
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


# -- Redis and Valkey -------------------------------------------------------------------------------------------------

# redis-py takes many more options, and lets them win over those that the storage depends on, a retry that repeats a
# write among them. It also overlooks what it doesn't understand, such as a port 0 or a database "/one". So a URL is
# read here first, strictly; no message says more of it than its scheme and the names of options.

_OPTIONS: Final = ("db", "username", "password")
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

_VALUES: Final = {
    "db": (r"[0-9]{1,9}", "a number"),
    "ssl_cert_reqs": ("required|optional|none", "required, optional or none"),
    "ssl_check_hostname": ("(?i:true|false|yes|no|1|0)", "true or false"),
}
"""What some options may be, and how to say it."""

_ENCODED: Final = "in a user name or password '@' is written %40, ':' %3A, '/' %2F, '?' %3F, '#' %23, '%' %25, ' ' %20"


def _check_redis(url: str, scheme: str, rest: str) -> None:
    """Refuse what redis-py would misunderstand."""
    location, question, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    credentials, at, server = authority.rpartition("@")
    _refuse(url, _ENCODED, re.search(r"[\s\x00-\x1f\x7f#]", url) or "@" in credentials or "@" in path)
    _refuse(url, f"what is percent-encoded must be UTF-8; {_ENCODED}", not _is_encoded(url))
    options = _options(url, query) if question else {}
    if scheme == "unix":
        _refuse(url, "a path follows three slashes: unix:///run/redis.sock", server)
        _refuse(url, "unix:// needs the path of a socket: unix:///run/redis.sock", not path.strip("/"))
        _refuse(url, "a path can't hold a null character", "%00" in path)
    else:
        _check_server(url, scheme, server)
        _refuse(url, "behind the host stands the number of a database, as in /0", not re.fullmatch("[0-9]{0,9}", path))
        _refuse(url, "the database stands twice, in the path and as db", slash and path and "db" in options)
    tls = scheme in {"rediss", "valkeys"}
    why = "options that begin with ssl_ go with rediss:// or valkeys://, without which there is no TLS"
    _refuse(url, why, not tls and any(name in options for name in _TLS_OPTIONS))
    twice = at and ("username" in options or "password" in options)
    _refuse(url, "user name and password stand in front of the '@', or both in the query", twice)
    try:
        urlsplit(url)
    except ValueError:  # it has more rules for a host, and repeats the password
        raise ValueError(f"'url' {_presentable(url)!r} can't be used: its host is none; {_ENCODED}") from None


def _check_server(url: str, scheme: str, server: str) -> None:
    host = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?", server)
    _refuse(url, f"it needs a host: {scheme}://localhost:6379/0", not server or server.startswith(":"))
    wrong = f"it needs a host, and maybe a port from 1 to 65535: {scheme}://localhost:6379/0; {_ENCODED}"
    _refuse(url, wrong, host is None or not 1 <= int(host[2] or 6379) <= 65_535)


def _options(url: str, query: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:  # it repeats what it can't read
        pairs = []
    options = dict(pairs)
    _refuse(url, f"behind '?' stand options, as in ?db=1&password=…; {_ENCODED}", not pairs)
    _refuse(url, "an option stands twice", len(options) < len(pairs))
    allowed = (*_OPTIONS, *_TLS_OPTIONS)
    # An '@' may be the end of a password that holds a '?'.
    unknown = "" if "@" in query else " ".join(name for name in options if name not in allowed)
    why = f"{unknown or 'what stands behind the question mark'} is no option; {', '.join(allowed)} are"
    _refuse(url, why, not options.keys() <= set(allowed))
    for name, value in options.items():
        pattern, values = _VALUES.get(name, (".+", "something"))
        _refuse(url, f"{name} must be {values}", not re.fullmatch(pattern, value))
    return options


def _is_encoded(url: str) -> bool:
    try:
        unquote(url, errors="strict")
    except UnicodeDecodeError:
        return False
    return not re.search("%(?![0-9A-Fa-f]{2})", url)


def _refuse(url: str, why: str, wrong: object) -> None:
    if wrong:
        raise ValueError(f"'url' {_presentable(url)!r} can't be used: {why}")


def _presentable(url: str) -> str:
    """The URL, or its scheme alone if there may be a password in it: messages end up in logs."""
    scheme = re.match(r"[\w+.-]*://", url)
    if "@" in url or (scheme is not None and scheme[0] not in {"memory://", "sqlite://"}):
        return f"{'' if scheme is None else scheme[0]}…"
    return url
