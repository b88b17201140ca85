"""Demos as processes, and demos in this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.demo_process import DemoProcess
from tidings.demo.settings import Settings


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., DemoProcess]]:
    """Start a demo: `demo(follow=path)`, or `demo(None, "--workers", "1")`."""
    started: list[DemoProcess] = []

    def start(follow: Path | None = None, *options: str) -> DemoProcess:
        process = DemoProcess(tmp_path, follow, *options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.log"
    path.write_text("".join(f"ship {number}\n" for number in range(5)))
    return path


@pytest.fixture
def settings(tmp_path: Path, log: Path) -> Settings:
    """Those of a demo in this process: not local, so that it answers to any name."""
    return Settings(folder=tmp_path, port=0, log=log, own_log=False, local=False)
