"""What a test sees of a stream without waiting: the same with an event loop and without."""

from __future__ import annotations

from starlette.datastructures import Headers

from tidings.testing.exchange import Exchange
from tidings.testing.request import Request

__all__ = ["StreamView"]


class StreamView:
    """What has come of a response."""

    def __init__(self, request: Request, exchange: Exchange) -> None:
        self._request = request
        self._exchange = exchange
        self._received = exchange.received

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._request}: {self._received}>"

    @property
    def patience(self) -> float:
        """Seconds that the application may go on after its client has left: 10 unless it is set."""
        return self._exchange.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._exchange.patience = seconds

    @property
    def status(self) -> int:
        """The status code of the response."""
        assert self._received.status is not None, "the stream is not open"
        return self._received.status

    @property
    def headers(self) -> Headers:
        """The headers of the response; upper and lower case make no difference."""
        return self._received.headers

    @property
    def body(self) -> bytes:
        """The bytes of the response so far."""
        return bytes(self._received.body)

    @property
    def comments(self) -> list[str]:
        """The text of every comment so far, keep-alives among them; a `:` alone is "" here."""
        return list(self._received.comments)

    @property
    def last_event_id(self) -> str:
        """What a client that has read as far as the test would send as `Last-Event-ID`; "" before any."""
        return self._received.last_event_id

    @property
    def retry(self) -> int | None:
        """The milliseconds that the application last asked its clients to wait before they reconnect."""
        return self._received.retry

    @property
    def ended(self) -> bool:
        """Whether nothing more follows: the response is complete, it broke off, or the client has left."""
        return self._exchange.over

    @property
    def complete(self) -> bool:
        """Whether the application sent its response to the end."""
        return self._received.complete

    @property
    def blocked(self) -> bool:
        """Whether the application waits in `send` for its client to read."""
        return self._exchange.blocked
