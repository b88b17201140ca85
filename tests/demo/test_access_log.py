"""The access log that all workers write and the station rotates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from logging.handlers import WatchedFileHandler
from pathlib import Path

import pytest

from tests.demo.reading import StartDemo, get
from tidings.demo import station
from tidings.demo.logs import Follower, Line
from tidings.demo.station import rotate_if_long

Write = Callable[[str], None]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def writers(log: Path) -> Iterator[list[Write]]:
    """Two workers that write it."""
    handlers = [WatchedFileHandler(log, encoding="utf-8") for _ in range(2)]

    def writer(handler: logging.Handler) -> Write:
        return lambda text: handler.handle(logging.makeLogRecord({"msg": text}))

    yield [writer(handler) for handler in handlers]
    for handler in handlers:
        handler.close()


def test_no_line_is_lost_when_it_is_rotated(log: Path, writers: list[Write], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "LOG_BYTES", 400)
    writers[0]("first")
    seen: list[str] = []
    with Follower(log) as follower:
        follower.open()
        rotations = 0
        for number in range(200):
            writers[number % 2](f"line {number}")
            inode = log.stat().st_ino
            rotate_if_long(log)
            rotations += log.stat().st_ino != inode  # there is one at any moment
            for _ in range(8):
                seen += [item.text for item in follower.read().items if isinstance(item, Line)]
    assert rotations > 3
    assert seen == ["first", *(f"line {number}" for number in range(200))]


def test_a_short_one_stays_and_a_missing_one_is_fine(log: Path) -> None:
    rotate_if_long(log)
    log.write_text("short\n")
    rotate_if_long(log)
    assert log.read_text() == "short\n"
    assert not log.with_suffix(".log.1").exists()


def test_requests_to_all_workers_stand_in_one_file(demo: StartDemo) -> None:
    process = demo()
    with get(process, "/log") as stream:
        for number in range(20):
            with get(process, f"/favicon.svg?hello={number}") as answer:
                answer.read()
        found = set()
        while len(found) < 20:
            text = stream.until("logged").json()["text"]
            found |= {text.split("hello=")[1].split()[0]} if "hello=" in text else set()
    assert found == {str(number) for number in range(20)}
