"""What the demo's streams put on the wire, read without a browser."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

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

    def take(self, count: int) -> list[ReceivedEvent]:
        return [self.next() for _ in range(count)]

    def wait_for_other_id(self) -> str:
        """Wait for a last event id that comes without an event."""
        before = self.decoder.last_event_id
        while self.decoder.last_event_id == before:
            self._read()
        return self.decoder.last_event_id

    def read(self) -> bytes:
        return self._response.read()

    def _read(self) -> None:
        data = self._response.read1()
        assert data, "the stream has ended"
        self._events += self.decoder.feed(data)


@contextmanager
def get(process: DemoProcess, path: str, **headers: str) -> Iterator[Connection]:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=DEADLINE)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        with connection.getresponse() as response:
            yield Connection(response)
    finally:
        connection.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.log"
    path.write_text("".join(f"ship {number}\n" for number in range(5)))
    return path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def lines(events: list[ReceivedEvent]) -> list[str]:
    assert {event.event for event in events} == {"logged"}
    return [event.json()["text"] for event in events]


def test_a_log_begins_with_its_opening_then_its_lines(demo: StartDemo, log: Path) -> None:
    with get(demo(follow=log), "/log") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        opening = stream.next()
        assert opening.event == "opened"
        assert opening.json() == {"file": str(log), "own": False, "resumed": False, "reason": None}
        assert lines(stream.take(5)) == [f"ship {number}" for number in range(5)]


def test_the_header_resumes_and_the_query_does_too_and_the_header_is_newer(demo: StartDemo, log: Path) -> None:
    process = demo(follow=log)
    with get(process, "/log") as stream:
        ids = [event.id for event in stream.take(6)]
    older, newer = quote(ids[1]), ids[3]
    for path, headers, seen in [
        ("/log", {"last_event_id": newer}, 3),
        (f"/log?last_event_id={older}", {}, 1),
        (f"/log?last_event_id={older}", {"last_event_id": newer}, 3),
    ]:
        with get(process, path, **headers) as stream:
            assert stream.next().json()["resumed"] is True
            assert lines(stream.take(5 - seen)) == [f"ship {number}" for number in range(seen, 5)]


def test_an_id_that_is_none_starts_over_and_says_so(demo: StartDemo, log: Path) -> None:
    with get(demo(follow=log), "/log", last_event_id="elsewhere-7") as stream:
        assert stream.next().json()["reason"] == "unknown"
        assert lines(stream.take(5))[0] == "ship 0"


def test_the_position_is_told_even_if_nothing_passes_the_filter(demo: StartDemo, log: Path) -> None:
    process = demo(follow=log)
    with get(process, "/log?keyword=submarine") as stream:
        stream.next()
        append(log, "ship 5\nship 6\n")
        position = stream.wait_for_other_id()
    append(log, "ship 7\n")
    with get(process, "/log", last_event_id=position) as stream:
        assert stream.next().json()["resumed"] is True
        assert lines(stream.take(1)) == ["ship 7"]


def test_a_log_that_is_gone_is_unavailable_until_it_is_back(demo: StartDemo, log: Path) -> None:
    process = demo(follow=log)
    log.unlink()
    with get(process, "/log") as stream:
        assert stream.status == 503
        assert json.loads(stream.read()) == {"detail": "the log can't be opened: No such file or directory"}
    append(log, "back\n")
    with get(process, "/log") as stream:
        stream.next()
        assert lines(stream.take(1)) == ["back"]


def test_a_filter_that_is_too_long_is_refused(demo: StartDemo, log: Path) -> None:
    with get(demo(follow=log), "/log?keyword=" + "x" * 201) as stream:
        assert stream.status == 422
        assert json.loads(stream.read())["detail"][0]["loc"] == ["query", "keyword"]


def test_the_machine_is_described_then_sampled_and_resumed_by_time(demo: StartDemo) -> None:
    process = demo()
    with get(process, "/machine") as stream:
        host = stream.next()
        assert host.event == "host"
        assert host.json()["cores"] > 0
        samples = stream.take(3)
    assert {sample.event for sample in samples} == {"sample"}
    times: list[Any] = [sample.json()["time"] for sample in samples]
    assert times == sorted(times)
    assert [int(sample.id) for sample in samples] == times
    with get(process, "/machine", last_event_id=samples[1].id) as stream:
        assert stream.next().event == "host"
        assert stream.next().id == samples[2].id


def test_an_id_that_is_no_time_gets_all_that_is_kept(demo: StartDemo) -> None:
    process = demo()
    with get(process, "/machine") as stream:
        first = stream.take(2)[1]
    with get(process, "/machine", last_event_id="yesterday") as stream:
        assert stream.take(2)[1].id == first.id


def test_the_streams_are_documented(demo: StartDemo) -> None:
    with get(demo(), "/openapi.json") as response:
        document = json.loads(response.read())
    assert {"/log", "/machine"} == set(document["paths"])
    names = {
        option["properties"]["event"]["const"]
        for path in document["paths"].values()
        for option in path["get"]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]["oneOf"]
    }
    assert names == {"host", "sample", "opened", "logged", "restarted"}


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/style.css", "text/css"),
        ("/main.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
    ],
)
def test_the_page_is_served_as_what_it_is_and_looked_up_anew(demo: StartDemo, path: str, content_type: str) -> None:
    with get(demo(), path) as response:
        assert response.status == 200
        assert response.headers["content-type"].split(";")[0] == content_type
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["content-security-policy"] == "default-src 'self'"


def test_another_name_for_this_machine_is_refused(demo: StartDemo) -> None:
    process = demo()
    with get(process, "/log", host="harbour.example") as response:
        assert response.status == 400
    with get(process, "/", host=f"localhost:{process.port}") as response:
        assert response.status == 200
