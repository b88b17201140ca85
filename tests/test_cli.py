"""The command line: what it says, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import tidings

DEADLINE = 60.0


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidings.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONWARNINGS": "error", **environment},
    )


def run_without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As `run`, on a machine where a module isn't installed."""
    program = f"import sys; sys.modules[{module!r}] = None; from tidings.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"tidings {tidings.__version__}\n")


def test_the_script_is_installed() -> None:
    script = Path(sys.executable).parent / "tidings"
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_help_shows_examples() -> None:
    result = run("demo", "--help")
    assert result.returncode == 0
    for text in ["tidings demo --follow /var/log/syslog", "--host", "--port", "--follow", "--data", "8000"]:
        assert text in result.stdout


def test_without_a_command_the_commands_are_listed() -> None:
    result = run()
    assert "demo" in result.stdout + result.stderr


def test_importing_the_command_line_loads_no_extra() -> None:
    program = "import sys, tidings.cli; print({'typer', 'rich', 'psutil', 'fastapi', 'uvicorn'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    ("module", "extra"), [("typer", "cli"), ("rich", "cli"), ("psutil", "demo"), ("fastapi", "demo")]
)
def test_a_missing_extra_is_named(module: str, extra: str) -> None:
    result = run_without(module, "demo")
    assert result.returncode == 2
    assert module in result.stderr
    assert f"pip install 'tidings[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


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


def test_an_unknown_option_is_refused() -> None:
    assert_refused(run("demo", "--colour"), "--colour")


# -- running ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A demo and its port; the access log goes where the XDG specification has it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tidings.cli", "demo", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONWARNINGS": "error"},
    ) as process:
        try:
            assert process.stdout is not None
            address = None
            while address is None:
                line = process.stdout.readline()
                assert line, process.communicate()
                address = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            yield process, int(address[1])
        finally:
            process.kill()


@pytest.mark.parametrize(("signum", "codes"), [(signal.SIGINT, {0}), (signal.SIGTERM, {0, -signal.SIGTERM})])
def test_it_ends_at_once_though_a_stream_is_open(
    running: tuple[subprocess.Popen[str], int], signum: signal.Signals, codes: set[int]
) -> None:
    process, port = running
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/machine")
        with connection.getresponse() as response:
            assert response.readline()
            sent = time.monotonic()
            process.send_signal(signum)
            output, errors = process.communicate(timeout=DEADLINE)
            assert time.monotonic() - sent < 10
            assert b"retry:" in response.read()
    finally:
        connection.close()
    assert process.returncode in codes
    assert errors == ""
    if signum == signal.SIGINT:
        assert output.endswith("stopped\n")


def test_the_access_log_goes_to_the_folder_for_state(
    running: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    _, port = running
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/?first")
        assert connection.getresponse().read()
    finally:
        connection.close()
    log = tmp_path / "tidings" / f"access-{port}.log"
    give_up = time.monotonic() + DEADLINE
    while '"GET /?first HTTP/1.1" 200' not in log.read_text():
        assert time.monotonic() < give_up
        time.sleep(0.02)
