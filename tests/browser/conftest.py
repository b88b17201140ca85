"""A headless Chromium, and demos for it to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.demo_process import DEADLINE, DemoProcess
from tests.demo import conftest as demos

demo = demos.demo  # a fixture

CHROMIUM = Path("/usr/bin/chromium")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Of the module, not of the session: Playwright's loop runs in this thread as long as it is open, and the tests of other
# modules have loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        # Not skipped: what no machine has run would look as if it had passed.
        pytest.fail(f"{CHROMIUM} is missing, which the tests of the page need: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        # What a page shows may take as long as everything else here.
        expect.set_options(timeout=DEADLINE * 1000)
        try:
            yield browser
        finally:
            expect.set_options(timeout=None)
            browser.close()


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the shared demo follows."""
    path = tmp_path_factory.mktemp("log") / "harbour.log"
    path.touch()
    return path


@pytest.fixture(scope="module")
def shared_demo(tmp_path_factory: pytest.TempPathFactory, shared_log: Path) -> Iterator[DemoProcess]:
    """One demo for all tests of a module that do it no harm: starting one takes its time."""
    process = DemoProcess(tmp_path_factory.mktemp("demo"), shared_log)
    process.start()
    yield process
    process.stop()


class Visit:
    """A page of the demo in a tab of its own, and all that the browser had to say about it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.origins: set[str] = set()
        page.set_default_timeout(DEADLINE * 1000)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._note_request)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _note_request(self, request: Request) -> None:
        self.origins.add("/".join(request.url.split("/")[:3]))

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def number(self, selector: str) -> int:
        return int(self.text(selector).replace(",", ""))

    def samples(self) -> int:
        """How many the charts have been given."""
        return int(self.page.get_attribute("#processor-chart", "data-samples") or 0)

    def look_at(self, panel: str) -> None:
        """Scroll to a panel: some are live only while they are in sight."""
        self.page.locator(f"#{panel}").scroll_into_view_if_needed()

    def lines(self) -> list[str]:
        """The lines of the log that are shown, notices left out."""
        script = "() => [...document.querySelectorAll('#log-lines li:not(.notice)')].map(item => item.textContent)"
        lines: list[str] = self.page.evaluate(script)
        return lines

    def notices(self) -> list[str]:
        return self.page.locator("#log-lines .notice").all_text_contents()

    def wait_for_lines(self, count: int) -> None:
        self.look_at("logs")
        self.page.wait_for_function(
            "count => document.querySelectorAll('#log-lines li:not(.notice)').length >= count", arg=count
        )

    def wait_for_line(self, text: str) -> None:
        self.look_at("logs")
        self.page.wait_for_function(
            "text => document.querySelector('#log-lines li:not(.notice):last-child')?.textContent === text", arg=text
        )

    def wait_for_state(self, state: str) -> None:
        self.page.wait_for_selector(f"#connection[data-state={state}]")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Open a page: `visit(url, color_scheme="dark")`, with the options of Playwright's contexts.

    With `beside=another` it is a second tab of the same browser, which shares its connections and its visibility.
    """
    visits: list[Visit] = []
    contexts: list[BrowserContext] = []

    def open_page(url: str, beside: Visit | None = None, **options: Any) -> Visit:
        context = browser.new_context(**options) if beside is None else beside.page.context
        contexts.append(context)
        visit = Visit(context.new_page())
        visits.append(visit)
        visit.page.goto(url)
        return visit

    yield open_page
    for visit in visits:
        print(visit.page.url, *visit.problems, sep="\n  ")  # pytest shows it if the test failed
    for context in contexts:
        context.close()
