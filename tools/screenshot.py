"""Take the pictures of the demo that the docs show: `python tools/screenshot.py`; `make test` sets up what it needs."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.conftest import ARGUMENTS, CHROMIUM  # noqa: E402
from tests.browser.demo_process import DemoProcess  # noqa: E402

IMAGES = ROOT / "docs" / "images"

LINES = (
    "INFO  line 4  tram 112 leaves Harbour Square",
    "INFO  line 7  tram 318 arrives at University, 2 passengers with bicycles",
    "WARN  line 4  tram 112 is 3 minutes late",
    "INFO  line 1  tram 120 leaves Central Station",
    "INFO  depot   tram 305 is charged to 92 %",
    "WARN  line 7  doors of tram 318 blocked for 20 s",
)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.gettempdir()) / "trams"  # its name is in the picture
    folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        log = folder / "trams.log"
        draw = random.Random(7)  # noqa: S311 - the same picture each time
        with log.open("w") as file:
            for second in range(60):
                file.write(f"2026-05-04T08:{second // 6:02}:{second % 6 * 10:02} {draw.choice(LINES)}\n")
        demo = DemoProcess(folder, log)
        demo.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            for file_name, scheme in (("demo.png", "light"), ("demo-dark.png", "dark")):
                page = browser.new_page(
                    viewport={"width": 1200, "height": 860},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                page.goto(demo.url)
                page.wait_for_timeout(20_000)  # the charts fill as time passes
                page.screenshot(path=IMAGES / file_name)
                page.close()
        finally:
            browser.close()
            demo.stop()


if __name__ == "__main__":
    main()
