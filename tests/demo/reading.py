"""How these tests read the streams of a demo that is a process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.browser.demo_process import DEADLINE, DemoProcess
from tidings.wire import EventDecoder, ReceivedEvent

StartDemo = Callable[..., DemoProcess]


class Connection:
    """One request, read event by event."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.decoder = EventDecoder()
        self._response = response
        self._events: list[ReceivedEvent] = []

    def next(self) -> ReceivedEvent:
        while not self._events:
            self._read()
        return self._events.pop(0)

    def until(self, *names: str | None) -> ReceivedEvent:
        """The next event of one of these names."""
        while (event := self.next()).event not in names:
            pass
        return event

    def rest(self) -> list[ReceivedEvent]:
        """What comes until the connection ends, or breaks."""
        try:
            while True:
                self._read()
        except (EOFError, OSError, http.client.HTTPException):
            events, self._events = self._events, []
            return events

    def read(self) -> bytes:
        return self._response.read()

    def _read(self) -> None:
        data = self._response.read1()
        if not data:
            raise EOFError("the stream has ended")
        self._events += self.decoder.feed(data)


@contextmanager
def request(process: DemoProcess, method: str, path: str, body: bytes | None, **headers: str) -> Iterator[Connection]:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=DEADLINE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        with connection.getresponse() as response:
            yield Connection(response)
    finally:
        connection.close()


def get(process: DemoProcess, path: str, **headers: str) -> Any:
    """`with get(process, "/log") as stream`."""
    return request(process, "GET", path, None, **headers)


def send(process: DemoProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    content = json.dumps(body or {}).encode()
    with request(process, method, path, content, content_type="application/json") as answer:
        return answer.status, json.loads(answer.read())
