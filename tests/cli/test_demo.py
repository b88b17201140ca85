"""`tidings demo`: what it refuses, what it says, and how it ends."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.command import DEADLINE, ENVIRONMENT, run, start
from tests.servers.servers import free_port, wait_until


def test_help_shows_examples() -> None:
    result = run("demo", "--help")
    assert result.returncode == 0
    options = ["--host", "--port", "--follow", "--data", "--workers", "--broker"]
    for text in ["tidings demo --follow /var/log/syslog", "8000", "OPENAI_BASE_URL", *options]:
        assert text in result.stdout


# -- bad options ------------------------------------------------------------------------------------------------------


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("port", ["http", "-1", "65536", "80.5"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    assert_refused(run("demo", "--port", port), "--port")


@pytest.mark.parametrize("workers", ["0", "-1", "many", "65"])
def test_a_number_of_workers_that_is_none_is_refused(workers: str) -> None:
    assert_refused(run("demo", "--workers", workers), "--workers")


def test_a_taken_port_is_named_with_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = run("demo", "--port", str(port), "--data", str(tmp_path))
    assert_refused(result, f"port {port} on 127.0.0.1", "in use", f"--port {port + 1 if port < 65535 else 8000}")


def test_an_unknown_host_is_named() -> None:
    assert_refused(run("demo", "--host", "no such host", "--port", "0"), "'no such host'", "--host 127.0.0.1")


def test_a_host_of_another_machine_is_named() -> None:
    # An address for documentation, which no machine has.
    assert_refused(run("demo", "--host", "192.0.2.1", "--port", "0"), "192.0.2.1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.log"
    assert_refused(run("demo", "--port", "0", "--follow", str(path)), str(path), "No such file")


def test_a_folder_is_not_followed(tmp_path: Path) -> None:
    assert_refused(run("demo", "--port", "0", "--follow", str(tmp_path)), str(tmp_path), "folder")


def test_a_pipe_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert_refused(run("demo", "--port", "0", "--follow", str(path)), str(path), "no regular file")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # A file where a folder would have to be: refused to the superuser as well.
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "folder"
    assert_refused(run("demo", "--port", "0", "--data", str(path)), str(path), "--data DIR")


def test_a_folder_that_another_demo_uses_is_named(tmp_path: Path) -> None:
    # Such as one on the same port of another address.
    port = free_port()
    folder = tmp_path / str(port)
    folder.mkdir()
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("demo", "--port", str(port), "--data", str(tmp_path))
    assert_refused(result, str(folder), "another demo", "--data DIR")


def test_a_file_that_is_no_log_of_a_broker_is_named(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / str(port)).mkdir()
    (tmp_path / str(port) / "desk.db").write_text("no database " * 100)
    assert_refused(run("demo", "--port", str(port), "--data", str(tmp_path)), "desk.db")


@pytest.mark.parametrize(
    ("broker", "words"),
    [
        ("memory://", ["--broker", "redis://"]),
        ("sqlite:///events.db", ["--broker", "redis://"]),
        ("elsewhere", ["--broker", "redis://host:6379/0"]),
        ("redis://", ["--broker", "needs a host"]),
        ("redis://harbour:secret@127.0.0.1:1/0", ["redis://", "Is a server running there?"]),
    ],
)
def test_a_broker_that_cannot_be_used_is_named(tmp_path: Path, broker: str, words: list[str]) -> None:
    result = run("demo", "--port", "0", "--data", str(tmp_path), "--broker", broker)
    assert_refused(result, *words)
    assert "secret" not in result.stderr


def test_an_unknown_option_is_refused() -> None:
    assert_refused(run("demo", "--colour"), "--colour")


def test_workers_that_cannot_start_end_the_demo(tmp_path: Path) -> None:
    program = "import tidings.demo.server as s; s.APP = 'nowhere:app'; from tidings.cli import main; main()"
    command = [sys.executable, "-c", program, "demo", "--port", "0", "--data", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=ENVIRONMENT)
    assert result.returncode == 2
    assert 'module "nowhere"' in result.stderr
    assert result.stderr.endswith("tidings: the workers ended by themselves; what they said stands above\n")


def test_workers_that_cannot_open_their_files_end_the_demo(tmp_path: Path) -> None:
    # What the parent had is gone when they come.
    program = (
        "import tidings.demo.server as s; from tidings.cli import main; _serve = s._serve\n"
        "def serve(settings, listener, workers, ready):\n"
        "    def spoil(): ready(); (settings.folder / 'access.log').mkdir()\n"
        "    _serve(settings, listener, workers, spoil)\n"
        "s._serve = serve; main()"
    )
    command = [sys.executable, "-c", program, "demo", "--port", "0", "--data", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=ENVIRONMENT)
    assert result.returncode == 2
    assert "Is a directory" in result.stderr
    assert result.stderr.endswith("tidings: the workers ended by themselves; what they said stands above\n")


# -- running ----------------------------------------------------------------------------------------------------------


def read_port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if address := re.search(rb"http://127\.0\.0\.1:(\d+)", line):
            return int(address[1])
    raise AssertionError(process.communicate())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A demo and its port; its files go where the XDG specification has them."""
    environment = {**ENVIRONMENT, "XDG_STATE_HOME": str(tmp_path)}
    # As of a terminal: a group of its own, to which Ctrl-C is sent.
    with start("demo", "--port", "0", env=environment, start_new_session=True) as process:
        try:
            yield process, read_port(process)
        finally:
            process.kill()


@pytest.mark.parametrize("to", ["parent", "all"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_though_a_stream_is_open(
    running: tuple[subprocess.Popen[bytes], int], signum: signal.Signals, to: str
) -> None:
    process, port = running
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/figures")
        with connection.getresponse() as response:
            assert response.readline()
            sent = time.monotonic()
            (os.killpg if to == "all" else os.kill)(process.pid, signum)
            output, errors = process.communicate(timeout=DEADLINE)
            assert time.monotonic() - sent < 10
            assert b"retry:" in response.read()
    finally:
        connection.close()
    assert (process.returncode, errors) == (0, b"")
    assert output.endswith(b"stopped\n") == (signum == signal.SIGINT)


def test_an_interrupt_while_workers_start_is_quiet(running: tuple[subprocess.Popen[bytes], int]) -> None:
    process, _ = running
    # Both are at their first imports then. The third is Python's own.
    children = psutil.Process(process.pid).children
    wait_until(
        lambda: sorted(child.cpu_times().user for child in children())[-2:-1] > [0.03], DEADLINE, "workers start"
    )
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, b"")
    assert output.endswith(b"stopped\n")


def test_its_files_go_to_the_folder_for_state(running: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    _, port = running
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/?first")
        assert connection.getresponse().read()
    finally:
        connection.close()
    folder = tmp_path / "tidings" / str(port)
    give_up = time.monotonic() + DEADLINE
    while '"GET /?first HTTP/1.1" 200' not in (folder / "access.log").read_text():
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert {"access.log", "desk.db", "figures.db"} <= {path.name for path in folder.iterdir()}
