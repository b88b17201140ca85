"""How a command ends."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

__all__ = ["FAILED", "INTERRUPTED", "USAGE", "ends_quietly", "fail"]

FAILED: Final = 1
"""The exit code for what went wrong though the options are right."""

USAGE: Final = 2
"""The exit code for wrong options, and for what isn't installed."""

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as of shells: 128 and the signal's number."""

_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
"""The errors of an output that takes nothing more, such as a file on a full disk."""


def fail(message: str, code: int = USAGE) -> NoReturn:
    """Say on standard error why the command can't go on, and end the process."""
    sys.stderr.write(f"tidings: {message}\n")
    sys.exit(code)


@contextmanager
def ends_quietly() -> Iterator[None]:
    """No traceback for what can happen to every command.

    Ctrl-C ends it with 130, a reader of the output that has enough (`| head -1`) with 0, and a full disk with 1.
    """
    try:
        yield
        if sys.stdout is not None:  # it is where the command was started without one
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _discard_output()
        fail(f"can't write: {error.strerror}", FAILED)


def _discard_output() -> None:
    """What is still in the buffer has to go somewhere when Python flushes it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
