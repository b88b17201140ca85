"""How many streams may be open at once, in this process and for each user."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Scope

__all__ = ["StreamLimit", "too_many_streams"]

_RETRY_AFTER_SECONDS = "5"


def too_many_streams() -> HTTPException:
    """The answer to whom there is no room for."""
    return HTTPException(503, "Too many streams, try again later.", {"retry-after": _RETRY_AFTER_SECONDS})


class StreamLimit:
    """How many streams may be open at once. It counts those of all responses that it is the `stream_limit` of.

    A stream has its place from before its source begins until that is closed. Who finds none free is answered
    `503 Service Unavailable` with `Retry-After`.

    Args:
        total: streams in this process.
        per_key: streams of one key.
        key: a plain function of the request (a `starlette.requests.HTTPConnection`) that says whose the stream is, such
            as a user or an address; who is None counts for `total` alone.

    Attributes:
        open: how many there are now.

    Raises:
        TypeError, ValueError: an argument can't be used; `per_key` and `key` go together.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        per_key: int | None = None,
        key: Callable[[HTTPConnection], Hashable] | None = None,
    ) -> None:
        for name, value in (("total", total), ("per_key", per_key)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise TypeError(f"'{name}' must be an int or None, not {value!r}")
            if value is not None and value < 1:
                raise ValueError(f"'{name}' must be at least 1, not {value!r}")
        if (per_key is None) is not (key is None):
            raise ValueError("'per_key' and 'key' go together: the key says whose a stream is")
        if key is not None and not callable(key):
            raise TypeError(f"'key' must be a function of a request, not {type(key).__name__}")
        if inspect.iscoroutinefunction(key):
            raise TypeError("'key' must be a plain function: what an `async def` returns is another key each time")
        self._total = total
        self._per_key = per_key
        self._key = key
        self.open = 0
        self._of_key: Counter[Hashable] = Counter()  # of those that have some
        self._lock = threading.Lock()  # a process may have several event loops

    def take(self, scope: Scope) -> Callable[[], None]:
        """Take a place for the stream of this connection.

        Returns:
            What gives it back; to be called once.

        Raises:
            HTTPException: 503, there is none.
        """
        key = None if self._key is None else self._key(HTTPConnection(scope))
        if inspect.isawaitable(key):
            raise TypeError("'key' must be a plain function: an awaitable is another key each time")
        with self._lock:
            if self._total is not None and self.open >= self._total:
                raise too_many_streams()
            if key is not None:
                if self._per_key is not None and self._of_key[key] >= self._per_key:
                    raise too_many_streams()
                self._of_key[key] += 1
            self.open += 1
        return partial(self._give_back, key)

    def _give_back(self, key: Hashable) -> None:
        with self._lock:
            self.open -= 1
            if key is not None:
                self._of_key[key] -= 1
                if not self._of_key[key]:
                    del self._of_key[key]
