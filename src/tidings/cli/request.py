"""The request that `tail` and `doctor` send, from the options that they share."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from pydantic_core import from_json

from tidings.cli.ending import fail

__all__ = ["DataOption", "HeaderOption", "MethodOption", "Request", "UrlArgument", "read_request", "require_client"]

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Of the stream, with http:// or https://.")]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="A header to send; may be given several times."),
]
MethodOption = Annotated[
    str | None,
    typer.Option("-X", "--method", metavar="METHOD", help="Of the request.", show_default="GET, or POST with -d"),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "-d",
        "--data",
        metavar="DATA",
        help="The body to send: text, @FILE, or - for standard input. "
        "Its content type is application/json if it is JSON, else text/plain, unless -H says otherwise.",
    ),
]

# RFC 9110 §5.6.2 and §5.5; other characters than ASCII have no agreed meaning in a header.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent with each attempt. The names of headers are in lower case."""

    url: str
    method: str
    headers: dict[str, str]
    content: bytes | None


def require_client(command: str) -> None:
    """End the process if the HTTP client isn't installed."""
    try:
        import httpx2  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        fail(f"{command} needs {error.name}, which isn't installed: pip install 'tidings[cli]'")


def read_request(url: str, headers: list[str] | None, method: str | None, data: str | None) -> Request:
    """Check the options; end the process if one is wrong. No message repeats a header's value: it may be a secret."""
    _check_url(url)
    if method is not None and not (method.isascii() and method.isalpha()):
        fail(f"-X takes the name of an HTTP method, such as POST, not {method!r}")
    read: dict[str, str] = {}
    for header in headers or []:
        name, value = _read_header(header)
        if name in read:
            fail(f"-H gives the header {name!r} twice")
        read[name] = value
    content = None if data is None else _read_data(data)
    if content is not None:
        read.setdefault("content-type", "application/json" if _is_json(content) else "text/plain; charset=utf-8")
    return Request(url, (method or ("GET" if content is None else "POST")).upper(), read, content)


def _check_url(url: str) -> None:
    import httpx2  # noqa: PLC0415 - so that a missing extra can be named

    try:
        parts = urlsplit(url)
        complete = parts.scheme in {"http", "https"} and parts.hostname
        _ = parts.port  # ValueError if there is no such port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        fail("that is no URL; one looks like https://example.com/events")
    if not complete:
        fail("the URL has to begin with http:// or https:// and a host")


def _read_header(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon:
        fail("-H takes 'NAME: VALUE', and there is no colon in what it was given")
    if not _TOKEN.fullmatch(name):
        fail(f"-H takes 'NAME: VALUE', and {name!r} is no name of a header")
    if not _VALUE.fullmatch(value.strip()):
        fail(f"the value of the header {name!r} holds other characters than printable ASCII")
    return name.lower(), value.strip()


def _read_data(data: str) -> bytes:
    if data in {"-", "@-"}:
        if sys.stdin is None:
            fail("standard input is closed: give -d the data, or @FILE")
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        fail(f"{data[1:]!r} can't be sent: {error.strerror}")


def _is_json(content: bytes) -> bool:
    try:
        from_json(content)
    except ValueError:
        return False
    return True
