"""`tidings tail`: a process of its own that follows streams of a real server."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, DEADLINE, ENVIRONMENT, run, start
from tests.servers.servers import Server, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("uvicorn", "tests.cli.tail_app:app", tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@contextmanager
def following(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with start("tail", *arguments, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[bytes], last: bytes) -> list[bytes]:
    assert process.stdout is not None
    lines: list[bytes] = []
    while last not in lines:
        line = process.stdout.readline()
        assert line, f"ended after {lines[-3:]}"
        lines.append(line.rstrip(b"\n"))
    return lines


def complaint(process: subprocess.Popen[bytes]) -> str:
    """The next line of standard error."""
    assert process.stderr is not None
    return process.stderr.readline().decode()


# -- following --------------------------------------------------------------------------------------------------------


def test_a_server_that_is_killed_costs_no_event_and_repeats_none(tmp_path: Path) -> None:
    port, app = free_port(), "tests.cli.tail_app:app"
    with Server("uvicorn", app, tmp_path, port) as first, following(f"http://127.0.0.1:{port}/numbers") as process:
        lines = lines_until(process, b"20")
        first.kill()
        note = complaint(process)
        with Server("uvicorn", app, tmp_path, port):
            seen = int(lines[-1])
            lines += lines_until(process, str(seen + 200).encode())
    assert lines == [str(number).encode() for number in range(1, seen + 201)]
    assert re.fullmatch(r"tidings: lost the connection \(.+\); again in \d+\.\d s\n", note)


def test_it_ends_when_the_server_says_that_there_is_no_more(address: str) -> None:
    result = run("tail", f"{address}/three")
    assert (result.returncode, result.stdout) == (0, "1\n2\n3\n")
    assert re.fullmatch(r"tidings: the stream ended; again in 0\.0 s\n", result.stderr)


def test_it_stops_after_a_count(address: str) -> None:
    result = run("tail", f"{address}/numbers", "-n", "4")
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n2\n3\n4\n", "")


def test_it_goes_on_after_an_id(address: str) -> None:
    result = run("tail", f"{address}/numbers", "-n", "2", "--last-event-id", "70")
    assert result.stdout == "71\n72\n"


def test_a_name_filters(address: str) -> None:
    assert run("tail", f"{address}/numbers", "-n", "3", "--event", "even").stdout == "2\n4\n6\n"
    result = run("tail", f"{address}/numbers", "-n", "3", "--event", "even", "--event", "message")
    assert result.stdout == "1\n2\n3\n"


def test_silence_can_be_bounded(address: str) -> None:
    with following(f"{address}/silent", "--read-timeout", "0.2") as process:
        assert "ReadTimeout" in complaint(process)
        assert lines_until(process, b'"one"')


# -- what it prints ---------------------------------------------------------------------------------------------------


def test_a_pipe_gets_the_data_as_it_is(address: str) -> None:
    result = run("tail", f"{address}/nasty", "-n", "2", encoding="utf-8")
    assert result.stdout == '\x1b]0;owned\x07 \x9b31m \u202ereversed\nsecond line\n{"line":4,"to":"Märzstraße"}\n'


def test_json_is_an_object_per_line(address: str) -> None:
    result = run("tail", f"{address}/nasty", "-n", "2", "--json", encoding="utf-8")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"event": "na\x1bme", "data": "\x1b]0;owned\x07 \x9b31m \u202ereversed\nsecond line", "id": "i\x1bd"},
        {"event": "message", "data": '{"line":4,"to":"Märzstraße"}', "id": "i\x1bd"},
    ]


def test_the_locale_makes_no_difference(address: str) -> None:
    env = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}
    result = run("tail", f"{address}/nasty", "-n", "2", encoding="utf-8", env=env)
    assert result.stdout.endswith('{"line":4,"to":"Märzstraße"}\n')


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the command writes to a terminal."""
    master, slave = pty.openpty()
    env = {name: value for name, value in ENVIRONMENT.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    try:
        with following(*arguments, stdout=slave, env=env | environment) as process:
            os.close(slave)
            written = b""
            while True:
                try:
                    piece = os.read(master, 65536)
                except OSError:  # as Linux says that nobody writes any more
                    piece = b""
                if not piece:
                    break
                written += piece
            assert process.wait(DEADLINE) == 0
    finally:
        os.close(master)
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_gets_names_and_colours(address: str) -> None:
    written = on_a_terminal(f"{address}/nasty", "-n", "2")
    assert re.search(r"\x1b\[[\d;]+mmessage\x1b\[0m", written)
    assert re.search(r'\x1b\[[\d;]+m"line"\x1b\[0m', written)


def test_a_terminal_gets_no_control_characters(address: str) -> None:
    written = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal(f"{address}/nasty", "-n", "1"))
    assert written == "na\\u001bme i\\u001bd \\u001b]0;owned\\u0007 \\u009b31m \\u202ereversed\nsecond line\n"


def test_json_on_a_terminal_is_json_without_control_characters(address: str) -> None:
    written = on_a_terminal(f"{address}/nasty", "-n", "1", "--json")
    assert json.loads(written)["data"] == "\x1b]0;owned\x07 \x9b31m \u202ereversed\nsecond line"
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", written)


# -- what it sends ----------------------------------------------------------------------------------------------------


def asked(*arguments: str, **options: Any) -> dict[str, Any]:
    result = run("tail", *arguments, "-n", "1", **options)
    assert result.returncode == 0, result
    echo: dict[str, Any] = json.loads(result.stdout)
    return echo


def test_a_body_makes_it_a_post(address: str, tmp_path: Path) -> None:
    url, path = f"{address}/echo", tmp_path / "body"
    path.write_text("from a file\n")
    json_type, text_type = "application/json", "text/plain; charset=utf-8"

    def sent(*arguments: str, **options: Any) -> tuple[str, str, str]:
        echo = asked(url, *arguments, **options)
        return echo["method"], echo["body"], echo["content-type"]

    assert sent("-d", '{"a": 1}') == ("POST", '{"a": 1}', json_type)
    assert sent("-d", f"@{path}") == ("POST", "from a file\n", text_type)
    assert sent("-d", "-", input="[1]") == ("POST", "[1]", json_type)
    assert sent("-d", "[" * 50_000) == ("POST", "[" * 50_000, text_type)  # deeper than any parser goes
    assert sent("-d", "a=1", "-X", "put", "-H", "Content-Type: text/x") == ("PUT", "a=1", "text/x")


def test_without_a_body_it_is_a_get(address: str) -> None:
    assert asked(f"{address}/echo", "-H", "X-Token: a: b", "--last-event-id", "ü7") == {
        "method": "GET",
        "body": "",
        "content-type": None,
        "x-token": "a: b",
        "last-event-id": "ü7".encode().decode("latin-1"),
    }


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [("/missing", ["404 Not Found"]), ("/page", ["text/plain", "not text/event-stream"]), ("/loop", ["redirect"])],
)
def test_what_is_no_stream_ends_it(address: str, path: str, words: list[str]) -> None:
    url = address.replace("//", "//user:secret@") + path
    result = run("tail", url, "-H", "X-Token: secret")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_it_gives_up_after_some_failures_in_a_row(tmp_path: Path) -> None:
    with (
        Server("uvicorn", "tests.cli.tail_app:app", tmp_path) as server,
        following(f"http://user:secret@127.0.0.1:{server.port}/silent", "-H", "X-Token: secret") as process,
    ):
        # The stream asks for attempts that follow each other fast.
        lines_until(process, b'"one"')
        server.kill()
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "10 attempts in a row" in errors.decode().splitlines()[-1]
    assert b"secret" not in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["localhost/events"], "http://"),
        (["http://127.0.0.1/", "--last-event-id", "a\nb"], "id"),
        (["http://127.0.0.1/", "-H", "Token secret"], "'NAME: VALUE'"),
        (["http://127.0.0.1/", "-n", "0"], "--count"),
        (["http://127.0.0.1:65536/"], "no URL"),
        (["http://127.0.0.1/", "--last-event-id", "\udcff"], "UTF-8"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], word: str) -> None:
    result = run("tail", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert word in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["tail", "doctor"])
def test_a_missing_client_is_named(command: str) -> None:
    program = "import sys; sys.modules['httpx2'] = None; from tidings.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, command, "http://127.0.0.1/"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr == f"tidings: tidings {command} needs httpx2, which isn't installed: pip install 'tidings[cli]'\n"
    )


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_a_closed_pipe_ends_it(address: str) -> None:
    # After its first line this stream is silent for ever.
    for path in ("silent", "numbers"):
        result = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$@" | head -1', "bash", *COMMAND, "tail", f"{address}/{path}"],
            capture_output=True,
            timeout=DEADLINE,
            env=ENVIRONMENT,
            check=False,
        )
        assert (result.returncode, result.stdout.count(b"\n"), result.stderr) == (0, 1, b"")


@pytest.mark.parametrize(
    ("redirection", "code", "word"),
    [(">&-", 2, "standard output is closed"), (">/dev/full", 1, "No space left"), ("-d - <&-", 2, "standard input")],
)
def test_a_standard_stream_of_no_use_is_named(address: str, redirection: str, code: int, word: str) -> None:
    result = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *COMMAND, "tail", f"{address}/numbers"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=ENVIRONMENT,
        check=False,
    )
    assert (result.returncode, result.stdout) == (code, "")
    assert word in result.stderr
    assert len(result.stderr.splitlines()) == 1


def assert_interrupted(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_it_can_be_interrupted_while_it_follows(address: str) -> None:
    with following(f"{address}/silent") as process:
        lines_until(process, b'"one"')
        assert_interrupted(process)


def test_it_can_be_interrupted_while_it_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        with following(f"http://127.0.0.1:{listener.getsockname()[1]}/") as process:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(DEADLINE)
                assert connection.recv(1)
                assert_interrupted(process)


def test_it_can_be_interrupted_while_it_waits() -> None:
    with following(f"http://127.0.0.1:{free_port()}/") as process:
        assert "again in" in complaint(process)
        assert_interrupted(process)
