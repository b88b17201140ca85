"""The news desk, in two tabs of a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess

OpenPage = Callable[..., Visit]

# Of each headline from the newest on: its text, and whether it is marked.
HEADLINES = """
() => [...document.querySelectorAll("#news-list li")]
  .map(item => [item.querySelector(".text").textContent, item.classList.contains("replayed")])
"""


def publish(visited: Visit, *texts: str) -> None:
    """By the keyboard alone."""
    for text in texts:
        visited.page.fill("#news-text", text)
        with visited.page.expect_response("**/news") as answer:
            visited.page.keyboard.press("Enter")
        assert answer.value.ok


def newest(visited: Visit, count: int) -> list[tuple[str, bool]]:
    return [(text, marked) for text, marked in visited.page.evaluate(HEADLINES)[:count]]


def wait_for(visited: Visit, text: str) -> None:
    expect(visited.page.locator("#news-list li .text").first).to_have_text(text)


@pytest.fixture
def tabs(shared_demo: DemoProcess, visit: OpenPage) -> tuple[Visit, Visit]:
    first = visit(shared_demo.url)
    second = visit(shared_demo.url, beside=first)
    for tab in (first, second):
        tab.wait_for_state("connected")
    return first, second


def test_a_headline_is_in_every_tab(tabs: tuple[Visit, Visit]) -> None:
    publish(tabs[0], "<b>Harbour</b> & town", "Snow on the pass")
    for tab in tabs:
        wait_for(tab, "Snow on the pass")
        assert newest(tab, 2) == [("Snow on the pass", False), ("<b>Harbour</b> & town", False)]


def test_a_tab_that_comes_later_has_what_was_published_before(tabs: tuple[Visit, Visit], visit: OpenPage) -> None:
    publish(tabs[0], "Before it came")
    later = visit(tabs[0].page.url, beside=tabs[0])
    wait_for(later, "Before it came")
    assert newest(later, 1) == [("Before it came", False)], "nothing was missed, so nothing is marked"


def test_readers_are_counted_over_all_workers(tabs: tuple[Visit, Visit]) -> None:
    first, second = tabs
    for tab in tabs:
        expect(tab.page.locator("#news-readers")).to_have_text("2 readers")
    second.page.close()
    expect(first.page.locator("#news-readers")).to_have_text("1 reader")
    expect(first.page.locator("#news-workers")).to_have_text("on 2 workers")


def test_what_a_tab_missed_while_it_was_cut_is_replayed_and_marked(tabs: tuple[Visit, Visit]) -> None:
    cut, other = tabs
    publish(other, "before")
    wait_for(cut, "before")
    cut.page.locator("#news-cut").press("Enter")
    expect(cut.page.locator("#news-cut")).to_contain_text("Back in")
    cut.wait_for_state("cut")
    publish(other, "one", "two", "three")
    wait_for(other, "three")
    assert newest(cut, 1) == [("before", False)], "it is cut"
    expect(other.page.locator("#news-readers")).to_have_text("1 reader")
    wait_for(cut, "three")
    cut.wait_for_state("connected")
    expect(cut.page.locator("#news-return")).to_contain_text("3 headlines were replayed.")
    publish(other, "after")
    wait_for(cut, "after")
    texts = ["after", "three", "two", "one", "before"]
    assert newest(cut, 5) == [(text, text in ("one", "two", "three")) for text in texts]
    assert newest(other, 5) == [(text, False) for text in texts]
    expect(other.page.locator("#news-readers")).to_have_text("2 readers")
    assert cut.page.evaluate("document.activeElement.id") == "news-cut", "the focus stays where it was"
    expect(cut.page.locator("#news-cut")).to_contain_text("connection")
    assert cut.problems == []


def test_nothing_is_published_but_text(tabs: tuple[Visit, Visit]) -> None:
    tab = tabs[0]
    publish(tab, "something")
    wait_for(tab, "something")
    tab.page.fill("#news-text", "   ")
    tab.page.click("#news-publish")
    publish(tab, "something else")
    wait_for(tab, "something else")
    assert [text for text, _ in newest(tab, 2)] == ["something else", "something"]
