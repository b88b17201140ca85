"""The example of a chat in a real browser: two workers on one file, and a model that a test can halt."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import Visit
from tests.browser.demo_process import DEADLINE
from tests.servers import conftest as servers
from tests.servers.servers import COMMANDS, Server
from tidings import Broker, ServerSentEvent

serve = servers.serve  # the fixture

OpenPage = Callable[..., Visit]

APP = "tests.browser.chat_app:app"


def counted(to: int) -> str:
    return "".join(f"{number} " for number in range(1, to + 1))


class Tab:
    """A tab with the chat."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.workers: dict[str, str] = {}
        """Which worker has answered last, by the last part of the path."""
        self.streams = 0
        """How many it has opened."""
        page.on("response", self._note_response)
        with page.expect_response("**/events"):
            page.goto(url)
        self.questions = page.locator(".question")
        self.notes = page.locator(".note")
        self.connection = page.locator("#connection")
        self.refusal = page.locator("#refusal")

    def _note_response(self, response: Response) -> None:
        name = urlsplit(response.url).path.rpartition("/")[2]
        self.workers[name] = response.headers.get("x-worker", "")
        self.streams += name == "events"

    def ask(self, question: str) -> None:
        self.page.fill("#text", question)
        with self.page.expect_response("**/messages"):
            self.page.click("#ask")

    def wait_for(self, *answers: str) -> None:
        """Until there are so many answers, and each begins like that."""
        script = """
            texts => {
              const shown = [...document.querySelectorAll(".answer")].map((item) => item.textContent);
              return shown.length === texts.length && shown.every((text, n) => text.startsWith(texts[n]));
            }
        """
        self.page.wait_for_function(script, arg=list(answers))

    def wait_for_end(self) -> None:
        expect(self.page.locator("#stop")).to_be_disabled()
        expect(self.page.locator("#ask")).to_be_enabled()

    def answers(self) -> list[str]:
        return self.page.locator(".answer").all_text_contents()


OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """What a page shows may take as long as everything else here."""
    expect.set_options(timeout=DEADLINE * 1000)
    yield
    expect.set_options(timeout=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chat")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Server]:
    with Server("uvicorn", "tests.browser.model_app:app", folder) as server:
        yield server


@pytest.fixture(scope="module")
def chat(folder: Path, model: Server) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        command = COMMANDS["uvicorn"]
        patch.setitem(COMMANDS, "two workers", lambda app, port: [*command(app, port), "--workers", "2"])
        with Server("two workers", APP, folder, **answered_by(model)) as server:
            yield server
            assert "Task was destroyed" not in server.log


def answered_by(model: Server) -> dict[str, Any]:
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{model.port}/v1/",
        "OPENAI_API_KEY": "harbour",
        "OPENAI_MODEL": "abacus",
    }


def go(model: Server) -> None:
    """The answer that waits goes on, or the next one that would wait."""
    with model.get("/go", "POST") as client:
        assert client.read_head().status == 200


@pytest.fixture
def tab(visit: OpenPage, chat: Server) -> OpenTab:
    """Open a tab: `tab()`, or beside another one `tab(other)`, which another worker than the answer's serves."""

    def open_tab(other: Tab | None = None) -> Tab:
        if other is None:
            return Tab(visit("about:blank").page, f"http://127.0.0.1:{chat.port}/")
        for _ in range(50):
            opened = Tab(visit("about:blank").page, other.page.url)
            if opened.workers["events"] != other.workers["messages"]:
                return opened
            opened.page.close()
        raise AssertionError("one worker serves everything")

    return open_tab


def test_an_answer_goes_on_while_its_page_is_reloaded(tab: OpenTab, model: Server) -> None:
    asking = tab()
    asking.ask("80 slowly")
    asking.wait_for(counted(10))
    asking.page.reload()  # while it is written
    asking.wait_for(counted(40))
    assert asking.answers() == [counted(40)]
    asking.page.reload()  # while the model thinks
    asking.wait_for(counted(40))
    expect(asking.page.locator("#ask")).to_be_disabled()
    go(model)
    asking.wait_for(counted(80))
    asking.wait_for_end()
    for _ in range(2):
        expect(asking.questions).to_have_text(["80 slowly"])
        assert asking.answers() == [counted(80)]
        asking.page.reload()  # when all is over
        asking.wait_for(counted(80))
    expect(asking.notes).to_have_count(0)
    assert model.journal.count("asked 80 after ") == 1
    assert model.journal.count("asked abacus Bearer harbour") >= 1


def test_a_second_tab_follows_from_the_beginning_in_the_other_worker(tab: OpenTab, model: Server) -> None:
    asking = tab()
    asking.ask("40 slowly")
    asking.wait_for(counted(20))
    other = tab(asking)
    other.wait_for(counted(20))
    expect(other.questions).to_have_text(["40 slowly"])
    assert other.answers() == [counted(20)]
    go(model)
    for each in (asking, other):
        each.wait_for(counted(40))
        each.wait_for_end()
        assert each.answers() == [counted(40)]
    # The next question opens the channel again, and both tabs are still there: the end was not that of their streams.
    other.ask("7")
    for each in (asking, other):
        each.wait_for(counted(40), counted(7))
        each.wait_for_end()
        expect(each.questions).to_have_text(["40 slowly", "7"])
        assert each.answers() == [counted(40), counted(7)]
        assert each.streams == 1
    assert f"asked 7 after user: 40 slowly | assistant: {counted(40)}" in model.journal


def test_the_stop_button_stops_the_model_and_both_tabs_show_it(tab: OpenTab, model: Server) -> None:
    asking = tab()
    asking.ask("42 slowly")
    asking.wait_for(counted(21))
    other = tab(asking)
    other.wait_for(counted(21))
    other.page.click("#stop")
    model.wait_for("left 42")
    for each in (asking, other):
        expect(each.notes).to_have_text(["Stopped."])
        each.wait_for_end()
        assert each.answers() == [counted(21)]
    asking.ask("5")
    for each in (asking, other):
        each.wait_for(counted(21), counted(5))
        each.wait_for_end()
        assert each.answers() == [counted(21), counted(5)]


def test_a_question_that_comes_while_an_answer_is_written_is_refused(tab: OpenTab, model: Server) -> None:
    asking = tab()
    late = tab()
    late.page.route("**/events", lambda route: route.fulfill(status=503))  # so it doesn't know that it may not ask
    late.page.goto(asking.page.url)
    expect(late.connection).to_have_text("Not connected, trying again …")
    asking.ask("4 slowly")
    asking.wait_for(counted(2))
    late.ask("9")
    expect(late.refusal).to_have_text("an answer is being written")
    go(model)
    late.page.unroute("**/events")
    for each in (asking, late):
        each.wait_for(counted(4))
        each.wait_for_end()
        expect(each.questions).to_have_text(["4 slowly"])
        expect(each.connection).to_be_empty()


def test_a_model_that_refuses_or_breaks_off_is_a_failure_that_is_shown(tab: OpenTab, chat: Server) -> None:
    asking = tab()
    failure = "The answer failed: internal error."
    asking.ask("sing")
    expect(asking.notes).to_have_text([failure])
    asking.ask("12 badly")
    expect(asking.notes).to_have_text([failure, failure])
    asking.wait_for_end()
    assert asking.answers() == ["", counted(6)]
    assert re.findall(r"^tidings\.errors\.StatusError: .*404", chat.log, flags=re.MULTILINE)
    assert "ConnectionError: the model broke off in the middle of its answer" in chat.log


def test_an_answer_that_ends_with_its_process_is_shown_as_broken_off(tab: OpenTab, folder: Path) -> None:
    async def half_an_answer() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent({"id": "1", "text": "2"}, event="question")
        yield ServerSentEvent("1 ", event="token")
        await asyncio.Event().wait()

    async def write(channel: str) -> None:
        async with Broker(f"sqlite:///{folder}/chat.db", history=20_000, max_age=86_400.0, background_grace=0) as own:
            await own.start(channel, half_an_answer())
            async for event in own.subscribe(channel, last_event_id="earliest"):
                if event.event == "token":
                    break

    asking = tab()
    channel = "chat/" + asking.page.url.rpartition("/")[2]
    with ThreadPoolExecutor(1) as thread:  # this one has the event loop of Playwright
        thread.submit(asyncio.run, write(channel)).result(30)
    expect(asking.notes).to_have_text(["The answer breaks off: the server was stopped."])
    assert asking.answers() == ["1 "]
    asking.wait_for_end()


def test_a_page_shows_what_is_left_when_the_log_is_lost(
    serve: servers.Serve, visit: OpenPage, model: Server, tmp_path: Path
) -> None:
    server = serve(app=APP, **answered_by(model))
    asking = Tab(visit("about:blank").page, f"http://127.0.0.1:{server.port}/")
    asking.ask("3")
    asking.wait_for(counted(3))
    asking.wait_for_end()
    server.kill()
    for file in tmp_path.glob("chat.db*"):
        file.unlink()
    expect(asking.connection).to_have_text("Not connected, trying again …")
    serve(app=APP, port=server.port, **answered_by(model))
    expect(asking.notes).to_have_text(["Some of this chat is lost."])
    assert asking.answers() == []
    asking.ask("2")
    asking.wait_for(counted(2))
    asking.wait_for_end()
    assert asking.answers() == [counted(2)]
