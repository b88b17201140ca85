"""A soak run, small and short: real workers that are killed, and the tables at its end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from soak.run import faults_in

from tests.servers.servers import ROOT, require


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "soak", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def test_nothing_is_lost_while_workers_and_redis_are_killed(tmp_path: Path) -> None:
    require("redis-server", "redis-server")
    out = tmp_path / "soak.md"
    # The four acts of this seed: connections cut, a worker killed, Redis killed, connections reset.
    options = "--storages redis --minutes 0.04 --every 0.65 --clients 16 --rate 40 --workers 2 --seed 3670"
    done = soak(*options.split(), f"--out={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.read_text() == done.stdout
    cells = re.findall(r"^\|([^|]+)\|([^|]+)\|$", done.stdout, re.MULTILINE)
    rows = {name.strip(" *"): value.strip() for name, value in cells}
    assert [rows[name] for name in ("lost", "doubled", "out of order", "clients without the last event")] == ["0"] * 4
    # Of some 90; fewer on a busy machine, where what was killed is away for longer.
    assert int(rows["events acknowledged"].replace(",", "")) > 10
    assert int(rows["events delivered"].replace(",", "")) > 10
    for act in ("worker killed", "Redis killed", "connections cut", "connections reset"):
        assert re.search(rf"^\| {act}[^|]*\| +1 \|", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("arguments", ["--storages memory", "--workers 1", "--clients 3"])
def test_what_it_cannot_do_it_refuses(arguments: str) -> None:
    done = soak(*arguments.split())
    assert done.returncode == 2
    assert "error: " in done.stderr


FAILED_START = """\
INFO:     Waiting for application startup.
ERROR:    Traceback (most recent call last):
  File "broker.py", line 1, in open
    raise StorageError
tidings.errors.StorageError: can't connect to 127.0.0.1:6379

ERROR:    Application startup failed. Exiting.
"""

OTHER_ERROR = """\
ERROR:    Exception in ASGI application
Traceback (most recent call last):
tidings.errors.StorageError: the log can't be read
"""


def test_errors_of_workers_are_found_but_not_those_of_a_start_without_redis() -> None:
    assert faults_in(FAILED_START * 2) == []
    found = faults_in(FAILED_START + OTHER_ERROR + FAILED_START)
    assert found == ["ERROR:    Exception in ASGI application", "Traceback (most recent call last):"]
    assert len(faults_in(FAILED_START.replace("StorageError", "KeyError"))) == 2


def test_a_client_that_stalled_is_no_fault() -> None:
    line = "ERROR:    ASGI callable returned without completing response.\n"
    assert faults_in(line + OTHER_ERROR + line) == faults_in(OTHER_ERROR)
