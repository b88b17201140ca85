"""The command line: what it says, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
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
