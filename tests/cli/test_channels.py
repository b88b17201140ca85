"""`tidings channels`: what it tells of a log that other processes write, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import DEADLINE, run, start
from tests.cli.pseudo_terminal import at_terminal
from tidings import Broker
from tidings.broker import ChannelInfo
from tidings.cli.channels import Look


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'app.db'}"


def fill(url: str, **channels: int) -> dict[str, ChannelInfo]:
    """Publish so many events of ten characters into these channels; what the application knows of them then."""

    async def publish() -> dict[str, ChannelInfo]:
        async with Broker(url) as broker:
            for name, count in channels.items():
                await asyncio.gather(*(broker.publish(name, raw_data="x" * 10) for _ in range(count)))
            return {info.name: info for info in await broker.channels(limit=1_000)}

    return asyncio.run(publish())


def finish(url: str, channel: str) -> None:
    async def finish_it() -> None:
        async with Broker(url) as broker:
            await broker.finish(channel)

    asyncio.run(finish_it())


def listed(url: str, *options: str) -> dict[str, dict[str, Any]]:
    result = run("channels", url, "--json", *options)
    assert (result.returncode, result.stderr) == (0, "")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    return {each["channel"]: each for each in objects}


def assert_failed(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@contextmanager
def publishing(url: str, channel: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process beside this one publishes all the time."""
    process = start("publish", url, channel, stdin=subprocess.PIPE)
    stop = threading.Event()

    def write() -> None:
        assert process.stdin is not None
        while not stop.wait(0.01):
            process.stdin.write(b"a line\n")
            process.stdin.flush()

    def read() -> None:
        assert process.stdout is not None
        first.set() if process.stdout.readline() else None
        process.stdout.read()

    first = threading.Event()
    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    try:
        assert first.wait(DEADLINE)
        yield process
    finally:
        stop.set()
        threads[0].join()
        assert process.stdin is not None
        process.stdin.close()
        threads[1].join()
        assert process.wait(DEADLINE) == 0
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


# -- what is listed ---------------------------------------------------------------------------------------------------


def test_json_has_all_that_the_broker_knows(url: str) -> None:
    known = fill(url, news=3, trams=1)
    finish(url, "trams")
    finish(url, "never used")
    objects = listed(url)
    assert list(objects) == ["never used", "news", "trams"]
    news = known["news"]
    assert news.oldest_at is not None
    assert news.newest_at is not None
    assert objects["news"] == {
        "channel": "news",
        "events": 3,
        "bytes": news.size,
        "oldest": {"id": news.oldest_id, "time": news.oldest_at.isoformat()},
        "newest": {"id": news.newest_id, "time": news.newest_at.isoformat()},
        "finished": False,
        "published": 3,
        "rate": 0.0,
    }
    assert objects["trams"]["finished"] is True
    assert (objects["never used"]["oldest"], objects["never used"]["events"]) == (None, 0)


def test_the_table_is_plain_and_whole_where_there_is_no_terminal(url: str) -> None:
    name = "user/" + "é" * 100
    known = fill(url, **{name: 1_234, "[red]news[/]": 1, "turned \u202e": 2})
    finish(url, "[red]news[/]")
    result = run("channels", url)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    header, *rows = [re.split(r"  +", line.rstrip()) for line in result.stdout.splitlines()]
    assert header[:3] == ["channel", "events", "bytes"]
    ids = [known[name].oldest_id, known[name].newest_id]
    assert [row[0] for row in rows] == ["[red]news[/]", "turned \\u202e", name]
    assert rows[0][-1] == "finished"
    assert re.fullmatch(r"1,[012]\d\d", rows[2][1])  # what is stored of it: a thousand, or a few more
    assert [rows[2][4], rows[2][6]] == ids or rows[2][6] == ids[1]


def test_no_channel_is_an_empty_list(url: str) -> None:
    fill(url)
    assert listed(url) == {}
    assert run("channels", url).stdout.split()[0] == "channel"


def test_many_channels_are_bounded_and_that_is_told(url: str) -> None:
    fill(url, **{f"user/{number:03}": 1 for number in range(130)})
    for options, lines in (([], 101), (["--json"], 100), (["--limit", "129"], 130)):
        result = run("channels", url, *options)
        assert len(result.stdout.splitlines()) == lines
        assert "there are more than these" in result.stderr
        assert "--limit" in result.stderr
    assert len(listed(url, "--limit", "130")) == 130


# -- the rate ---------------------------------------------------------------------------------------------------------


def test_the_rate_is_that_of_a_process_beside_it(url: str) -> None:
    fill(url, idle=5)
    with publishing(url, "busy"):
        before = listed(url)
        after = listed(url)
    assert before["idle"]["rate"] == after["idle"]["rate"] == 0
    assert 0 < before["busy"]["rate"] < 150
    assert after["busy"]["published"] > before["busy"]["published"]


def test_the_rate_counts_what_is_not_kept(url: str) -> None:
    """A thousand a second into a channel that keeps three events."""
    stop = threading.Event()
    begun = threading.Event()
    published = itertools.count()

    async def publish() -> None:
        async with Broker(url, history=3) as broker:
            while not stop.is_set():
                await asyncio.gather(*(broker.publish("news", next(published)) for _ in range(10)))
                begun.set()
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(publish(),))
    thread.start()
    try:
        assert begun.wait(DEADLINE)
        began = time.monotonic()
        first = listed(url)["news"]
        second = listed(url)["news"]
        seconds = time.monotonic() - began
    finally:
        stop.set()
        thread.join()
    assert second["events"] <= 3 + 200 + 10
    # Between the two looks of either command passed a second at least, in which not more can have come than in all.
    assert 10 <= second["rate"] <= next(published)
    assert second["published"] - first["published"] <= next(published)
    assert seconds > 2


def look(at: float, more: bool = False, **published: int) -> Look:
    return Look(at, {name: ChannelInfo(name, 1, 1, count, finished=False) for name, count in published.items()}, more)


@pytest.mark.parametrize(
    ("before", "rate"),
    [
        (look(10.0, news=30), 5.0),  # what came in between
        (look(10.0, news=40), 0.0),
        (look(10.0, other=7), 20.0),  # it wasn't there: all is new
        (look(10.0, news=500), 20.0),  # it was forgotten meanwhile, and began anew
        (look(10.0), 20.0),
        (look(10.0, more=True, a=1, b=1), None),  # it may have been among those that were left out
        (look(10.0, more=True, a=1, z=1), 20.0),
        (look(12.0, news=40), None),  # no time has passed
    ],
    ids=str,
)
def test_a_rate_is_what_was_published_between_two_looks(before: Look, rate: float | None) -> None:
    now = look(12.0, news=40)
    assert now.rate(now.channels["news"], before) == rate


# -- watching ---------------------------------------------------------------------------------------------------------


def test_watching_a_terminal_is_redrawn_until_ctrl_c(url: str) -> None:
    fill(url, news=2)
    with at_terminal("channels", url, "--watch") as session:
        session.until("news")
        fill(url, news=1_234 - 2, later=1)
        session.until("later")
        with publishing(url, "news"):
            session.until("1,2")
        session.type("\x03")
        assert session.end() == 130
    assert "Traceback" not in session.output
    assert "\x1b[1A" in session.output  # drawn over what was there
    assert session.output.rindex("\x1b[?25h") > session.output.rindex("\x1b[?25l")  # the cursor is back


def test_watching_fits_the_terminal(url: str) -> None:
    known = fill(url, **{f"user/{number:02}": 1 for number in range(50)})
    with at_terminal("channels", url, "--watch", columns=70, rows=20) as session:
        session.until("there are more channels")
        session.type("\x03")
        assert session.end() == 130
    assert "user/16" in session.output
    assert "user/17" not in session.output
    id = known["user/00"].newest_id
    assert id is not None
    assert id not in session.output  # no room for it


def test_a_wide_terminal_shows_ids(url: str) -> None:
    id = fill(url, news=1)["news"].newest_id
    assert id is not None
    with at_terminal("channels", url, columns=160) as session:
        assert session.end() == 0
    assert id in session.output
    assert "\x1b[" in session.output


def test_watching_without_a_terminal_prints_one_table_after_the_other(url: str) -> None:
    fill(url, news=2)
    with start("channels", url, "--watch") as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline().startswith(b"channel")
            assert process.stdout.readline().startswith(b"news")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (130, b"")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_who_has_read_enough_ends_it(url: str, options: list[str]) -> None:
    fill(url, news=2)
    with start("channels", url, "--watch", *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_file_that_is_taken_away_while_it_is_watched_ends_it(url: str) -> None:
    fill(url, news=2)
    path = Path(url.removeprefix("sqlite:///"))
    with start("channels", url, "--watch", "--json") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        path.rename(path.with_name("elsewhere.db"))
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert b"was deleted or replaced" in errors
    assert b"Traceback" not in errors


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_file_that_does_not_exist_is_not_made(url: str, tmp_path: Path) -> None:
    assert_failed(run("channels", url), 1, f"there is no file {tmp_path / 'app.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_program_is_named(url: str, tmp_path: Path) -> None:
    (tmp_path / "app.db").write_text("Line 4 leaves in two minutes. " * 100)
    assert_failed(run("channels", url), 1, "is no SQLite database")


def test_memory_is_refused_with_the_reason() -> None:
    assert_failed(run("channels", "memory://"), 2, "memory of the application's own process")


def test_a_password_is_not_repeated() -> None:
    result = run("channels", "nonsense://user:secret@localhost/0")
    assert_failed(result, 2, "BROKER must be")
    assert "secret" not in result.stderr


@pytest.mark.parametrize("options", [["--limit", "0"], ["--limit", "many"], ["more"]], ids=str)
def test_wrong_options_are_refused(url: str, options: list[str]) -> None:
    fill(url, news=1)
    assert_failed(run("channels", url, *options), 2, options[0])


def test_help_shows_examples_and_exit_codes() -> None:
    result = run("channels", "--help")
    assert result.returncode == 0
    for text in ["tidings channels sqlite:///app.db", "--watch", "--json", "--limit", "130"]:
        assert text in result.stdout
