"""The demo's page as a whole, in a real browser, from real workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DemoProcess

StartDemo = Callable[..., DemoProcess]
OpenPage = Callable[..., Visit]

PANELS = {
    "live": "Live",
    "news": "News desk",
    "workers": "Kill a worker",
    "tasks": "Tasks",
    "chat": "Chat",
    "logs": "Logs",
}

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


CONTRASTS = """
() => {
  const style = getComputedStyle(document.documentElement);
  const light = name => {
    const hex = style.getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const pairs = [["--on-accent", "--accent"], ["--ink", "--tint"], ["--accent", "--tint"], ["--ink", "--mark"]];
  for (const text of ["--ink", "--muted", "--accent", "--second", "--warn", "--bad"]) {
    for (const ground of ["--paper", "--panel", "--well"]) pairs.push([text, ground]);
  }
  return pairs.map(pair => [...pair, contrast(...pair)]).filter(([,, ratio]) => !(ratio >= 4.5));
}
"""

# What a reader of the screen would come across without knowing what it is.
NAMELESS = """
() => [...document.querySelectorAll("button, input, a, progress, canvas, [tabindex='0']")]
  .filter(item => !item.closest("[aria-hidden=true], [hidden]"))
  .filter(item => ![item, ...(item.labels ?? [])].some(each => each.ariaLabel || each.textContent.trim()))
  .map(item => item.outerHTML)
"""


def test_the_page_asks_for_nothing_from_elsewhere_and_has_no_errors(
    shared_demo: DemoProcess, visit: OpenPage, shared_log: Path
) -> None:
    shared_log.write_text("the ferry left on time\n")
    visited = visit(shared_demo.url)
    visited.wait_for_state("connected")
    visited.wait_for_lines(1)
    visited.page.wait_for_selector("#cores canvas[data-samples]")
    for panel in PANELS:
        visited.page.click(f"#{panel} summary")
        expect(visited.page.locator(f"#{panel} .file-name")).to_contain_text("tidings/demo/")
    assert visited.problems == []
    assert visited.origins == {shared_demo.url.rstrip("/")}


def test_each_fold_shows_the_running_source(shared_demo: DemoProcess, visit: OpenPage) -> None:
    page = visit(shared_demo.url).page
    for panel in PANELS:
        fold = page.locator(f"#{panel} details")
        expect(fold.locator("pre")).to_be_hidden()
        fold.locator("summary").press("Enter")
        module = "machine" if panel == "live" else panel
        expect(fold.locator(".file-name")).to_have_text(f"tidings/demo/panels/{module}.py")
        functions = fold.locator("code").inner_text().split("\n\n\n")
        text = Path(f"src/tidings/demo/panels/{module}.py").read_text()
        assert all(function.strip() in text for function in functions), "as it is in the file"
        assert fold.locator(".keyword").all_text_contents().count("def") == len(functions)


def test_light_and_dark_are_both_drawn(shared_demo: DemoProcess, visit: OpenPage) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page = visit(shared_demo.url, color_scheme=scheme).page
        page.wait_for_function("() => document.querySelector('#processor-chart').dataset.samples > 3")
        brightness[scheme] = paper, ink = page.evaluate(BRIGHTNESS)
        assert abs(paper - ink) > 150, "the text must stand out"
        page.wait_for_function(IS_DRAWN, arg="#processor-chart")
    assert brightness["light"][0] > 200
    assert brightness["dark"][0] < 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read(shared_demo: DemoProcess, visit: OpenPage, scheme: str) -> None:
    page = visit(shared_demo.url, color_scheme=scheme).page
    page.wait_for_selector("#connection[data-state=connected]")
    # WCAG 2.2, 1.4.3: a contrast of 4.5 at least, of each colour of a text on each that it may stand on.
    assert page.evaluate(CONTRASTS) == []


@pytest.mark.parametrize("width", [320, 768, 1280, 2200])
def test_nothing_sticks_out_at_the_side(demo_with_a_long_name: DemoProcess, visit: OpenPage, width: int) -> None:
    visited = visit(demo_with_a_long_name.url, viewport={"width": width, "height": 800})
    page = visited.page
    visited.wait_for_lines(2)
    page.wait_for_selector("#cores canvas[data-samples]")
    page.fill("#news-text", "x" * 280)
    page.click("#news-publish")
    page.wait_for_selector("#news-list li")
    for panel in PANELS:
        page.click(f"#{panel} summary")
        page.wait_for_selector(f"#{panel} .keyword")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for box in ("#log-scroll", "#news-scroll", "#chat-scroll"):
        assert page.evaluate("box => document.querySelector(box).scrollWidth", box) <= width


@pytest.fixture(scope="module")
def demo_with_a_long_name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    folder = tmp_path_factory.mktemp("long")
    log = folder / ("a-rather-long-name-of-a-file-" * 4 + ".log")
    log.write_text("word " * 80 + "\n" + "x" * 900 + "\n")
    process = DemoProcess(folder, log)
    process.start()
    yield process
    process.stop()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_moves_when_the_page_fills(shared_demo: DemoProcess, visit: OpenPage, width: int) -> None:
    # So high that all of it is in sight: elsewhere a shift isn't counted.
    page = visit("about:blank", viewport={"width": width, "height": 4000}).page
    page.add_init_script(
        """
        window.shift = 0;
        new PerformanceObserver(list => {
          for (const entry of list.getEntries()) window.shift += entry.value;
        }).observe({ type: "layout-shift", buffered: true });
        """
    )
    page.goto(shared_demo.url)
    expect(page.locator("#workers-list li")).to_have_count(2)
    page.wait_for_function("() => document.querySelector('#processor-chart').dataset.samples > 3")
    # Of what is said to be good (https://web.dev/articles/cls), a fiftieth: a line that grows moves all below it.
    assert page.evaluate("window.shift") < 0.002


def test_everything_has_a_name_and_is_reached_by_the_keyboard(shared_demo: DemoProcess, visit: OpenPage) -> None:
    page = visit(shared_demo.url).page
    page.wait_for_selector("#connection[data-state=connected]")
    assert page.get_by_role("heading", name="tidings", level=1).is_visible()
    for name in PANELS.values():
        assert page.get_by_role("heading", name=name, level=2).is_visible()
        assert page.get_by_role("region", name=name, exact=True).count() == 1
    assert page.get_by_role("status").filter(has_text="Connected").is_visible()
    assert page.evaluate(NAMELESS) == []
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", reached[-1]
        if reached[-1] == "log-scroll":
            break
    order = ["skip", "news-text", "news-publish", "news-cut", "kill", "task-checksum", "task-compress", "chat-text"]
    assert [item for item in reached if item in order] == order
    assert reached[-3:] == ["log-filter", "log-pause", "log-scroll"]


def test_the_first_key_leads_past_the_masthead(shared_demo: DemoProcess, visit: OpenPage) -> None:
    page = visit(shared_demo.url).page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "live"
