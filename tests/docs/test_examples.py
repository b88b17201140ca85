"""Each example, served by uvicorn as its docstring says, does what it is there to show."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.servers.servers import RawClient, Server

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
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Example]:
    """The example that the test is named after: `test_merge` or `test_merge_…` serves `examples/merge.py`."""
    test = request.function.__name__.removeprefix("test_")
    name = max((path.stem for path in EXAMPLES if test.startswith(path.stem)), key=len)
    with Server("uvicorn", f"examples.{name}:app", tmp_path) as server, ExitStack() as stack:
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
    assert f"uvicorn examples.{path.stem}:app" in lines
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
    assert json.loads(example.get("/tasks?pages=3", "POST").read_all().body) == {"task": 1}
    stream = example.get("/tasks/1").read_all()
    assert [(event.event, event.id, event.data) for event in stream.events] == [
        ("progress", "1", '{"page":1,"of":3}'),
        ("progress", "2", '{"page":2,"of":3}'),
        ("progress", "3", '{"page":3,"of":3}'),
        ("done", "3", "[DONE]"),
    ]
    resumed = example.get("/tasks/1", headers={"last-event-id": "2"}).read_all()
    assert [event.event for event in resumed.events] == ["progress", "done"]
    assert example.get("/tasks/1", headers={"last-event-id": "3"}).status == 204
    assert example.get("/tasks/7").status == 404


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
