"""The demo's processes: workers that are killed, a parent that is, and how all of it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.broker.redis_server import RedisServer
from tests.browser.demo_process import DEADLINE, DemoProcess, eventually
from tests.demo.reading import Connection, StartDemo, get, send
from tidings.wire import ReceivedEvent


def numbers(events: list[ReceivedEvent]) -> list[int]:
    return [event.json()["number"] for event in events if event.event == "count"]


def pids(process: DemoProcess) -> set[int]:
    return {worker.pid for worker in process.workers()}


@contextmanager
def served_by_each(process: DemoProcess, path: str) -> Iterator[dict[int, Connection]]:
    """A stream of each worker, by its process id. Which of them takes a connection is the system's choice."""
    streams: dict[int, tuple[Any, Connection]] = {}
    give_up = time.monotonic() + DEADLINE
    try:
        while len(streams) < 2:
            assert time.monotonic() < give_up, f"one worker takes all connections: {list(streams)}"
            opening = get(process, path)
            stream = opening.__enter__()
            pid = stream.next().json()["pid"]
            if pid in streams:
                opening.__exit__(None, None, None)
            else:
                streams[pid] = opening, stream
        yield {pid: stream for pid, (_, stream) in streams.items()}
    finally:
        for opening, _ in streams.values():
            opening.__exit__(None, None, None)


def test_a_killed_worker_is_replaced_and_its_client_misses_nothing(demo: StartDemo) -> None:
    process = demo()
    with served_by_each(process, "/figures") as streams:
        (victim, stream), (survivor, other) = streams.items()
        before = [stream.until("count") for _ in range(5)]
        assert send(process, "POST", f"/workers/{victim}/kill")[0] == 202
        before += [event for event in stream.rest() if event.event == "count"]
        with get(process, "/figures", last_event_id=before[-1].id) as resumed:
            served = resumed.next()
            assert (served.event, served.json()["pid"] != victim) == ("served", True)
            after = [resumed.until("count", "reset") for _ in range(20)]
            # A reset would say that something is missing.
            assert {event.event for event in after} == {"count"}
        seen = numbers(before + after)
        assert seen == list(range(seen[0], seen[0] + len(seen)))
        # The other one's client notices nothing.
        unharmed = numbers([other.until("count") for _ in range(seen[-1] - 1)])
        assert unharmed == list(range(unharmed[0], unharmed[0] + len(unharmed)))
    eventually(lambda: len(pids(process) - {victim}) == 2, "a new worker is there")
    assert survivor in pids(process)
    with served_by_each(process, "/desk") as streams:
        assert streams.keys() == pids(process)


def test_a_single_worker_is_replaced_as_well(demo: StartDemo) -> None:
    process = demo(None, "--workers", "1")
    with get(process, "/figures") as stream:
        victim = stream.next().json()["pid"]
        last = stream.until("count")
        assert send(process, "POST", f"/workers/{victim}/kill")[0] == 202
        last = next((event for event in reversed(stream.rest()) if event.event == "count"), last)
    # It waits until somebody serves again.
    with get(process, "/figures", last_event_id=last.id) as stream:
        assert stream.next().json()["pid"] != victim
        assert numbers([stream.until("count", "reset")]) == [last.json()["number"] + 1]


def test_nothing_but_workers_can_be_killed(demo: StartDemo) -> None:
    process = demo()
    eventually(lambda: len(pids(process)) == 2, "both workers are there")
    workers = pids(process)
    parent = process.workers()[0].ppid()
    for child in [*process.workers()[0].parent().children(), process.workers()[0].parent()]:
        if child.pid not in workers:
            assert send(process, "POST", f"/workers/{child.pid}/kill")[0] == 404
    assert send(process, "POST", f"/workers/{parent}/kill")[0] == 404
    assert pids(process) == workers


def test_what_a_killed_worker_was_doing_is_said_to_be_lost(demo: StartDemo) -> None:
    process = demo()
    with served_by_each(process, "/desk") as streams:
        # Which one runs a task is seen from the other: it goes on there, or is lost.
        for _ in range(2):
            assert send(process, "POST", "/tasks", {"kind": "checksum"})[0] == 200
        assert send(process, "POST", "/chat", {"text": "Why?"})[0] == 202
        (victim, _), (_, other) = streams.items()
        started: set[int] = set()
        while started < {1, 2}:
            started.add(other.until("progress").json()["slot"])
        survivor = next(worker for worker in process.workers() if worker.pid != victim)
        # Both, so that all of it is lost wherever it runs; those who replace them see it.
        os.kill(victim, signal.SIGKILL)
        survivor.kill()
    died = time.monotonic()
    with get(process, "/desk") as stream:
        lost = {}
        while len(lost) < 3:
            aborted = stream.until("aborted").json()
            lost[aborted["channel"]] = aborted["reason"]
        # 12 seconds, and what a busy machine takes.
        assert time.monotonic() - died < 30
    assert lost == {"task/1": "lost", "task/2": "lost", "chat": "lost"}
    assert send(process, "POST", "/tasks", {"kind": "compress"}) == (200, {"slot": 1})


def test_workers_tell_what_they_send(demo: StartDemo) -> None:
    process = demo()
    with get(process, "/figures") as stream:
        pid = stream.next().json()["pid"]
        while (load := stream.until("worker").json())["pid"] != pid or not load["events"]:
            pass
        assert load["streams"] == 1
        assert load["bytes"] > load["events"] > 1
        assert load["readers"] == {"news": 0}


def test_workers_end_when_their_parent_is_killed(demo: StartDemo) -> None:
    process = demo()
    with get(process, "/figures") as stream:
        stream.until("count")
        workers = process.workers()
        process.kill_parent()
        stream.rest()
    eventually(lambda: not any(worker.is_running() for worker in workers), "no worker is left")
    process.start()  # on the same port


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_soon_whatever_runs_and_says_so_the_next_time(demo: StartDemo, signum: signal.Signals) -> None:
    process = demo()
    with get(process, "/desk") as stream, get(process, "/figures") as figures:
        assert send(process, "POST", "/tasks", {"kind": "checksum"})[0] == 200
        assert send(process, "POST", "/chat", {"text": "Why?"})[0] == 202
        stream.until("progress")
        figures.until("count")
        sent = time.monotonic()
        assert process.stop(signum) == 0
        # Two, on a machine that has nothing else to do.
        assert time.monotonic() - sent < 10
        for ended in (stream, figures):
            ended.rest()
            assert ended.decoder.retry != 1000, "it was ended, and not cut off"
    assert "Traceback" not in process.output()
    process.start()
    with get(process, "/desk") as stream:
        reasons = [stream.until("aborted").json() for _ in range(2)]
    assert sorted(reasons, key=lambda reason: str(reason["channel"])) == [
        {"channel": "chat", "reason": "shutdown"},
        {"channel": "task/1", "reason": "shutdown"},
    ]


def test_news_are_there_after_a_restart(demo: StartDemo) -> None:
    process = demo()
    id = send(process, "POST", "/news", {"text": "The ferry is late."})[1]["id"]
    process.stop(signal.SIGKILL)
    process.start()
    with get(process, "/desk") as stream:
        assert stream.until("headline").id == id


def test_two_demos_do_not_meet(demo: StartDemo) -> None:
    first, second = demo(), demo()
    assert first.port != second.port
    for process, text in ((first, "of the first"), (second, "of the second")):
        assert send(process, "POST", "/news", {"text": text})[0] == 200
    for process, text in ((first, "of the first"), (second, "of the second")):
        with get(process, "/desk") as stream:
            assert stream.until("headline").json()["text"] == text


def test_the_channels_may_be_in_redis(demo: StartDemo, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        process = demo(None, "--broker", redis.url)
        with served_by_each(process, "/desk") as streams:
            assert send(process, "POST", "/news", {"text": "The ferry is late."})[0] == 200
            assert send(process, "POST", "/tasks", {"kind": "checksum"}) == (200, {"slot": 1})
            for stream in streams.values():
                assert stream.until("headline").json()["text"] == "The ferry is late."
                stream.until("progress")
            assert send(process, "DELETE", "/tasks/1") == (200, {"stopped": True})
            for stream in streams.values():
                assert stream.until("stopped").json() == {"channel": "task/1"}
        with get(process, "/figures") as stream:
            seen = numbers([stream.until("count") for _ in range(10)])
        assert seen == list(range(seen[0], seen[0] + 10))
        assert not list((tmp_path / "data").rglob("*.db"))
        assert process.stop() == 0
