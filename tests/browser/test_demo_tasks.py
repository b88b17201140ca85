"""Tasks that go on without the page, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess

OpenPage = Callable[..., Visit]


@pytest.fixture
def tab(shared_demo: DemoProcess, visit: OpenPage) -> Iterator[Visit]:
    visited = visit(shared_demo.url)
    visited.wait_for_state("connected")
    yield visited
    for number in range(1, 5):
        # Not by the browser's own connections, all of which may be taken.
        visited.page.request.delete(f"{visited.page.url}tasks/{number}")
    expect(running(visited)).to_have_count(0)


def running(visited: Visit) -> Locator:
    return visited.page.locator("#tasks-list li[data-state=running]")


def slot(visited: Visit, number: int) -> Locator:
    return visited.page.locator("#tasks-list li").nth(number - 1)


def share(task: Locator) -> float:
    return float(task.locator("progress").get_attribute("value") or 0)


def wait_for_progress(task: Locator, beyond: float) -> None:
    bar = task.locator("progress").element_handle()
    task.page.wait_for_function("([bar, beyond]) => bar.value > beyond", arg=[bar, beyond])


def test_several_tasks_run_and_each_has_its_own_bar_and_its_end(tab: Visit) -> None:
    tab.page.locator("#task-checksum").press("Enter")
    expect(running(tab)).to_have_count(1)
    tab.page.locator("#task-compress").press("Enter")
    expect(running(tab)).to_have_count(2)
    for number, title in ((1, "Checksum"), (2, "Compress")):
        expect(slot(tab, number)).to_contain_text(title)
        wait_for_progress(slot(tab, number), 0.02)
        wait_for_progress(slot(tab, number), share(slot(tab, number)))
    for number, result in ((1, "SHA-256"), (2, "MiB")):
        expect(slot(tab, number)).to_have_attribute("data-state", "done")
        expect(slot(tab, number).locator(".share")).to_have_text("Done")
        expect(slot(tab, number).locator(".detail")).to_contain_text(result)
        assert share(slot(tab, number)) == 1
        assert slot(tab, number).get_by_role("button").count() == 0
    assert tab.problems == []


def test_a_task_goes_on_when_the_page_is_loaded_again(tab: Visit) -> None:
    tab.page.click("#task-compress")
    expect(slot(tab, 1)).to_have_attribute("data-state", "running")
    wait_for_progress(slot(tab, 1), 0.05)
    before = share(slot(tab, 1))
    tab.page.reload()
    # Behind what an earlier test left in this place.
    expect(slot(tab, 1)).to_contain_text("Compress")
    expect(slot(tab, 1)).to_have_attribute("data-state", "running")
    wait_for_progress(slot(tab, 1), before)
    # It never began again, and there is one only.
    expect(running(tab)).to_have_count(1)


def test_a_task_is_cancelled_in_all_tabs(tab: Visit, visit: OpenPage) -> None:
    other = visit(tab.page.url, beside=tab)
    tab.page.click("#task-compress")
    wait_for_progress(slot(other, 1), 0)
    slot(other, 1).get_by_role("button", name="Cancel").press("Enter")
    for each in (tab, other):
        expect(slot(each, 1)).to_have_attribute("data-state", "stopped")
        expect(slot(each, 1)).to_contain_text("Cancelled at")
        assert each.page.locator("#chat .note").count() == 0, "it is not the answer that was stopped"
    assert other.page.evaluate("document.activeElement.id") == "task-checksum", "not lost with the button"
    tab.page.click("#task-checksum")
    expect(slot(tab, 1)).to_have_attribute("data-state", "running")
    expect(slot(tab, 1)).to_contain_text("Checksum")


def test_a_fifth_task_is_refused_and_said_so(tab: Visit) -> None:
    for count in range(1, 5):
        tab.page.click("#task-checksum")
        expect(running(tab)).to_have_count(count)
    tab.page.click("#task-compress")
    expect(tab.page.get_by_role("alert").filter(has_text="All places are taken")).to_be_visible()
    slot(tab, 3).get_by_role("button", name="Cancel").click()
    expect(slot(tab, 3)).to_have_attribute("data-state", "stopped")
    tab.page.click("#task-compress")
    expect(slot(tab, 3)).to_contain_text("Compress")
    expect(tab.page.locator("#tasks-problem")).to_be_empty()
