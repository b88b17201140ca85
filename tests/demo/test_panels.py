"""The panels, in this process: two applications on the same files, as two workers have them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from fastapi import FastAPI

import tidings
from tidings.demo import page
from tidings.demo.app import create_app
from tidings.demo.panels import chat, machine, tasks, workers
from tidings.demo.settings import FIGURES_HISTORY, FIGURES_MAX_AGE, Settings
from tidings.demo.station import station
from tidings.testing import AsyncStream, lifespan, open_stream
from tidings.wire import ReceivedEvent

pytestmark = pytest.mark.anyio

TIMEOUT = 30.0


@pytest.fixture
async def apps(settings: Settings) -> AsyncIterator[tuple[FastAPI, FastAPI]]:
    first, second = create_app(settings), create_app(settings)
    async with lifespan(first), lifespan(second):
        yield first, second


@pytest.fixture
def app(apps: tuple[FastAPI, FastAPI]) -> FastAPI:
    return apps[0]


@pytest.fixture
async def published(settings: Settings) -> AsyncIterator[None]:
    async with station(settings):
        yield


async def send(app: FastAPI, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with open_stream(app, path, method=method, json={} if body is None else body) as answer:
        return answer.status, await answer.json(TIMEOUT)


async def until(stream: AsyncStream, name: str, passes: Callable[[Any], object] = bool) -> ReceivedEvent:
    """The next event of this name with such data."""
    while True:
        event = await stream.next(TIMEOUT)
        if event.event == name and passes(event.json()):
            return event


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
async def test_each_connection_is_told_which_worker_serves_it_without_an_id(app: FastAPI) -> None:
    for path in ("/figures", "/desk"):
        async with open_stream(app, path) as stream:
            served = await stream.next()
            assert (served.event, served.id, served.json()["pid"]) == ("served", "", os.getpid())


@pytest.mark.usefixtures("published")
async def test_figures_come_from_one_place_whichever_worker_serves_them(apps: tuple[FastAPI, FastAPI]) -> None:
    async with open_stream(apps[0], "/figures") as one, open_stream(apps[1], "/figures") as other:
        assert (await until(one, "host")).json() == (await until(other, "host")).json()
        sample = await until(one, "sample")
        assert (await until(other, "sample")).id == sample.id
        count = await until(one, "count")
        await until(other, "count", lambda number: number == count.json())


@pytest.mark.usefixtures("published")
async def test_the_counter_goes_on_where_another_worker_stopped(apps: tuple[FastAPI, FastAPI]) -> None:
    numbers: list[int] = []
    last = None
    for app in [*apps, *apps]:
        async with open_stream(app, "/figures", last_event_id=last) as stream:
            for _ in range(5):
                count = await until(stream, "count")
                numbers.append(count.json()["number"])
                last = count.id
    assert numbers == list(range(1, 21))


async def test_the_machine_is_described_again_before_the_channel_forgets_it() -> None:
    # A minute of samples, and of the time for which they are kept.
    assert machine.INTRODUCTION_INTERVAL / machine.INTERVAL < FIGURES_HISTORY
    assert machine.INTRODUCTION_INTERVAL < FIGURES_MAX_AGE


@pytest.mark.usefixtures("published")
async def test_a_worker_tells_how_many_read_there(apps: tuple[FastAPI, FastAPI]) -> None:
    async with open_stream(apps[0], "/desk"), open_stream(apps[0], "/desk"), open_stream(apps[0], "/figures") as stream:
        load = (await until(stream, "worker", lambda load: load["readers"] == {"news": 2})).json()
        assert load["pid"] == os.getpid()
        # The other one, which has none, is counted apart.
        await until(stream, "worker", lambda load: load["readers"] == {"news": 0})


async def test_who_comes_with_an_id_that_is_none_is_told_so(app: FastAPI) -> None:
    async with open_stream(app, "/figures", last_event_id="elsewhere-7") as stream:
        assert [(await stream.next()).event for _ in range(2)] == ["served", "reset"]


# -- news -------------------------------------------------------------------------------------------------------------


async def test_news_reach_the_readers_of_every_worker_and_those_who_come_later(apps: tuple[FastAPI, FastAPI]) -> None:
    async with open_stream(apps[0], "/desk") as one, open_stream(apps[1], "/desk") as other:
        status, answer = await send(apps[0], "POST", "/news", {"text": "  The ferry is late.  "})
        assert status == 200
        async with open_stream(apps[1], "/desk") as later:
            for stream in (one, other, later):
                headline = await until(stream, "headline")
                assert headline.id == answer["id"]
                assert headline.json()["text"] == "The ferry is late."
                assert headline.json()["at"] > 1_700_000_000_000


@pytest.mark.parametrize("text", ["", "   ", "x" * 281])
async def test_news_of_no_or_too_many_words_are_refused(app: FastAPI, text: str) -> None:
    status, answer = await send(app, "POST", "/news", {"text": text})
    assert status == 422
    assert answer["detail"][0]["loc"] == ["body", "text"]


@pytest.mark.parametrize("path", ["/news", "/tasks", "/chat", "/workers/999999999/kill"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_a_form_of_another_site_can_post_is_refused(app: FastAPI, path: str, content_type: str) -> None:
    body, headers = '{"text": "hello", "kind": "checksum"}', {"content-type": content_type}
    async with open_stream(app, path, method="POST", content=body, headers=headers) as answer:
        assert answer.status == 415


async def test_a_reset_of_the_desk_says_which_channel(app: FastAPI) -> None:
    async with open_stream(app, "/desk", last_event_id="elsewhere-7") as stream:
        reset = await until(stream, "reset")
        assert reset.json()["channel"] == "news"
        assert reset.json().keys() > {"channel"}


# -- tasks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some files in place of Python's own, which a task needs next to no time for."""
    folder = tmp_path / "library"
    (folder / "encodings").mkdir(parents=True)
    for number in range(5):
        (folder / f"{number}.py").write_text(f"print({number})\n" * 100)
        (folder / "encodings" / f"{number}.py").write_text(f"print({number})\n" * 100)
    monkeypatch.setattr(tasks, "LIBRARY", folder)
    monkeypatch.setattr(tasks, "SECONDS", 0.05)
    return folder


async def test_a_checksum_is_that_of_the_files(app: FastAPI, library: Path) -> None:
    async with open_stream(app, "/desk") as stream:
        assert await send(app, "POST", "/tasks", {"kind": "checksum"}) == (200, {"slot": 1})
        first = (await until(stream, "progress", lambda _: True)).json()
        assert first == {
            "slot": 1,
            "kind": "checksum",
            "title": "Checksum of Python's library",
            "done": 0,
            "total": 5,
            "detail": "0.py",
        }
        result = (await until(stream, "result")).json()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(library.glob("*.py")))).hexdigest()
    assert result["slot"] == 1
    assert result["detail"] == f"SHA-256 of 5 files: {digest[:16]}…"


async def test_a_folder_is_compressed(app: FastAPI, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(written, "close", lambda: None)
    monkeypatch.setattr(tasks.tempfile, "TemporaryFile", lambda: written)
    async with open_stream(app, "/desk") as stream:
        await send(app, "POST", "/tasks", {"kind": "compress"})
        await until(stream, "result")
    assert ZipFile(written).testzip() is None
    assert ZipFile(written).namelist() == [f"{number}.py" for number in range(5)]


async def test_four_run_at_once_and_any_worker_stops_them(apps: tuple[FastAPI, FastAPI]) -> None:
    async with open_stream(apps[0], "/desk") as stream:
        slots = [await send(apps[slot % 2], "POST", "/tasks", {"kind": "checksum"}) for slot in range(4)]
        assert slots == [(200, {"slot": slot}) for slot in range(1, 5)]
        status, refusal = await send(apps[1], "POST", "/tasks", {"kind": "compress"})
        assert (status, "places" in refusal["detail"]) == (409, True)
        assert await send(apps[1], "DELETE", "/tasks/1") == (200, {"stopped": True})
        assert (await until(stream, "stopped")).json() == {"channel": "task/1"}
        assert await send(apps[0], "DELETE", "/tasks/1") == (200, {"stopped": False})
        assert await send(apps[1], "POST", "/tasks", {"kind": "compress"}) == (200, {"slot": 1})
        # The stream stays open, and shows what comes in the place of another.
        await until(stream, "progress", lambda state: state["slot"] == 1 and state["kind"] == "compress")
        for slot in range(1, 5):
            await send(apps[0], "DELETE", f"/tasks/{slot}")


@pytest.mark.parametrize("slot", ["0", "5", "news"])
async def test_a_place_that_is_none_cannot_be_stopped(app: FastAPI, slot: str) -> None:
    assert (await send(app, "DELETE", f"/tasks/{slot}"))[0] in {404, 422}


async def test_an_unknown_kind_of_task_is_refused(app: FastAPI) -> None:
    assert (await send(app, "POST", "/tasks", {"kind": "idle"}))[0] == 422


@pytest.mark.parametrize("local", [True, False])
async def test_a_task_that_fails_says_why_to_those_at_the_machine(
    settings: Settings, library: Path, local: bool, caplog: pytest.LogCaptureFixture
) -> None:
    (library / "3.py").unlink()
    (library / "3.py").mkdir()
    app = create_app(settings.model_copy(update={"local": local}))
    headers = {"host": "localhost"}
    async with lifespan(app), open_stream(app, "/desk", headers=headers) as stream:
        async with open_stream(app, "/tasks", method="POST", json={"kind": "checksum"}, headers=headers) as answer:
            assert answer.status == 200
        failed = (await until(stream, "failed")).json()
    assert failed["channel"] == "task/1"
    assert ("Is a directory" in failed["error"]) == local


def test_a_task_reports_now_and_then_and_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    slept: list[float] = []
    monkeypatch.setattr(tasks.time, "monotonic", lambda: next(clock) * 0.01)
    monkeypatch.setattr(tasks.time, "sleep", slept.append)
    paths = [Path(f"{number}.py") for number in range(150)]
    task = tasks.Task(slot=1, kind="checksum", title="")
    reports = [report.data.done for _, progress in tasks.paced(task, paths) for report in progress]
    assert reports[0] == 0
    assert 10 < len(reports) < 50
    # To the end of what is left of the 15 seconds, whenever it looks: those that go by here are next to none.
    assert slept == sorted(slept)
    assert 10 < slept[-1] < 15


# -- chat -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "WORD_INTERVAL", 0.001)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


async def answer_in(stream: AsyncStream) -> str:
    tokens = []
    while (event := await stream.next(TIMEOUT)).event != "done":
        assert event.event == "message"
        tokens.append(event.json())
    assert event.json() == {}
    return "".join(tokens)


@pytest.mark.usefixtures("quick")
async def test_an_answer_is_written_for_all_and_can_be_read_later(apps: tuple[FastAPI, FastAPI]) -> None:
    async with open_stream(apps[0], "/desk") as stream:
        assert await send(apps[1], "POST", "/chat", {"text": " Why? "}) == (202, None)
        assert (await until(stream, "question")).json()["text"] == "Why?"
        answer = await answer_in(stream)
    assert answer.split() == chat.TEXT.split()
    async with open_stream(apps[1], "/desk") as later:
        await until(later, "question")
        assert await answer_in(later) == answer


async def test_one_answer_at_a_time_and_any_worker_stops_it(
    apps: tuple[FastAPI, FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(chat, "WORD_INTERVAL", 60)
    async with open_stream(apps[0], "/desk") as stream:
        assert (await send(apps[0], "POST", "/chat", {"text": "Why?"}))[0] == 202
        assert await send(apps[1], "POST", "/chat", {"text": "And?"}) == (409, {"detail": "an answer is being written"})
        assert await send(apps[1], "DELETE", "/chat") == (200, {"stopped": True})
        assert (await until(stream, "stopped")).json() == {"channel": "chat"}
        assert await send(apps[1], "DELETE", "/chat") == (200, {"stopped": False})


class Model(BaseHTTPRequestHandler):
    """A model that speaks the OpenAI API, says how many messages it was sent, and keeps them."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append({"path": self.path, "key": self.headers["authorization"], **asked})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for token in ("Heard ", f"{len(asked['messages'])}.", None):
            chunk = {"choices": [{"delta": {"content": token} if token else {}}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if asked["messages"][-1]["content"] != "Break off!":
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the model was asked."""
    monkeypatch.setattr(Model, "asked", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
        monkeypatch.setenv("OPENAI_MODEL", "parrot")
        monkeypatch.setenv("OPENAI_API_KEY", "cracker")
        yield Model.asked
        server.shutdown()
        thread.join()


async def test_a_model_answers_and_is_told_what_was_said_before(app: FastAPI, model: list[dict[str, Any]]) -> None:
    async with open_stream(app, "/desk") as stream:
        for text, answer in (("One?", "Heard 1."), ("Two?", "Heard 3.")):
            await send(app, "POST", "/chat", {"text": text})
            await until(stream, "question")
            assert await answer_in(stream) == answer
    assert model[-1] == {
        "path": "/v1/chat/completions",
        "key": "Bearer cracker",
        "model": "parrot",
        "stream": True,
        "messages": [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Heard 1."},
            {"role": "user", "content": "Two?"},
        ],
    }


async def test_a_model_that_breaks_off_is_a_failure_and_is_asked_once(
    app: FastAPI, model: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stream(app, "/desk") as stream:
        await send(app, "POST", "/chat", {"text": "Break off!"})
        assert (await until(stream, "failed")).json() == {"channel": "chat", "error": "internal error"}
    assert len(model) == 1


# -- workers ----------------------------------------------------------------------------------------------------------


async def test_only_workers_can_be_killed(app: FastAPI) -> None:
    # This process is none: it was started by nobody of the demo.
    assert workers.workers() == set()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        status, refusal = await send(app, "POST", f"/workers/{other.pid}/kill")
        assert (status, refusal) == (404, {"detail": f"there is no worker {other.pid}"})
        other.communicate(b"\n")
    assert other.returncode == 0


# -- the source -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", ["live", "news", "workers", "tasks", "chat", "logs"])
async def test_the_source_of_a_panel_is_what_runs_and_about_ten_lines(app: FastAPI, panel: str) -> None:
    status, source = await send(app, "GET", f"/source/{panel}")
    assert status == 200
    file = Path(tidings.__file__).parents[1] / source["file"]
    parts = re.split(r"\n{3,}", source["code"].strip())
    assert all(part.strip() in file.read_text() for part in parts)
    assert 8 <= len([line for line in source["code"].splitlines() if line]) <= 18
    assert max(map(len, source["code"].splitlines())) <= 120


async def test_each_panel_shows_its_source(app: FastAPI) -> None:
    codes = {(await send(app, "GET", f"/source/{panel}"))[1]["code"] for panel in page.PANELS}
    assert len(codes) == 6


async def test_a_panel_that_is_none_has_no_source(app: FastAPI) -> None:
    status, refusal = await send(app, "GET", "/source/secrets")
    assert status == 404
    assert "live, news, workers" in refusal["detail"]
