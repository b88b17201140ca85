"""Killing workers from the page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess, eventually

OpenPage = Callable[..., Visit]

COUNTED_ON = """
count => Number(document.querySelector("#counter-received").textContent.replaceAll(",", "")) >= count
"""


@pytest.fixture
def tab(shared_demo: DemoProcess, visit: OpenPage) -> Visit:
    visited = visit(shared_demo.url)
    visited.wait_for_state("connected")
    expect(visited.page.locator("#kill")).to_have_attribute("aria-disabled", "false")
    return visited


def wait_for_numbers(visited: Visit, count: int) -> None:
    visited.page.wait_for_function(COUNTED_ON, arg=visited.number("#counter-received") + count)


def is_dead(process: psutil.Process) -> bool:
    # One that has ended may still be listed, until its parent asks for it.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_counter_goes_on_and_misses_nothing(tab: Visit) -> None:
    first = tab.number("#counter")
    wait_for_numbers(tab, 15)
    assert tab.number("#counter") > first
    assert (tab.text("#counter-missing"), tab.text("#counter-twice")) == ("0", "0")


def test_a_killed_worker_costs_no_number(tab: Visit) -> None:
    for _ in range(2):
        wait_for_numbers(tab, 5)
        pid = tab.number("#worker-pid")
        worker = psutil.Process(pid)
        assert tab.text("#kill") == f"Kill worker {pid}"
        tab.page.locator("#kill").press("Enter")
        expect(tab.page.locator("#worker-pid")).not_to_have_text(str(pid))
        eventually(partial(is_dead, worker), "the worker is dead")
        expect(tab.page.locator("#kill-outcome")).to_contain_text(f"Worker {pid} is dead. Back after")
        expect(tab.page.locator("#kill-outcome")).to_contain_text("none is missing.")
        assert f"on worker {tab.text('#worker-pid')}:" in tab.text("#kill-outcome")
        wait_for_numbers(tab, 10)
        assert (tab.text("#counter-missing"), tab.text("#counter-twice")) == ("0", "0")
        assert tab.page.evaluate("document.activeElement.id") == "kill", "the focus stays where it was"
    # The browser's own words about connections that broke; the page has none.
    assert all("net::ERR_" in problem for problem in tab.problems)


def test_there_are_as_many_workers_as_before(tab: Visit) -> None:
    workers = tab.page.locator("#workers-list li b")
    expect(workers).to_have_count(2)
    before = set(workers.all_text_contents())
    killed = tab.text("#worker-pid")
    tab.page.click("#kill")
    expect(tab.page.locator("#worker-pid")).not_to_have_text(killed)
    expect(workers.filter(has_text=killed)).to_have_count(0)
    expect(workers).to_have_count(2)
    assert set(workers.all_text_contents()) - before
    expect(tab.page.locator("#workers-list .own b")).to_have_text(tab.text("#worker-pid"))


def test_a_history_that_was_lost_is_said_to_be(tab: Visit, shared_demo: DemoProcess) -> None:
    # As if the page came from before the data was deleted.
    other_log = f"{shared_demo.url}figures?last_event_id=another-7"
    tab.page.route(re.compile(r"/figures\?last_event_id="), lambda route: route.continue_(url=other_log))
    tab.page.evaluate(
        """
        async () => {
          const { figures } = await import("./streams.js");
          figures.renew();
        }
        """
    )
    expect(tab.page.locator("#kill-outcome")).to_contain_text(
        "The server says “reset” (its history began anew), so the tally begins anew."
    )
    wait_for_numbers(tab, 5)
    assert (tab.text("#counter-missing"), tab.text("#counter-twice")) == ("0", "0"), "counted from there on"


TALLY = """
async numbers => {
  const { Tally } = await import("./panels/workers.js");
  const tally = new Tally();
  numbers.forEach(number => tally.saw(number));
  return [tally.received, tally.missing, tally.twice];
}
"""


@pytest.mark.parametrize(
    ("numbers", "tally"),
    [
        ([7, 8, 9], (3, 0, 0)),
        ([7, 9], (2, 1, 0)),
        ([7, 9, 8], (3, 0, 0)),
        ([7, 9, 8, 8], (3, 0, 1)),
        ([7, 12, 12, 8], (3, 3, 1)),
    ],
)
def test_what_is_missing_or_comes_twice_would_be_counted(
    tab: Visit, numbers: list[int], tally: tuple[int, int, int]
) -> None:
    assert tuple(tab.page.evaluate(TALLY, numbers)) == tally
