"""curl, which shows the bytes as they come."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.clients.conftest import asked, finish, publish, url
from tests.clients.pings import PINGS
from tests.clients.voyage import CHART, LAST, LEGS
from tests.servers.servers import Server, require

BOARDING = 'event: cast_off\ndata: {"port":"Ærøskøbing","passengers":37}\nid: 1\n\n'

ON_THE_WAY = (
    "event: logbook\ndata: wind 4\ndata: \ndata:   engine: ok\u2028bridge: ok \ndata: \nid: 2\n\n"
    ": a comment of the ship's own\n: in two lines\n\n"
    'data: {"latitude":54.8,"longitude":10.4}\n\n'
    "event: fog\ndata: \nid: 3\n\n"
    "(pings)"
    "data: : data: no, id: 9\x85\v\f\x1e\u2029\0\nid: 4 ü\n\n"
)

IN_THE_SOUND = f"event: chart\ndata: {CHART}\nid: 5\n\nid: 6\n\n"

LANDING = 'event: docked\ndata: {"port":"Faaborg","passengers":38}\nid: 7\n\n'

VOYAGE = f"retry: 50\n\n{BOARDING}(pings){ON_THE_WAY}{IN_THE_SOUND}(pings){LANDING}"


def curl(*arguments: str) -> list[str]:
    return [require("curl", "curl"), "--disable", "--silent", "--show-error", "--noproxy", "*", *arguments]


def read(*arguments: str, exit_code: int = 0) -> str:
    """What curl prints, the keep-alive comments of a quiet time as `(pings)`."""
    done = subprocess.run(curl("--max-time", "20", *arguments), capture_output=True, check=False)
    assert done.returncode == exit_code, done.stderr
    return re.sub(f"(: ping\n\n){{{PINGS},}}", "(pings)", done.stdout.decode())


@contextmanager
def following(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(curl("--no-buffer", *arguments), stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def read_block(process: subprocess.Popen[bytes]) -> str:
    """The next block that is no keep-alive comment."""
    assert process.stdout is not None
    block = b""
    while not block.endswith(b"\n\n") or block == b": ping\n\n":
        if block == b": ping\n\n":
            block = b""
        line = process.stdout.readline()
        assert line, f"ended after {block!r}"
        block += line
    return block.decode()


def test_every_byte_of_a_voyage(server: Server, name: str) -> None:
    assert read("-N", url(server, f"/voyage?ship={name}")) == VOYAGE


def test_events_come_when_they_are_published_not_when_there_are_more(server: Server, name: str) -> None:
    with following(url(server, f"/channels/{name}")) as process:
        assert read_block(process) == "retry: 50\n\n"  # it is subscribed
        for text in ("apples", "äpfel", "\u2028"):
            id = publish(server, name, text)
            assert read_block(process) == f'event: cargo\ndata: "{text}"\nid: {id}\n\n'
        finish(server, name)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert set(process.stdout.read().split(b"\n\n")) <= {b": ping", b""}


def test_each_leg_goes_on_behind_the_last_event_id_and_a_torn_one_is_an_error(server: Server, name: str) -> None:
    address = url(server, f"/voyage?ship={name}&legs=true")
    assert read("-N", address) == f"retry: 50\n\n{BOARDING}"
    torn = read("-N", "-H", "Last-Event-ID: 1", address, exit_code=18)  # "Partial file": not all of the response came
    assert torn == f"retry: 50\n\n(pings){ON_THE_WAY}(pings)"
    assert read("-N", "-H", "Last-Event-ID: 4 ü", address) == f"retry: 50\n\n{IN_THE_SOUND}"
    assert read("-N", "-H", "Last-Event-ID: 6", address) == f"retry: 50\n\n(pings){LANDING}"
    assert asked(server, name) == LEGS


def test_no_content(server: Server, name: str) -> None:
    address = url(server, f"/voyage?ship={name}")
    assert read("-w", "%{http_code}", "-H", f"Last-Event-ID: {LAST}", address) == "204"


def test_a_client_that_takes_compressed_answers_gets_the_stream_as_it_is(server: Server, name: str) -> None:
    address = url(server, f"/voyage?ship={name}")
    head, body = read("-N", "-i", "--compressed", address).split("\r\n\r\n", 1)
    assert body == VOYAGE
    assert "content-encoding" not in head.lower()
    # Not because nothing is compressed here.
    assert "content-encoding: gzip" in read("-i", "--compressed", url(server, "/page")).lower()


def test_a_request_with_a_body_and_a_header(server: Server) -> None:
    request = ["-X", "POST", "-H", "Content-Type: application/json", "-H", "X-Stamp: paid"]
    answer = read("-N", *request, "-d", '{"lines": ["ahoy", "fünf\\nsechs"]}', url(server, "/letters"))
    line = "event: line\ndata: {}\n\n(pings)"
    assert answer == (
        "retry: 50\n\n" + line.format('"ahoy"') + line.format('"fünf\\nsechs"') + "event: stamp\ndata: paid\n\n"
    )
