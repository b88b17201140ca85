"""How a command ends."""

import sys
from typing import Final, NoReturn

__all__ = ["USAGE", "fail"]

USAGE: Final = 2
"""The exit code for wrong options, and for what isn't installed."""


def fail(message: str, code: int = USAGE) -> NoReturn:
    """Say on standard error why the command can't go on, and end the process."""
    sys.stderr.write(f"tidings: {message}\n")
    sys.exit(code)
