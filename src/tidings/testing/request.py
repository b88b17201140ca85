"""What a test asks an application for: from arguments, as an ASGI scope and a body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from pydantic_core import to_json

if TYPE_CHECKING:
    from starlette.testclient import TestClient

__all__ = ["Request"]

_URL_CHARACTERS = "/%:@!$&'()*+,;=~"
"""What may stand in a path as it is (RFC 3986 §3.3), and the sign of what is escaped already."""


@dataclass(frozen=True)
class Request:
    """A request for a stream, as a browser's `EventSource` or a `fetch` makes it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(
        cls,
        path: str,
        *,
        method: str,
        headers: Mapping[str, str] | None,
        params: Mapping[str, Any] | None,
        json: Any,
        content: bytes | str | None,
        last_event_id: str | None,
    ) -> Request:
        """The request that these arguments of `open_stream` say."""
        if not path.startswith("/"):
            raise ValueError(f"'path' must begin with a slash, not {path!r}")
        if json is not None and content is not None:
            raise ValueError("'json' and 'content' are both the body of the request: give one of them")
        lines = {"accept": "text/event-stream"}
        if json is not None:
            lines["content-type"] = "application/json"
            content = to_json(json)
        if last_event_id:  # "If the EventSource object's last event ID string is not the empty string" (§9.2.3)
            lines["last-event-id"] = last_event_id
        lines.update((name.lower(), value) for name, value in (headers or {}).items())
        body = content.encode() if isinstance(content, str) else content or b""
        return cls(method.upper(), _with_params(path.partition("#")[0], params), list(lines.items()), body)

    def through(self, client: TestClient) -> Request:
        """The request as the client would send it: with its base URL, its headers and its cookies."""
        # A client asks for compression, which an event stream is better off without.
        headers = {name.encode(): value.encode() for name, value in [("accept-encoding", "identity"), *self.headers]}
        built = client.build_request(self.method, self.path, headers=headers, content=self.body or None)
        return Request(self.method, built.url.raw_path.decode(), built.headers.multi_items(), self.body)

    def scope(self, state: Mapping[str, Any], root_path: str = "") -> dict[str, Any]:
        """The scope of the request, as uvicorn makes it."""
        raw_path, _, query = self.path.partition("?")
        raw_path = quote(raw_path, safe=_URL_CHARACTERS)
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers]
        names = {name for name, _ in headers}
        if b"host" not in names:
            headers.insert(0, (b"host", b"testserver"))
        if self.body and b"content-length" not in names:
            headers.append((b"content-length", str(len(self.body)).encode()))
        return {
            "type": "http",
            # Before 2.4 a `send` to a client that has left does nothing. So it is with uvicorn, and an application
            # that relies on an error of `send` alone is one that goes on there.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": quote(query, safe=_URL_CHARACTERS + "?").encode(),
            "root_path": root_path,
            "headers": headers,
            "client": ("testclient", 50000),
            "server": ("testserver", 80),
            "state": dict(state),
        }

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _with_params(path: str, params: Mapping[str, Any] | None) -> str:
    if not params:
        return path
    pairs = [
        (name, _as_text(value))
        for name, values in params.items()
        for value in (values if isinstance(values, Iterable) and not isinstance(values, str | bytes) else [values])
    ]
    return f"{path}{'&' if '?' in path else '?'}{urlencode(pairs)}"


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
