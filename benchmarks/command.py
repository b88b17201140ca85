"""How servers are started, and what version they are."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_INSTALLED = "not installed"

Command = Callable[[int, Path], list[str]]
"""Of the port to listen on, and a folder that the server has for itself: the words of a command line."""


def uvicorn(app: str) -> Command:
    """One worker, with what `uvicorn[standard]` brings."""

    def command(port: int, _: Path) -> list[str]:
        return [
            sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port),
            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
            "--backlog", "4096", "--timeout-graceful-shutdown", "1",
        ]  # fmt: skip

    return command


def module(name: str) -> Command:
    """A server that is a module of this repository: it takes the port."""
    return lambda port, _: [sys.executable, "-m", name, str(port)]


def playback(answer: Path) -> Command:
    """Writes what is in this file to whoever asks."""
    return lambda port, _: [sys.executable, str(ROOT / "benchmarks" / "playback.py"), str(port), str(answer)]


def needs(*distributions: str) -> Callable[[], str | None]:
    """What of these isn't installed, said in words; None if everything is."""

    def missing() -> str | None:
        names = " ".join(name for name in distributions if distribution_version(name) == NOT_INSTALLED)
        return f"not installed here: pip install {names}" if names else None

    return missing


def distribution_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED
