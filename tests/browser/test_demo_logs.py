"""The panel with the log, in a real browser."""

from __future__ import annotations

import http.server
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess, eventually

StartDemo = Callable[..., DemoProcess]
OpenPage = Callable[..., Visit]


@pytest.fixture
def log(shared_log: Path) -> Path:
    """The file that is followed, empty again."""
    shared_log.write_bytes(b"")
    return shared_log


def append(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


# -- the log ----------------------------------------------------------------------------------------------------------


def test_the_log_begins_with_the_last_lines_and_goes_on(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    append(log, *(f"ship {number}" for number in range(500)))
    visited = visit(shared_demo.url)
    visited.wait_for_line("ship 499")
    assert visited.lines() == [f"ship {number}" for number in range(300, 500)]
    append(log, "ship 500")
    visited.wait_for_line("ship 500")
    assert visited.page.inner_text("#log-file") == str(log)


def test_markup_in_a_line_is_text(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    line = "<img src=x onerror=alert(1)> & <b>bold</b>"
    append(log, line)
    visited = visit(shared_demo.url)
    visited.wait_for_line(line)
    visited.page.fill("#log-filter", "<b>")
    visited.page.wait_for_selector("#log-lines mark")
    assert visited.lines() == [line]
    assert visited.page.locator("#log-lines mark").all_text_contents() == ["<b>"]


def test_without_a_file_the_demo_shows_its_own_requests(demo: StartDemo, visit: OpenPage) -> None:
    visited = visit(demo(None, "--workers", "1").url)
    visited.look_at("logs")
    visited.page.wait_for_selector("#log-lines li >> text=/GET .log HTTP/")
    visited.page.click("#log-knock")
    visited.page.wait_for_selector("#log-lines li >> text=hello=")


def test_the_filter_filters_on_the_server(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    append(log, "a red boat", "a green boat", "a red kite")
    visited = visit(shared_demo.url)
    visited.wait_for_lines(3)
    with visited.page.expect_request("**/log?keyword=RED+boat"):
        visited.page.fill("#log-filter", "RED boat")
    visited.wait_for_line("a red boat")
    append(log, "a blue boat", "the red boat again", "a red plane")
    visited.wait_for_line("the red boat again")
    append(log, "another Red Boat")
    visited.wait_for_line("another Red Boat")
    assert visited.lines() == ["a red boat", "the red boat again", "another Red Boat"]
    visited.page.fill("#log-filter", "submarine")
    visited.page.wait_for_selector("#log-empty:visible >> text=submarine")
    visited.page.fill("#log-filter", "")
    visited.wait_for_lines(7)
    assert len(visited.lines()) == 7
    assert visited.problems == []


def test_a_paused_log_waits_and_then_shows_all(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    append(log, "before")
    visited = visit(shared_demo.url)
    visited.wait_for_lines(1)
    visited.page.click("#log-pause")
    append(log, "one", "two")
    visited.page.wait_for_selector("#log-pause >> text='Resume, 2 new'")
    assert visited.lines() == ["before"]
    visited.page.click("#log-pause")
    visited.wait_for_lines(3)
    assert visited.lines() == ["before", "one", "two"]


def test_a_new_filter_ends_a_pause(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    append(log, "a red boat", "a green boat")
    visited = visit(shared_demo.url)
    visited.wait_for_lines(2)
    visited.page.click("#log-pause")
    visited.page.fill("#log-filter", "green")
    visited.page.wait_for_selector("#log-lines mark")
    assert visited.lines() == ["a green boat"]
    assert visited.page.inner_text("#log-pause") == "Pause"


def test_a_bounded_number_of_lines_is_kept(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    visited = visit(shared_demo.url)
    visited.look_at("logs")
    visited.page.wait_for_selector("#log-empty:visible")
    append(log, *(f"ship {number}" for number in range(2500)))
    visited.wait_for_line("ship 2499")
    assert visited.lines() == [f"ship {number}" for number in range(1500, 2500)]


def test_a_rotated_log_is_followed_into_the_new_file(shared_demo: DemoProcess, visit: OpenPage, log: Path) -> None:
    append(log, "old one")
    visited = visit(shared_demo.url)
    visited.wait_for_line("old one")
    log.rename(log.with_suffix(".1"))
    append(log.with_suffix(".1"), "written after the renaming")
    append(log, "new one")
    visited.wait_for_line("new one")
    assert visited.lines() == ["old one", "written after the renaming", "new one"]
    assert len(visited.notices()) == 1


# -- restarts ---------------------------------------------------------------------------------------------------------


class Writer:
    """Appends numbered lines to a file until told to stop, each in two writes: a reader will see halves."""

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self.next = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            while not self._stop.is_set() and self.next < 900:
                file.write(f"line {self.next} of ")
                file.flush()
                file.write("the even ones\n" if self.next % 2 == 0 else "the odd ones\n")
                file.flush()
                self.next += 1
                time.sleep(0.004)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def numbered(numbers: range) -> list[str]:
    return [f"line {number} of the {'even' if number % 2 == 0 else 'odd'} ones" for number in numbers]


@pytest.mark.parametrize(
    ("signum", "keyword"), [(signal.SIGKILL, ""), (signal.SIGTERM, "even")], ids=["killed", "stopped-filtered"]
)
def test_a_restarted_server_is_resumed_without_a_line_lost_or_shown_twice(
    demo: StartDemo, visit: OpenPage, log: Path, signum: signal.Signals, keyword: str
) -> None:
    append(log, *numbered(range(100)))
    process = demo(follow=log)
    visited = visit(process.url)
    visited.wait_for_lines(100)
    if keyword:
        visited.page.fill("#log-filter", keyword)
        visited.page.wait_for_selector("#log-lines mark")
    with Writer(log, first=100) as writer:
        visited.wait_for_lines(120)
        process.stop(signum)
        visited.wait_for_state("reconnecting")
        samples = visited.samples()
        # More lines than a page begins with: one that started over would miss some.
        missed = writer.next + 500
        while writer.next < min(missed, 850):
            time.sleep(0.01)
        process.start()
        visited.wait_for_state("connected")
    append(log, *numbered(range(writer.next, 1000)))
    expected = [line for line in numbered(range(1000)) if keyword in line]
    visited.wait_for_line(expected[-1])
    assert visited.lines() == expected
    assert visited.notices() == []
    # The charts go on, too, on the clock of the new server.
    eventually(lambda: visited.samples() > samples + 2, "the charts go on")


class Busy(http.server.BaseHTTPRequestHandler):
    """What a proxy says while the server behind it is away."""

    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def busy_server(port: int) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_the_page_resumes_even_when_the_browser_gave_up(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    append(log, *numbered(range(10)))
    process = demo(log, "--workers", "1")
    visited = visit(process.url)
    visited.wait_for_lines(10)
    process.stop(signal.SIGKILL)
    # An answer of 503 ends an EventSource for good; what comes then is opened by the page, with the id in the query.
    with busy_server(process.port), visited.page.expect_request("**/log?last_event_id=*"):
        append(log, *numbered(range(10, 300)))
    process.start()
    visited.wait_for_lines(300)
    append(log, *numbered(range(300, 310)))
    visited.wait_for_lines(310)
    assert visited.lines() == numbered(range(310))


def test_a_file_replaced_during_the_outage_is_started_over_and_said_so(
    demo: StartDemo, visit: OpenPage, log: Path
) -> None:
    append(log, "old one", "old two")
    process = demo(log, "--workers", "1")
    visited = visit(process.url)
    visited.wait_for_lines(2)
    process.stop(signal.SIGKILL)
    log.rename(log.with_suffix(".1"))
    append(log, "new one", "new two")
    process.start()
    visited.wait_for_line("new two")
    assert visited.lines() == ["new one", "new two"]
    assert "replaced" in visited.notices()[0]
