"""The panel with the charts, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess

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

# Read in one go: the sum and what it is the sum of.
FLEET = """
() => ({
  total: Number(document.querySelector("#streams-now").textContent),
  workers: [...document.querySelectorAll("#workers-list li")].map(item => parseInt(item.children[1].textContent)),
})
"""


def test_charts_move_smoothly(shared_demo: DemoProcess, visit: OpenPage) -> None:
    page = visit(shared_demo.url).page
    for chart in CHARTS:
        page.wait_for_selector(f"{chart}[data-samples]")
    for chart in CHARTS:
        # More pictures than samples: it moves between them, too.
        assert page.evaluate(COUNT_FRAMES, {"selector": chart, "samples": 3}) > 4


def test_charts_show_this_machine(shared_demo: DemoProcess, visit: OpenPage) -> None:
    page = visit(shared_demo.url).page
    page.wait_for_selector("#cores canvas[data-samples]")
    assert page.locator("#cores li").count() == psutil.cpu_count()
    assert 0 <= int(page.inner_text("#processor-now")) <= 100
    memory = psutil.virtual_memory()
    share = int(page.inner_text("#memory-note").split()[0])
    assert share == pytest.approx(100 * (memory.total - memory.available) / memory.total, abs=15)


def test_a_new_page_begins_with_the_readings_of_the_minute_before(shared_demo: DemoProcess, visit: OpenPage) -> None:
    first = visit(shared_demo.url)
    first.page.wait_for_function("() => document.querySelector('#processor-chart').dataset.samples > 6")
    seen = first.samples()
    second = visit(shared_demo.url)
    second.page.wait_for_selector("#processor-chart[data-samples]")
    assert second.samples() >= seen


def test_charts_stand_still_between_samples_for_those_who_want_no_motion(
    shared_demo: DemoProcess, visit: OpenPage
) -> None:
    page = visit(shared_demo.url, reduced_motion="reduce").page
    page.wait_for_selector("#processor-chart[data-samples]")
    assert page.evaluate(COUNT_FRAMES, {"selector": "#processor-chart", "samples": 4}) <= 5


def test_the_figures_of_the_server_are_the_sum_over_its_workers(shared_demo: DemoProcess, visit: OpenPage) -> None:
    first = visit(shared_demo.url).page
    expect(first.locator("#workers-list li")).to_have_count(2)
    tabs, fleet = 1, first.evaluate(FLEET)
    # Which worker accepts a connection is the system's choice: some tabs later both have.
    while min(fleet["workers"]) == 0 or fleet["total"] < 2 * tabs:
        assert tabs < 30, "one worker serves everything"
        if fleet["total"] == 2 * tabs:
            visit(shared_demo.url).wait_for_state("connected")
            tabs += 1
        # Each tab has two: the log is out of sight.
        first.wait_for_function(f"streams => ({FLEET})().total >= streams", arg=2 * tabs)
        fleet = first.evaluate(FLEET)
    assert sum(fleet["workers"]) == fleet["total"] == 2 * tabs
    assert int(first.inner_text("#events-now")) > 0
    assert first.inner_text("#bytes-unit") in ("B/s", "kB/s", "MB/s")


def test_a_tab_that_is_out_of_sight_gives_its_connections_back(shared_demo: DemoProcess, visit: OpenPage) -> None:
    watching, other = visit(shared_demo.url), visit(shared_demo.url)
    for tab in (watching, other):
        tab.wait_for_state("connected")
    expect(watching.page.locator("#streams-now")).to_have_text("4")
    hide(other, hidden=True)
    expect(watching.page.locator("#streams-now")).to_have_text("3")
    seen = other.number("#counter")
    hide(other, hidden=False)
    expect(watching.page.locator("#streams-now")).to_have_text("4")
    other.page.wait_for_function(
        "seen => Number(document.querySelector('#counter').textContent.replace(',', '')) > seen + 5", arg=seen
    )
    expect(other.page.locator("#kill-outcome")).to_contain_text("This tab was in the background. Back after")
    assert (other.text("#counter-missing"), other.text("#counter-twice")) == ("0", "0")


def test_two_tabs_that_hold_all_six_connections_can_still_ask_for_something(
    shared_demo: DemoProcess, visit: OpenPage
) -> None:
    first = visit(shared_demo.url)
    second = visit(shared_demo.url, beside=first)
    for tab in (first, second):
        tab.look_at("logs")
        tab.page.wait_for_selector("#log-empty:visible")
    expect(first.page.locator("#streams-now")).to_have_text("6")
    headline = second.page.input_value("#news-text")
    # Not by hand: the log would be scrolled out of sight.
    second.page.evaluate("document.querySelector('#news-form').requestSubmit()")
    for tab in (first, second):
        expect(tab.page.locator("#news-list .text").first).to_have_text(headline)
    expect(first.page.locator("#streams-now")).to_have_text("6")
    expect(second.page.locator("#kill-outcome")).to_contain_text("The connection made way for a request. Back after")
    assert (second.text("#counter-missing"), second.text("#counter-twice")) == ("0", "0")


def hide(visited: Visit, *, hidden: bool) -> None:
    """What a browser does when another tab is opened in front: a headless one has no front."""
    visited.page.evaluate(
        """
        hidden => {
          Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }
        """,
        hidden,
    )
