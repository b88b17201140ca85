"""npm's `eventsource` in node."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import asked, finish, publish, url
from tests.clients.voyage import LAST, LEGS, NAMES, SEEN, Seen
from tests.servers import conftest as servers
from tests.servers.servers import Server, wait_until
from tests.servers.test_channels import APP as CHANNELS
from tests.servers.test_channels import publish as publish_to_all

HERE = Path(__file__).parent
NODE = Path(sys.executable).parent / "node"

CONNECTING, CLOSED = 0, 2

serve = servers.serve  # the fixture


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Not skipped: what no machine has run would look as if it had passed."""
    assert NODE.exists(), f"{NODE} is missing: pip install --group dev"
    for package, version in json.loads((HERE / "package.json").read_text())["dependencies"].items():
        manifest = HERE / "node_modules" / package / "package.json"
        assert manifest.exists(), f"{package} is missing: npm install --prefix {HERE}"
        assert json.loads(manifest.read_text())["version"] == version, f"not the same: npm install --prefix {HERE}"


class Listener:
    """An `EventSource` in a process of its own, and what it told so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def _all(self, kind: str) -> list[Any]:
        return [told[kind] for told in self.told if kind in told]

    @property
    def events(self) -> list[Seen]:
        return [Seen(*event) for event in self._all("event")]

    @property
    def errors(self) -> list[list[Any]]:
        """The state afterwards, the status and the message of each."""
        return self._all("error")

    def wait_for(self, condition: Callable[[Listener], object]) -> None:
        wait_until(lambda: condition(self) or not self._thread.is_alive(), 20, "what the listener is to tell")
        assert condition(self), self.told

    def end(self) -> None:
        """Have it close its `EventSource`: then nothing is left to keep the process alive."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self._thread.join(10)


@contextmanager
def listening(url: str, *names: str, **request: Any) -> Iterator[Listener]:
    what = json.dumps({"url": url, "names": names, "request": request or None})
    command = [str(NODE), str(HERE / "listen.mjs"), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            listener = Listener(process)
            yield listener
            listener.end()
        finally:
            process.kill()


def test_a_voyage_is_read_as_the_standard_says_and_not_asked_for_after_the_end(server: Server, name: str) -> None:
    with listening(url(server, f"/voyage?ship={name}"), *NAMES) as listener:
        listener.wait_for(lambda it: len(it.errors) == 2)
        assert listener.errors == [[CONNECTING, None, None], [CLOSED, 204, "Server sent HTTP 204, not reconnecting"]]
    assert listener.events == SEEN
    assert asked(server, name) == ["None", LAST]


def test_each_leg_goes_on_behind_the_last_event_id_however_the_one_before_ended(server: Server, name: str) -> None:
    with listening(url(server, f"/voyage?ship={name}&legs=true"), *NAMES) as listener:
        listener.wait_for(lambda it: it.errors and it.errors[-1][0] == CLOSED)
    assert listener.events == SEEN
    assert [state for state, *_ in listener.errors] == [CONNECTING] * len(LEGS) + [CLOSED]
    assert asked(server, name) == [*LEGS, LAST]


def test_headers_and_a_body_go_through_its_fetch(server: Server) -> None:
    headers = {"X-Stamp": "paid", "Content-Type": "application/json"}
    body = json.dumps({"lines": ["ahoy", "fünf\nsechs"]})
    with listening(url(server, "/letters"), "line", "stamp", method="POST", headers=headers, body=body) as listener:
        listener.wait_for(lambda it: len(it.events) == 3)
    first = [Seen("line", '"ahoy"', ""), Seen("line", '"fünf\\nsechs"', ""), Seen("stamp", "paid", "")]
    assert listener.events[:3] == first


def test_a_channel_is_followed_to_its_end(server: Server, name: str) -> None:
    with listening(url(server, f"/channels/{name}"), "cargo") as listener:
        listener.wait_for(lambda it: {"open": True} in it.told)
        ids = [publish(server, name, text) for text in ("apples", "äpfel\u2028")]
        finish(server, name)
        listener.wait_for(lambda it: it.errors and it.errors[-1][:2] == [CLOSED, 204])
    assert listener.events == [Seen("cargo", '"apples"', ids[0]), Seen("cargo", '"äpfel\u2028"', ids[1])]
    assert asked(server, name) == ["None", ids[1]]


def test_nothing_is_missed_while_the_server_is_killed_and_started_again(serve: servers.Serve, tmp_path: Path) -> None:
    broker = f"sqlite:///{tmp_path / 'events.db'}"
    other = serve(app=CHANNELS, BROKER=broker)  # publishes on, while the listener's own server is gone
    server = serve(app=CHANNELS, BROKER=broker)
    with listening(url(server, "/channels/news?retry=50"), "message", "reset") as listener:
        listener.wait_for(lambda it: {"open": True} in it.told)
        ids = publish_to_all(other, "news", "before")
        listener.wait_for(lambda it: len(it.events) == 1)
        server.kill()
        ids += publish_to_all(other, "news", "meanwhile", "still meanwhile")
        server = serve(app=CHANNELS, port=server.port, BROKER=broker)
        listener.wait_for(lambda it: len(it.events) == 3)
        ids += publish_to_all(server, "news", "after")
        listener.wait_for(lambda it: len(it.events) == 4)
    texts = ['"before"', '"meanwhile"', '"still meanwhile"', '"after"']
    assert listener.events == [Seen("message", text, id) for text, id in zip(texts, ids, strict=True)]


def test_an_answer_that_is_no_stream_ends_it(server: Server) -> None:
    with listening(url(server, "/page"), "message") as listener:
        listener.wait_for(lambda it: it.errors)
        assert listener.errors == [[CLOSED, 200, 'Invalid content type, expected "text/event-stream"']]
