"""The demo's page in a real browser, from a real server."""

from __future__ import annotations

import http.server
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess

StartDemo = Callable[..., DemoProcess]
OpenPage = Callable[..., Visit]

CHARTS = ["#processor-chart", "#memory-chart", "#network-chart", "#cores canvas"]

COUNT_FRAMES = """
async ({ selector, samples }) => {
  const canvas = document.querySelector(selector);
  const first = Number(canvas.dataset.samples);
  const images = new Set();
  while (Number(canvas.dataset.samples) < first + samples) {
    await new Promise(requestAnimationFrame);
    images.add(canvas.toDataURL());
  }
  return images.size;
}
"""

# Of the paper and the ink, from 0 to 255.
BRIGHTNESS = """
() => {
  const { backgroundColor, color } = getComputedStyle(document.documentElement);
  return [backgroundColor, color].map(c => c.match(/\\d+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0) / 3);
}
"""

IS_DRAWN = """
selector => {
  const canvas = document.querySelector(selector);
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.log"
    path.touch()
    return path


def append(path: Path, *lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


# -- the page ---------------------------------------------------------------------------------------------------------


def test_charts_move_smoothly(demo: StartDemo, visit: OpenPage) -> None:
    page = visit(demo().url).page
    for chart in CHARTS:
        page.wait_for_selector(f"{chart}[data-samples]")
    for chart in CHARTS:
        # More pictures than samples: it moves between them, too.
        assert page.evaluate(COUNT_FRAMES, {"selector": chart, "samples": 3}) > 4


def test_charts_show_this_machine(demo: StartDemo, visit: OpenPage) -> None:
    page = visit(demo().url).page
    page.wait_for_selector("#cores canvas[data-samples]")
    assert page.locator("#cores li").count() == psutil.cpu_count()
    assert 0 <= int(page.inner_text("#processor-now")) <= 100
    memory = psutil.virtual_memory()
    share = int(page.inner_text("#memory-note").split()[0])
    assert share == pytest.approx(100 * (memory.total - memory.available) / memory.total, abs=15)


def test_a_new_page_begins_with_the_readings_of_the_minute_before(demo: StartDemo, visit: OpenPage) -> None:
    process = demo()
    first = visit(process.url).page
    first.wait_for_function("() => document.querySelector('#processor-chart').dataset.samples > 6")
    seen = int(first.get_attribute("#processor-chart", "data-samples") or 0)
    second = visit(process.url).page
    second.wait_for_selector("#processor-chart[data-samples]")
    assert int(second.get_attribute("#processor-chart", "data-samples") or 0) >= seen


def test_charts_stand_still_between_samples_for_those_who_want_no_motion(demo: StartDemo, visit: OpenPage) -> None:
    page = visit(demo().url, reduced_motion="reduce").page
    page.wait_for_selector("#processor-chart[data-samples]")
    assert page.evaluate(COUNT_FRAMES, {"selector": "#processor-chart", "samples": 4}) <= 5


def test_the_page_asks_for_nothing_from_elsewhere_and_has_no_errors(
    demo: StartDemo, visit: OpenPage, log: Path
) -> None:
    append(log, "the ferry left on time")
    process = demo(follow=log)
    visited = visit(process.url)
    visited.wait_for_state("connected")
    visited.wait_for_lines(1)
    visited.page.wait_for_selector("#cores canvas[data-samples]")
    assert visited.problems == []
    assert visited.origins == {process.url.rstrip("/")}


def test_light_and_dark_are_both_drawn(demo: StartDemo, visit: OpenPage) -> None:
    process = demo()
    brightness = {}
    for scheme in ("light", "dark"):
        page = visit(process.url, color_scheme=scheme).page
        page.wait_for_function("() => document.querySelector('#processor-chart').dataset.samples > 3")
        brightness[scheme] = paper, ink = page.evaluate(BRIGHTNESS)
        assert abs(paper - ink) > 150, "the text must stand out"
        page.wait_for_function(IS_DRAWN, arg="#processor-chart")
    assert brightness["light"][0] > 200
    assert brightness["dark"][0] < 50


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 2200])
def test_nothing_sticks_out_at_the_side(demo: StartDemo, visit: OpenPage, tmp_path: Path, width: int) -> None:
    log = tmp_path / ("a-rather-long-name-of-a-file-" * 4 + ".log")
    append(log, "word " * 80, "x" * 900)
    visited = visit(demo(follow=log).url, viewport={"width": width, "height": 800})
    visited.wait_for_lines(2)
    visited.page.wait_for_selector("#cores canvas[data-samples]")
    assert visited.page.evaluate("document.documentElement.scrollWidth") == width
    assert visited.page.evaluate("document.querySelector('#log-scroll').scrollWidth") <= width


def test_controls_have_names_and_are_reached_by_the_keyboard(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    page = visit(demo(follow=log).url).page
    page.wait_for_selector("#connection[data-state=connected]")
    assert page.get_by_role("heading", name="tidings").is_visible()
    assert page.get_by_role("status").filter(has_text="Connected").is_visible()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached == ["skip", "log-filter", "log-pause", "log-scroll"]
    assert page.get_by_role("searchbox", name="Show only lines with this text").count() == 1
    assert page.get_by_role("button", name="Pause").count() == 1
    assert page.get_by_role("log", name="Lines of the log").count() == 1


# -- the log ----------------------------------------------------------------------------------------------------------


def test_the_log_begins_with_the_last_lines_and_goes_on(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    append(log, *(f"ship {number}" for number in range(500)))
    visited = visit(demo(follow=log).url)
    visited.wait_for_line("ship 499")
    assert visited.lines() == [f"ship {number}" for number in range(300, 500)]
    append(log, "ship 500")
    visited.wait_for_line("ship 500")
    assert visited.page.inner_text("#log-file") == str(log)


def test_markup_in_a_line_is_text(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    line = "<img src=x onerror=alert(1)> & <b>bold</b>"
    append(log, line)
    visited = visit(demo(follow=log).url)
    visited.wait_for_line(line)
    visited.page.fill("#log-filter", "<b>")
    visited.page.wait_for_selector("#log-lines mark")
    assert visited.lines() == [line]
    assert visited.page.locator("#log-lines mark").all_text_contents() == ["<b>"]


def test_without_a_file_the_demo_shows_its_own_requests(demo: StartDemo, visit: OpenPage) -> None:
    visited = visit(demo().url)
    visited.page.wait_for_selector("#log-lines li >> text=/GET .log HTTP/")
    visited.page.click("#log-knock")
    visited.page.wait_for_selector("#log-lines li >> text=hello=")


def test_the_filter_filters_on_the_server(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    append(log, "a red boat", "a green boat", "a red kite")
    visited = visit(demo(follow=log).url)
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


def test_a_paused_log_waits_and_then_shows_all(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    append(log, "before")
    visited = visit(demo(follow=log).url)
    visited.wait_for_lines(1)
    visited.page.click("#log-pause")
    append(log, "one", "two")
    visited.page.wait_for_selector("#log-pause >> text='Resume, 2 new'")
    assert visited.lines() == ["before"]
    visited.page.click("#log-pause")
    visited.wait_for_lines(3)
    assert visited.lines() == ["before", "one", "two"]


def test_a_new_filter_ends_a_pause(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    append(log, "a red boat", "a green boat")
    visited = visit(demo(follow=log).url)
    visited.wait_for_lines(2)
    visited.page.click("#log-pause")
    visited.page.fill("#log-filter", "green")
    visited.page.wait_for_selector("#log-lines mark")
    assert visited.lines() == ["a green boat"]
    assert visited.page.inner_text("#log-pause") == "Pause"


def test_a_bounded_number_of_lines_is_kept(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    visited = visit(demo(follow=log).url)
    visited.page.wait_for_selector("#log-empty:visible")
    append(log, *(f"ship {number}" for number in range(2500)))
    visited.wait_for_line("ship 2499")
    assert visited.lines() == [f"ship {number}" for number in range(1500, 2500)]


def test_a_rotated_log_is_followed_into_the_new_file(demo: StartDemo, visit: OpenPage, log: Path) -> None:
    append(log, "old one")
    visited = visit(demo(follow=log).url)
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


@pytest.mark.parametrize("keyword", ["", "even"], ids=["all-lines", "filtered"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
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
    process = demo(follow=log)
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
    process = demo(follow=log)
    visited = visit(process.url)
    visited.wait_for_lines(2)
    process.stop(signal.SIGKILL)
    log.rename(log.with_suffix(".1"))
    append(log, "new one", "new two")
    process.start()
    visited.wait_for_line("new two")
    assert visited.lines() == ["new one", "new two"]
    assert "replaced" in visited.notices()[0]


def test_charts_go_on_after_a_restart(demo: StartDemo, visit: OpenPage) -> None:
    process = demo()
    visited = visit(process.url)
    visited.page.wait_for_selector("#processor-chart[data-samples]")
    process.stop()
    visited.wait_for_state("reconnecting")
    seen = int(visited.page.get_attribute("#processor-chart", "data-samples") or 0)
    process.start()
    visited.wait_for_state("connected")
    visited.page.wait_for_function(
        "seen => document.querySelector('#processor-chart').dataset.samples > seen + 2", arg=seen
    )
