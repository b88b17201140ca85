"""Take the pictures of the demo that the docs show: `python tools/screenshots.py`, after `make test`."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import ARGUMENTS, CHROMIUM  # noqa: E402
from tests.browser.demo_process import DemoProcess  # noqa: E402

IMAGES = ROOT / "docs" / "images"

MINUTE = 62_000
"""Milliseconds until the charts are full."""

LINES = (
    "INFO  line 4  tram 112 leaves Harbour Square",
    "INFO  line 7  tram 318 arrives at University, 2 passengers with bicycles",
    "WARN  line 4  tram 112 is 3 minutes late",
    "INFO  line 1  tram 120 leaves Central Station",
    "INFO  depot   tram 305 is charged to 92 %",
    "WARN  line 7  doors of tram 318 blocked for 20 s",
)

HEADLINES = (
    "Library open until ten, the lift works again",
    "The market moves to the square on Saturday",
    "First snow on the pass, chains required",
)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.gettempdir()) / "trams"  # its name is in the picture
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log = folder / "trams.log"
    draw = random.Random(7)  # noqa: S311 - the same picture each time
    with log.open("w") as file:
        for second in range(60):
            file.write(f"2026-05-04T08:{second // 6:02}:{second % 6 * 10:02} {draw.choice(LINES)}\n")
    demo = DemoProcess(folder, log)
    demo.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            other = browser.new_page()
            other.goto(demo.url)
            other.wait_for_timeout(MINUTE)
            take(browser, demo.url, other, "light", "")
            take(browser, demo.url, other, "dark", "-dark")
            browser.close()
    finally:
        demo.stop()


def take(browser: Browser, url: str, other: Page, scheme: Literal["light", "dark"], suffix: str) -> None:
    """A tab that has lost its worker and was cut off, with two tasks and an answer in the middle."""
    page = browser.new_page(viewport={"width": 1200, "height": 1000}, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector("#connection[data-state=connected]")
    page.click("#kill")
    expect(page.locator("#kill-outcome")).to_contain_text("none is missing", timeout=10_000)
    for kind in ("checksum", "compress"):
        page.click(f"#task-{kind}")
    page.click("#news-cut")
    for headline in HEADLINES:
        other.fill("#news-text", headline)
        other.click("#news-publish")
    expect(page.locator("#news-return")).to_contain_text("replayed.", timeout=10_000)
    page.click("#chat-send")
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.locator("#logs").scroll_into_view_if_needed()
    page.wait_for_selector("#log-lines li")
    for name, first, last in (("demo", "live", "workers"), ("demo-tasks", "tasks", "logs")):
        page.evaluate("id => document.getElementById(id).scrollIntoView()", first)
        page.wait_for_timeout(1500)  # until what is in sight is drawn
        shoot(page, first, last, IMAGES / f"{name}{suffix}.png")
    for path in ("chat", *(f"tasks/{slot}" for slot in range(1, 5))):
        page.request.delete(url + path)
    page.close()


def shoot(page: Page, first: str, last: str, path: Path) -> None:
    """The rows from one panel to another, and a margin; above the first of all, the masthead."""
    top, bottom = page.locator(f"#{first}").bounding_box(), page.locator(f"#{last}").bounding_box()
    assert top is not None
    assert bottom is not None
    scrolled = page.evaluate("scrollY")
    begin = 0.0 if first == "live" else top["y"] + scrolled - 16
    end = bottom["y"] + scrolled + bottom["height"] + 16
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": begin, "width": 1200, "height": end - begin})


if __name__ == "__main__":
    main()
