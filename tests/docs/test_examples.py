"""Each example, served by uvicorn as its docstring says, does what it is there to show."""

import ast
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.broker.redis_server import RedisServer
from tests.docs.pages import ROOT, sections
from tests.servers.proxies import MAIN
from tests.servers.servers import COMMANDS, RawClient, Server, free_port, require, wait_until

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
        assert took < 10, "an open stream held up the end of the server"
        assert not re.search(r"Traceback|Warning|WARNING|ERROR|Task was destroyed", server.log), server.log


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_answers_and_how_it_runs(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    lines = [line.strip() for line in docstring.split("\n")]
    assert lines[0].endswith("?")
    assert any(re.fullmatch(rf"uvicorn examples\.{path.stem}:app( --workers \d)?", line) for line in lines)
    assert f"def test_{path.stem}" in Path(__file__).read_text(), "no test runs it"


def test_the_table_of_examples_repeats_what_they_say() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    rows = re.findall(r"^\| (.+\?) \| \[(\w+\.py)\]\(\2\) \| `(uvicorn .+)` \|$", text, re.MULTILINE)
    assert sorted(file for _, file, _ in rows) == [path.name for path in EXAMPLES]
    for question, file, command in rows:
        docstring = ast.get_docstring(ast.parse((ROOT / "examples" / file).read_text())) or ""
        assert docstring.startswith(f"{question}\n")
        assert command in [line.strip() for line in docstring.split("\n")]
    for file in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "examples" / file).exists()


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


def test_tickets(example: Example) -> None:
    ada, bob = ({"authorization": f"Bearer key-of-{name}"} for name in ("ada", "bob"))
    assert b"EventSource" in example.get("/").read_all().body
    assert example.get("/ticket", "POST").status == 401
    assert example.get("/ticket", "POST", {"authorization": "Bearer a key of nobody"}).status == 401
    assert example.get("/orders").status == 401

    given = json.loads(example.get("/ticket", "POST", ada).read_all().body)
    path = f"/orders?ticket={given['ticket']}&last_event_id={given['position']}"
    for user, what in ((bob, "coffee"), (ada, "tea")):
        assert example.get(f"/orders?what={what}", "POST", user).status == 200
    stream = example.get(path).read_until(b"id: ")
    assert [event.json() for event in stream.read_until(b"\n\n").events] == ["tea"]
    for _ in range(8):  # at either worker
        answer = example.get(path)
        assert (answer.status, json.loads(answer.read_all().body)) == (401, {"detail": "The ticket is used."})
    assert example.get(f"/orders?ticket={given['ticket'][:-4]}aaaa").status == 403


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


def test_plain_starlette(example: Example) -> None:
    countdown = example.get("/countdown/2").read_all()
    assert countdown.clean
    assert [(event.event, event.json()) for event in countdown.events] == [("tick", 2), ("tick", 1), ("liftoff", 0)]

    reader = example.get("/launches")
    ids = [example.post("/launches", craft).read_all().body.decode() for craft in ("kite", "balloon")]
    events = reader.read_until(b"balloon").events
    assert [(event.event, event.id) for event in events] == [("launch", id) for id in ids]
    resumed = example.get("/launches", headers={"last-event-id": ids[0]}).read_until(b"balloon")
    assert [event.id for event in resumed.events] == ids[1:]


def test_beside_litestar(example: Example) -> None:
    reader = example.get("/orders/live")
    assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
    ids = [
        json.loads(example.get(f"/orders?dish={dish}", "POST").read_all().body)["id"]
        for dish in ("soup", "rice", "tea")
    ]
    events = reader.read_until(b"tea").events
    assert [(event.event, event.id, event.json()["dish"]) for event in events] == [
        ("order", id, dish) for id, dish in zip(ids, ("soup", "rice", "tea"), strict=True)
    ]
    resumed = example.get("/orders/live", headers={"last-event-id": ids[0]}).read_until(b"tea")
    assert [event.id for event in resumed.events] == ids[1:]
    # What isn't mounted is Litestar's.
    assert json.loads(example.get("/elsewhere").read_all().body)["status_code"] == 404


def test_log_viewer(example: Example, tmp_path: Path) -> None:
    assert b"EventSource" in example.get("/").read_all().body
    log = tmp_path / "app.log"
    stream = example.get("/lines")  # of a file that isn't there yet
    with log.open("w", encoding="utf-8") as file:
        for text in ("tea\n", "caf\u00e9\r\n", "whole"):
            file.write(text)
            file.flush()
        stream.read_until("caf\u00e9".encode()).read_until(b"\n\n")
        file.write(" again\n")
    stream.read_until(b"again")
    assert [(event.id, event.json()) for event in stream.events] == [
        ("4", "tea"),
        ("11", "caf\u00e9"),
        ("23", "whole again"),
    ]
    stream.leave()

    with log.open("a") as file:
        file.write("written meanwhile\n")
    resumed = example.get("/lines", headers={"last-event-id": "11"}).read_until(b"meanwhile")
    assert [event.json() for event in resumed.events] == ["whole again", "written meanwhile"]
    log.unlink()
    log.write_text("of a new file\n")
    assert resumed.read_until(b"new file").events[-1].id == "14"
    assert example.get("/lines", headers={"last-event-id": "-1"}).status == 422


def test_log_viewer_begins_near_the_end(example: Example, tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("".join(f"line {number:010}\n" for number in range(1000)))
    events = example.get("/lines").read_until(b"0999").events
    assert [event.json() for event in events] == [f"line {number:010}" for number in range(1000 - 256, 1000)]


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A server that examples find by `BROKER_URL`."""
    with RedisServer(tmp_path / "redis") as redis:
        monkeypatch.setenv("BROKER_URL", redis.url)
        yield redis


def test_redis_channel(redis: RedisServer, example: Example, tmp_path: Path) -> None:
    with Server("uvicorn", "examples.redis_channel:app", tmp_path) as server, ExitStack() as stack:
        other = Example(server, stack)
        readers = [each.get("/calls") for each in (example, other)]
        ids = [
            json.loads(each.get(f"/calls?ticket={ticket}&desk=2", "POST").read_all().body)
            for each, ticket in ((example, "A17"), (other, "A18"), (example, "A19"))
        ]
        for reader in readers:
            events = reader.read_until(b"A19").events
            assert [(event.event, event.id) for event in events] == [("called", id) for id in ids]
            assert [event.json() for event in events] == [{"ticket": f"A{n}", "desk": 2} for n in (17, 18, 19)]

    # A client of the server that has ended goes on at the other one.
    moved = example.get("/calls", headers={"last-event-id": ids[0]}).read_until(b"A19")
    assert [event.id for event in moved.events] == ids[1:]


def test_redis_that_is_full_is_told_to_who_publishes(redis: RedisServer, tmp_path: Path) -> None:
    with Server("uvicorn", "examples.redis_channel:app", tmp_path) as server:
        redis.client.config_set("maxmemory", 1)
        with server.get("/calls?ticket=A17&desk=2", "POST").read_head().read_all() as answer:
            assert answer.status == 503
            assert json.loads(answer.body) == {"detail": "the call was not made, try again"}


@pytest.fixture
def nginx(example: Example, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx with the configuration of examples/behind_nginx.conf; it is stopped after the example."""
    port = free_port()
    configuration = (ROOT / "examples" / "behind_nginx.conf").read_text()
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{example.server.port}"),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
    ):
        assert old in configuration
        configuration = configuration.replace(old, new)
    path, log = tmp_path / "nginx.conf", tmp_path / "error.log"
    path.write_text(MAIN.format(folder=tmp_path, configuration=configuration))
    process = subprocess.Popen([require("nginx", "nginx-light"), "-c", str(path), "-e", str(log)])

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers, what="nginx answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def test_behind_nginx(nginx: int) -> None:
    with RawClient(nginx, "/").read_head().read_all() as page:
        assert b"EventSource" in page.body
    # Few and small: where they were collected, for a compression for instance, nothing would come for a minute.
    with (
        RawClient(nginx, "/tide", headers={"accept-encoding": "gzip"}).read_head().read_until(b'"minute":10') as stream
    ):
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in stream.headers
        assert [event.json() for event in stream.events] == [
            {"minute": 0, "cm": 200},
            {"minute": 5, "cm": 208},
            {"minute": 10, "cm": 215},
        ]


def test_the_configuration_beside_the_example_is_that_of_the_documentation() -> None:
    def directives(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]

    (section,) = (each for each in sections(ROOT / "docs" / "proxies.md") if each.of("nginx"))
    (documented,) = section.of("nginx")
    beside = (ROOT / "examples" / "behind_nginx.conf").read_text()
    assert directives(beside.replace("listen 8080;", "listen 80;")) == directives(documented.text)
