"""Each example, served by uvicorn as its docstring says, does what it is there to show."""

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, sections
from tests.servers.servers import COMMANDS, RawClient, Server

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

JSON = {"content-type": "application/json"}


class Example:
    """An example that is being served."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server = server
        self._stack = stack

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> RawClient:
        return self._stack.enter_context(self.server.get(path, method, headers)).read_head()

    def post(self, path: str, body: object) -> RawClient:
        content = json.dumps(body)
        client = self.server.get(path, "POST", {**JSON, "content-length": str(len(content))})
        client.socket.sendall(content.encode())
        return self._stack.enter_context(client).read_head()


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """The example that the test is named after: `test_merge` or `test_merge_…` serves `examples/merge.py`."""
    test = request.function.__name__.removeprefix("test_")
    name = max((path.stem for path in EXAMPLES if test.startswith(path.stem)), key=len)
    two = "--workers 2" in (ast.get_docstring(ast.parse((ROOT / "examples" / f"{name}.py").read_text())) or "")
    monkeypatch.setitem(COMMANDS, "two workers", lambda app, port: [*COMMANDS["uvicorn"](app, port), "--workers", "2"])
    with Server("two workers" if two else "uvicorn", f"examples.{name}:app", tmp_path) as server, ExitStack() as stack:
        yield Example(server, stack)
        stack.close()
        took = server.terminate()
        assert took < 3, "an open stream held up the end of the server"
        assert not re.search(r"Traceback|Warning|WARNING|ERROR|Task was destroyed", server.log), server.log


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_answers_and_how_it_runs(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = [line.strip() for line in docstring.split("\n")]
    assert lines[0].endswith("?")
    assert any(re.fullmatch(rf"uvicorn examples\.{path.stem}:app( --workers \d)?", line) for line in lines)
    assert f"def test_{path.stem}" in Path(__file__).read_text(), "no test runs it"


def test_first_stream(example: Example) -> None:
    assert b"EventSource" in example.get("/").read_all().body
    stream = example.get("/departures").read_until(b"Town hall")
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [event.json() for event in stream.events] == [
        {"line": 4, "stop": "Harbour", "minutes": 2},
        {"line": 9, "stop": "Zoo", "minutes": 5},
        {"line": 12, "stop": "Town hall", "minutes": 7},
    ]


def test_resume(example: Example) -> None:
    stream = example.get("/readings").read_until(b"id: 25\n\n")  # the one that was measured while we looked
    assert stream.body.startswith(b"retry: 1000\n\n")
    assert [int(event.id) for event in stream.events] == list(range(26))
    stream.leave()

    for path, headers in [("/readings", {"last-event-id": "20"}), ("/readings?last_event_id=20", {})]:
        resumed = example.get(path, headers=headers).read_until(b"id: 25\n\n")
        assert [int(event.id) for event in resumed.events][:5] == [21, 22, 23, 24, 25]

    assert example.get("/readings", headers={"last-event-id": "roof"}).status == 400


def test_typed_events(example: Example) -> None:
    stream = example.get("/loans").read_all()
    assert stream.clean
    assert [(event.event, event.id, event.json()["title"]) for event in stream.events] == [
        ("loan_opened", "0", "Moby Dick"),
        ("loan_opened", "1", "Emma"),
        ("loan_closed", "2", "Moby Dick"),
    ]
    operation = json.loads(example.get("/openapi.json").read_all().body)["paths"]["/loans"]["get"]
    forms = operation["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]["oneOf"]
    assert [form["properties"]["event"]["const"] for form in forms] == ["loan_opened", "loan_closed"]


def test_merge(example: Example) -> None:
    stream = example.get("/climate").read_all()
    assert stream.clean
    by_name = {
        name: [(event.id, event.json()) for event in stream.events if event.event == name]
        for name in ("temperature", "humidity")
    }
    assert by_name == {
        "temperature": [("0", 19.5), ("1", 20.0), ("2", 20.5)],
        "humidity": [("0", 51), ("1", 52), ("2", 53)],
    }
    assert [event.event for event in stream.events][:2] == ["temperature", "humidity"]


def test_task_progress(example: Example) -> None:
    assert b"EventSource" in example.get("/").read_all().body
    tasks = [json.loads(example.get("/tasks?pages=3", "POST").read_all().body)["task"] for _ in range(2)]
    for task in tasks:
        stream = example.get(f"/tasks/{task}").read_all()
        assert [event.event for event in stream.events] == ["progress"] * 3
        assert [event.json() for event in stream.events] == [{"task": task, "page": n, "of": 3} for n in (1, 2, 3)]
        first, _, last = (event.id for event in stream.events)
        resumed = example.get(f"/tasks/{task}", headers={"last-event-id": first}).read_all()
        assert [event.json()["page"] for event in resumed.events] == [2, 3]
        assert example.get(f"/tasks/{task}", headers={"last-event-id": last}).status == 204

    both = example.get(f"/tasks?task={tasks[0]}&task={tasks[1]}").read_all()
    for task in tasks:
        assert [event.json()["page"] for event in both.events if event.json()["task"] == task] == [1, 2, 3]

    for path in ("/tasks/7", f"/tasks?task={tasks[0]}&task=7"):
        (error,) = example.get(path).read_all().events
        assert (error.event, error.json()) == ("error", {"task": "7", "error": "no such task"})


def test_background_chat(example: Example) -> None:
    chat = example.get("/").headers["location"]
    assert b"EventSource" in example.get(chat).read_all().body
    assert example.get("/chats/a%20b/events").status == 404
    assert example.post(f"{chat}/messages", {"text": " "}).status == 422
    assert json.loads(example.get(f"{chat}/stop", "POST").read_all().body) == {"stopped": False}
    assert example.post(f"{chat}/messages", {"text": "Why tides?"}).status == 202
    assert example.post(f"{chat}/messages", {"text": "And the moon?"}).status == 409

    stream = example.get(f"{chat}/events").read_until(b'"sea, "')
    stream.leave()  # and the answer goes on
    question, *tokens = stream.events
    assert (question.event, question.json()["text"]) == ("question", "Why tides?")
    assert "".join(event.json() for event in tokens) == "The moon pulls at the sea, "
    resumed = example.get(f"{chat}/events", headers={"last-event-id": tokens[-1].id}).read_until(b'"and "')
    assert json.loads(example.get(f"{chat}/stop", "POST").read_all().body) == {"stopped": True}
    resumed.read_until(b"event: stopped\n").read_until(b"\n\n")
    assert resumed.events[0].json() == "and "
    assert resumed.events[-1].event == "stopped"


def test_the_page_on_background_streams_ends_with_the_example() -> None:
    *_, chat = sections(ROOT / "docs" / "background.md")
    (code,), (page,) = chat.of("python"), chat.of("html")
    _, _, example = (ROOT / "examples" / "background_chat.py").read_text().partition('"""\n\n')
    assert code.text.replace("\n", "") == example.replace("\n", "")
    assert page.text == (ROOT / "examples" / "background_chat.html").read_text()


def test_chat(example: Example) -> None:
    assert b"readEvents" in example.get("/").read_all().body
    stream = example.post("/chat", {"text": "Which tram?"}).read_all()
    assert stream.clean
    *tokens, done = stream.events
    assert "".join(event.json()["token"] for event in tokens).startswith("You asked: Which tram? Line 4")
    assert (done.event, done.data) == ("done", "[DONE]")
    assert example.post("/chat", {"text": " "}).status == 422


def test_plain_asgi(example: Example) -> None:
    stream = example.get("/clock").read_until(b'data: {"second":1}\n\n')
    assert stream.body == b'retry: 2000\n\ndata: {"second":0}\n\ndata: {"second":1}\n\n'
    assert example.get("/clock", "HEAD").headers["content-type"] == "text/event-stream; charset=utf-8"
    assert example.get("/elsewhere").status == 404


def test_notifications(example: Example) -> None:
    assert b"EventSource" in example.get("/").read_all().body
    ada, bob = (example.get(f"/users/{user}/notifications") for user in ("ada", "bob"))
    for path in (
        "/notifications?text=closing",
        "/users/ada/notifications?text=Emma",
        "/users/bob/notifications?text=hi",
    ):
        assert example.get(path, "POST").status == 200
    ada.read_until(b"Emma")
    bob.read_until(b"hi")
    assert [event.json() for event in ada.events] == ["closing", "Emma"]
    assert [event.json() for event in bob.events] == ["closing", "hi"]
    ada.leave()

    assert example.get("/notifications?text=closed", "POST").status == 200
    for client in (
        example.get("/users/ada/notifications", headers={"last-event-id": ada.events[0].id}),
        example.get(f"/users/ada/notifications?last_event_id={ada.events[0].id}"),
    ):
        assert [event.json() for event in client.read_until(b"closed").events] == ["Emma", "closed"]

    stranger = example.get("/users/ada/notifications", headers={"last-event-id": "0-7"}).read_until(b"closed")
    reset, *rest = stranger.events
    assert (reset.event, reset.json()["reason"]) == ("reset", "epoch")
    assert [event.json() for event in rest] == ["closing", "Emma", "closed"]
    assert example.get("/users/eve/notifications").status == 404


def test_dashboard(example: Example) -> None:
    some = example.get("/prices?symbol=WHEAT&symbol=COFFEE").read_until(b"WHEAT").read_until(b"COFFEE")
    assert {event.json()["symbol"] for event in some.events} <= {"WHEAT", "COFFEE"}
    assert {event.event for event in some.events} == {"price_changed"}
    some.leave()
    high = example.get(f"/prices?above=6000&last_event_id={some.events[0].id}").read_until(b"COCOA")
    assert {event.json()["symbol"] for event in high.events} == {"COCOA"}
    numbers = [int(event.id.partition("-")[2]) for event in (some.events[0], *high.events)]
    assert numbers == sorted(numbers)


def test_job_channel(example: Example) -> None:
    assert json.loads(example.get("/jobs?pages=3", "POST").read_all().body) == {"job": 1}
    stream = example.get("/jobs/1").read_all()
    assert stream.clean
    assert [(event.event, event.json()) for event in stream.events] == [
        ("progress", {"page": page, "of": 3}) for page in (1, 2, 3)
    ]
    first, _, last = (event.id for event in stream.events)
    assert example.get("/jobs/1", headers={"last-event-id": last}).status == 204
    late = example.get("/jobs/1", headers={"last-event-id": first}).read_all()
    assert [event.json()["page"] for event in late.events] == [2, 3]
    assert len(example.get("/jobs/1").read_all().events) == 3
    assert example.get("/jobs/7").status == 404


def test_several_workers(example: Example, tmp_path: Path) -> None:
    # Enough of them that each worker has some.
    readers = [example.get("/arrivals") for _ in range(8)]
    workers: set[int] = set()
    count = 0
    deadline = time.monotonic() + 20
    while len(workers) < 2:
        assert time.monotonic() < deadline, "one worker answered everything"
        workers.add(json.loads(example.get(f"/arrivals?ship=Alma+{count}", "POST").read_all().body)["worker"])
        count += 1
    script = [sys.executable, "-m", "examples.several_workers", "Bente"]
    done = subprocess.run(
        script, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30, check=True
    )
    for reader in readers:
        events = reader.read_until(b"Bente").events
        assert [event.json()["ship"] for event in events] == [*(f"Alma {number}" for number in range(count)), "Bente"]
        assert events[-1].id == done.stdout.strip()
        assert [event.id for event in events] == [event.id for event in readers[0].events]
