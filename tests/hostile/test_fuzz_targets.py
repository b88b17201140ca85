"""A little of each fuzz target, without atheris: they run, and hold. That of the decoder is in `tests/wire`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "fuzz"


def fuzz(target: str, *options: str) -> str:
    command = [sys.executable, "-W", "error", str(FUZZ / target), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_any_bytes_are_a_place_in_a_log_or_a_reset() -> None:
    assert fuzz("position.py", "--runs", "5000", "--seed", "1") == "5000 inputs, seed 1: the invariant held\n"


def test_each_kind_of_malformed_request_to_every_endpoint_of_the_demo() -> None:
    printed = fuzz("demo.py", "--count", "21", "--seed", "1")
    assert printed.endswith("21 requests to each of 12 endpoints, seed 1: all was well\n")
    assert re.search(r"^GET /figures +.*200: .*400: ", printed, flags=re.MULTILINE)
