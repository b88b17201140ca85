"""The JavaScript and the pages of the documentation, in a real browser against the applications beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import examples.chat
import examples.first_stream
import examples.notifications
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.docs.pages import PAGES, ROOT, Section, sections
from tests.docs.serving import PATIENCE, Stage, run
from tests.servers.servers import require
from tidings import EventSourceResponse

STREAMS = ROOT / "docs" / "streams.md"
SCRIPTS = [
    pytest.param(block.text, id=f"{section.id}, line {block.line}")
    for page in PAGES
    for section in sections(page)
    for block in section.of("javascript")
]


# Of the module, not of the session: Playwright's loop runs in this thread as long as it is open.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require("chromium", "chromium"), args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    try:
        yield page
    finally:
        page.close()
    assert not problems


def section_of(page: Path, title: str) -> Section:
    return next(section for section in sections(page) if section.title == title)


def visit(page: Page, port: int, path: str) -> None:
    """Open a page of this origin, whatever it shows, for a script to run in."""
    page.goto(f"http://127.0.0.1:{port}{path}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_valid(page: Page, script: str) -> None:
    page.evaluate("script => void Object.getPrototypeOf(async function () {}).constructor(script)", script)


def test_the_first_page(page: Page, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = section_of(ROOT / "docs" / "getting-started.md", "A page in the browser")
    (tmp_path / "page.html").write_text(section.of("html")[0].text)
    monkeypatch.chdir(tmp_path)
    module, _ = run(section)
    with stage.serving(module.app) as port:
        visit(page, port, "/")
        expect(page.locator("#board li").nth(1)).to_have_text("Line 4 in 8 min")
        page.close()


def test_a_post_is_read_with_fetch(page: Page, stage: Stage) -> None:
    section = section_of(STREAMS, "POST")
    module, _ = run(section)
    with stage.serving(module.app) as port:
        visit(page, port, "/docs-are-elsewhere")
        titles = page.evaluate(f"async () => {{ {section.of('javascript')[0].text}; return await search('sea'); }}")
        assert titles == ["The Sea Wolf", "Sea Poems"]


def test_named_events_and_an_event_named_error(page: Page, stage: Stage) -> None:
    module, _ = run(section_of(STREAMS, "ServerSentEvent"))
    script = section_of(STREAMS, "In the browser").of("javascript")[0].text
    with stage.serving(module.app) as port:
        visit(page, port, "/nothing")
        assert said_by(page, script, 3) == [
            "connected",
            "line 4 is 2 min late, event 17",
            "connection lost, the browser tries again",
        ]
    module, _ = run(section_of(STREAMS, "Errors"))
    with stage.serving(module.app) as port:
        visit(page, port, "/nothing")
        told = said_by(page, script.replace("/trams", "/careful"), 4)
        assert told[3] == "the server sent an event named error: {error: no more paper}"
        assert said_by(page, script.replace("/trams", "/loans/bob"), 1) == [
            "refused: a status other than 200, or a wrong content type"
        ]


@pytest.mark.parametrize("closes", [True, False], ids=["the page closes at done", "the server answers 204"])
def test_a_stream_that_is_over_stays_over(
    page: Page, stage: Stage, closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventSourceResponse, "retry", 50)  # or the browser waits for seconds
    section = section_of(STREAMS, "Ending a stream")
    module, _ = run(section)
    requests: list[Any] = []
    with stage.serving(module.app) as port:
        visit(page, port, "/nothing")
        page.on("response", lambda response: requests.append(response.status))
        script = section.of("javascript")[0].text
        if not closes:
            script = script[: script.rindex("download.addEventListener")]
        said = page.evaluate(
            f"""() => new Promise((resolve, reject) => {{
                setTimeout(() => reject(new Error("the browser did not stop, it said: " + said)), {PATIENCE * 1000});
                const said = [];
                const console = {{ log: (text) => said.push(text) }};
                {script}
                const poll = setInterval(() => {{
                    if (download.readyState === EventSource.CLOSED) {{ clearInterval(poll); resolve(said); }}
                }}, 20);
            }})"""
        )
    assert said == ["cover", "contents", "chapter 1"]
    assert requests == ([200] if closes else [200, 204])


def test_the_pages_of_the_examples(page: Page, stage: Stage) -> None:
    with stage.serving(examples.first_stream.app) as port:
        visit(page, port, "/")
        expect(page.locator("#board li")).to_have_text(
            ["Line 4 to Harbour in 2 min", "Line 9 to Zoo in 5 min", "Line 12 to Town hall in 7 min"]
        )
        page.goto("about:blank")
    with stage.serving(examples.chat.app) as port:
        visit(page, port, "/")
        page.locator("button").click()
        expect(page.locator("#answer")).to_contain_text("You asked")
        page.locator("button").click()  # in the middle of the answer: it begins again
        expect(page.locator("#answer")).to_have_text("You asked: Which tram? Line 4 leaves in two minutes. ")


def test_a_page_that_starts_from_a_snapshot(
    page: Page, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = section_of(ROOT / "docs" / "resuming.md", "A page that starts from a snapshot")
    (tmp_path / "page.html").write_text(section.of("html")[0].text)
    monkeypatch.chdir(tmp_path)
    module, _ = run(section)
    subscribed: list[str] = []
    page.on("request", lambda request: "/events" in request.url and subscribed.append(request.url.partition("=")[2]))
    with stage.serving(module.app) as port:
        items = page.locator("#prices li")
        visit(page, port, "/")
        expect(items).to_have_text(["COCOA 8120", "WHEAT 541"])
        page.request.put(f"http://127.0.0.1:{port}/prices/COCOA?price=8135")
        expect(items).to_have_text(["WHEAT 541", "COCOA 8135"])
        (start,) = subscribed
        assert start.endswith("-0")

        # The page is loaded again with a position that means nothing here: it starts over, once.
        def of_another_log(route: Route) -> None:
            route.fulfill(json={**route.fetch().json(), "position": "0000000000-5"})

        page.route("**/prices", of_another_log, times=1)
        subscribed.clear()
        visit(page, port, "/")
        expect(items).to_have_text(["WHEAT 541", "COCOA 8135"])
        page.request.put(f"http://127.0.0.1:{port}/prices/WHEAT?price=543")
        expect(items).to_have_text(["COCOA 8135", "WHEAT 543"])
        assert subscribed == ["0000000000-5", start]
        page.goto("about:blank")


def test_a_browser_that_is_always_cut_off_misses_nothing(
    page: Page, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventSourceResponse, "retry", 1)
    monkeypatch.setattr(EventSourceResponse, "max_events", 1)
    answers: list[int] = []
    page.on("response", lambda response: response.url.endswith("/users/ada/notifications") and answers.append(1))
    with stage.serving(examples.notifications.app) as port:
        visit(page, port, "/")
        page.wait_for_function("source.readyState === EventSource.OPEN")
        texts = [f"notice {number}" for number in range(10)]
        for text in texts:
            page.request.post(f"http://127.0.0.1:{port}/users/ada/notifications?text={text}")
        expect(page.locator("#list li")).to_have_text(texts)
        page.goto("about:blank")
    assert len(answers) >= 10


def test_a_page_with_tickets_misses_nothing(page: Page, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventSourceResponse, "max_duration", 0.1)
    section = section_of(ROOT / "docs" / "access.md", "Tickets")
    module, _ = run(section)
    statuses: list[int] = []
    page.on("response", lambda response: "ticket=" in response.url and statuses.append(response.status))
    with stage.serving(module.app) as port:
        visit(page, port, "/nothing")
        page.evaluate(
            f"() => {{ window.said = []; const console = {{ log: (text) => said.push(text) }};"
            f"{section.of('javascript')[0].text} }}"
        )
        ordered: list[str] = []
        while len(statuses) < 3:
            ordered.append(f"order {len(ordered)}")
            url = f"http://127.0.0.1:{port}/orders?what={ordered[-1]}"
            page.request.post(url, headers={"authorization": "Bearer key-of-ada"})
            page.wait_for_function(f"said.length === {len(ordered)}")
        assert page.evaluate("said") == ordered
        page.goto("about:blank")
    assert set(statuses) == {200}


def said_by(page: Page, script: str, count: int) -> list[str]:
    """The first texts that a script writes to the console; then its `source` is closed."""
    said: list[str] = page.evaluate(
        f"""() => new Promise((resolve, reject) => {{
            setTimeout(() => reject(new Error("it only said: " + said)), {PATIENCE * 1000});
            const said = [];
            const show = (value) => typeof value === "string"
                ? value : "{{" + Object.entries(value).map(([key, value]) => `${{key}}: ${{value}}`).join() + "}}";
            const console = {{ log: (...texts) => {{
                said.push(texts.map(show).join(" "));
                if (said.length === {count}) {{ source.close(); resolve(said); }}
            }} }};
            {script}
        }})"""
    )
    return said
