"""The `tidings` command, run as users run it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

DEADLINE = 60.0

COMMAND = [sys.executable, "-m", "tidings.cli"]

ENVIRONMENT = {
    # Unbuffered output would hide what isn't flushed.
    **{k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED" and not k.lower().endswith("_proxy")},
    "COLUMNS": "100",
    "NO_COLOR": "1",
    "PYTHONWARNINGS": "error",
}


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    options = {"capture_output": True, "text": True, "timeout": DEADLINE, "env": ENVIRONMENT} | options
    return subprocess.run([*COMMAND, *arguments], check=False, **options)


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Begin a command that goes on until something ends it; with pipes, unless the options say otherwise."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    return subprocess.Popen([*COMMAND, *arguments], **{**pipes, **options})
