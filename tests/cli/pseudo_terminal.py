"""A command at a terminal, as somebody would use it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.command import COMMAND, DEADLINE, ENVIRONMENT


class Session:
    """The command, and what it has written."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.output = ""
        self._terminal = terminal

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, text: str) -> None:
        """Wait until it has written this."""
        give_up = time.monotonic() + DEADLINE
        while text not in self.output:
            assert time.monotonic() < give_up, self.output
            assert self._read(), f"it has ended without {text!r}: {self.output}"

    def end(self) -> int:
        """Its exit code, when it has ended."""
        while self._read():
            pass
        return self.process.wait(DEADLINE)

    def _read(self) -> bool:
        readable, _, _ = select.select([self._terminal], [], [], DEADLINE)
        assert readable, f"nothing follows: {self.output}"
        try:
            some = os.read(self._terminal, 65_536)
        except OSError:  # nobody has the other end open any more
            return False
        self.output += some.decode()
        return bool(some)


@contextmanager
def at_terminal(*arguments: str, columns: int = 120, rows: int = 24) -> Iterator[Session]:
    """Run a command with a terminal for its input, output and errors; Ctrl-C is the character \\x03."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", *COMMAND, *arguments],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**environment, "TERM": "xterm"},
    ) as process:
        os.close(end)
        try:
            yield Session(process, terminal)
        finally:
            process.kill()
            os.close(terminal)
