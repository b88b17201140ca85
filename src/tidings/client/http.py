"""What the two drivers share of HTTP: the request, and which errors mean a lost connection.

A caller's client is httpx2's or httpx's own; nothing here depends on which of the two.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import PydanticSerializationError, to_json

from tidings.client.reconnect import Head, retry_after_seconds

try:
    import httpx2
except ImportError as error:
    raise ImportError("tidings.client needs httpx2: pip install 'tidings[client]'") from error

__all__ = ["Request", "head_of", "lost_connection", "new_async_client", "new_client", "shown"]

_TIMEOUT: Final = 10.0
"""Seconds for connecting, and for writing the request, where the caller gave no client."""

_HIGHEST_PORT: Final = 65_535
"""The HTTP client takes others, and fails with what is no error of a connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent again with each attempt, but for its headers."""

    method: str
    url: str
    params: Mapping[str, Any] | None
    content: bytes | None
    content_type: str | None
    read_timeout: float | None

    @classmethod
    def of(
        cls,
        url: str,
        method: str,
        params: Mapping[str, Any] | None,
        json: Any,
        content: bytes | str | None,
        read_timeout: float | None,
        has_client: bool,
    ) -> Request:
        """Check what the caller gave; `has_client`: a client of his own may make a relative URL whole."""
        if not isinstance(method, str) or not method.isascii() or not method.isalpha():
            raise ValueError(f"'method' must be the name of an HTTP method, such as 'POST', not {method!r}")
        if json is not None and content is not None:
            raise ValueError("Cannot set both 'json' and 'content': a request has one body")
        if content is not None and not isinstance(content, bytes | str):
            raise TypeError(
                f"'content' must be bytes or str, not {type(content).__name__}: it is sent again with each attempt"
            )
        if read_timeout is not None and not read_timeout > 0:
            raise ValueError(f"'read_timeout' must be a positive number of seconds, or None, not {read_timeout!r}")
        url = str(url)
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"'url' is no URL: {error}") from error
        if parsed.port is not None and parsed.port > _HIGHEST_PORT:
            raise ValueError(f"'url' has the port {parsed.port}, and the highest is {_HIGHEST_PORT}")
        if not has_client and (parsed.scheme not in {"http", "https"} or not parsed.host):
            raise ValueError(f"'url' must begin with http:// or https://, and {shown(url)!r} doesn't")
        content_type = None
        if json is not None:
            try:
                content = to_json(json)
            except PydanticSerializationError as error:
                raise TypeError(f"'json' can't be sent: {error}") from error
            content_type = "application/json"
        body = content.encode() if isinstance(content, str) else content
        return cls(method.upper(), url, params, body, content_type, read_timeout)

    def build(self, client: Any, own: Mapping[str, str | bytes], given: Mapping[str, str]) -> Any:
        """The request of one attempt: our own headers, and those that the caller gave, which win.

        But for `Last-Event-ID`: it is ours as soon as there is an event to go on from.
        """
        headers = {} if self.content_type is None else {"content-type": self.content_type}
        headers |= {name.lower(): value for name, value in given.items()}
        resumed = {name: value for name, value in own.items() if name == "last-event-id"}
        params: Any = None
        if self.params is not None or client.params:
            # Else httpx2 would put the parameters in the place of the URL's own.
            params = httpx2.URL(self.url).params.merge(self.params).multi_items()
        request = client.build_request(
            self.method, self.url, params=params, content=self.content, headers={**own, **headers, **resumed}
        )
        # The client's other timeouts hold. This one is meant for answers, and a stream may be silent for long.
        timeout = {**request.extensions.get("timeout", {}), "read": self.read_timeout}
        request.extensions = {**request.extensions, "timeout": timeout}
        return request


def new_client() -> httpx2.Client:
    """For a source that was given none. Each request sets the timeout of reading."""
    return httpx2.Client(timeout=_TIMEOUT)


def new_async_client() -> httpx2.AsyncClient:
    """For a source that was given none. Each request sets the timeout of reading."""
    return httpx2.AsyncClient(timeout=_TIMEOUT)


def head_of(response: Any) -> Head:
    """What the decisions are made by."""
    headers = response.headers
    return Head(
        response.status_code,
        headers.get("content-type", ""),
        retry_after_seconds(headers.get("retry-after"), time.time()),
    )


def lost_connection(error: Exception) -> bool:
    """Whether another attempt may succeed where this one failed.

    The exceptions of httpx2 and httpx have the same names. Everything below `TransportError` passes, but for a URL
    that neither can fetch.
    """
    names = {base.__name__ for base in type(error).__mro__ if base.__module__.partition(".")[0] in {"httpx", "httpx2"}}
    return "TransportError" in names and "UnsupportedProtocol" not in names


def shown(url: str) -> str:
    """The URL for messages: passwords and tokens stand in what is left out."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
