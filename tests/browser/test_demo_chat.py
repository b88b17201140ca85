"""The demo's chat in a real browser, with the answer that is built in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess
from tidings.demo.panels.chat import TEXT

OpenPage = Callable[..., Visit]

ANSWER = " ".join(TEXT.split())


@pytest.fixture
def tab(shared_demo: DemoProcess, visit: OpenPage) -> Iterator[Visit]:
    visited = visit(shared_demo.url)
    visited.wait_for_state("connected")
    yield visited
    if button(visited).inner_text() == "Stop":
        button(visited).click()
    expect(button(visited)).to_have_text("Ask")


def button(visited: Visit) -> Locator:
    return visited.page.locator("#chat-send")


def ask(visited: Visit, question: str) -> None:
    visited.page.fill("#chat-text", question)
    visited.page.keyboard.press("Enter")
    expect(visited.page.locator("#chat .question").last).to_have_text(question)
    expect(button(visited)).to_have_text("Stop")


def answer(visited: Visit) -> str:
    return visited.page.locator("#chat .answer").last.inner_text().strip()


def wait_for_words(visited: Visit, count: int) -> None:
    visited.page.wait_for_function(
        "count => [...document.querySelectorAll('#chat .answer')].at(-1)?.textContent.split(' ').length > count",
        arg=count,
    )


def wait_for_end(visited: Visit) -> None:
    expect(button(visited)).to_have_text("Ask")


def test_an_answer_goes_on_when_the_page_is_loaded_again(tab: Visit) -> None:
    ask(tab, "Why is the sea salty?")
    wait_for_words(tab, 5)
    assert ANSWER.startswith(answer(tab))
    before = len(answer(tab))
    tab.page.reload()
    wait_for_words(tab, 10)
    assert len(answer(tab)) > before
    expect(tab.page.locator("#chat .question").last).to_have_text("Why is the sea salty?")
    wait_for_end(tab)
    assert answer(tab) == ANSWER
    assert tab.problems == []


def test_a_second_tab_shows_the_same_answer_and_can_stop_it(tab: Visit, visit: OpenPage) -> None:
    ask(tab, "<i>Both</i>?")
    wait_for_words(tab, 3)
    other = visit(tab.page.url, beside=tab)
    expect(other.page.locator("#chat .question").last).to_have_text("<i>Both</i>?")
    wait_for_words(other, 5)
    expect(button(other)).to_have_text("Stop")
    button(other).press("Enter")
    for each in (tab, other):
        wait_for_end(each)
        expect(each.page.locator("#chat .note").last).to_have_text("Stopped.")
        assert each.problems == []
    assert answer(tab) == answer(other)
    assert ANSWER.startswith(answer(tab))
    assert len(answer(tab)) < len(ANSWER)


def test_a_screen_reader_is_told_an_answer_as_a_whole(tab: Visit) -> None:
    conversation = tab.page.get_by_role("log", name="Questions and answers")
    expect(conversation).to_have_attribute("aria-busy", "false")
    ask(tab, "When?")
    expect(conversation).to_have_attribute("aria-busy", "true")
    button(tab).click()
    expect(conversation).to_have_attribute("aria-busy", "false")
