"""`tidings publish`: what of the input becomes events, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND, DEADLINE, ENVIRONMENT, run, start
from tests.cli.pseudo_terminal import at_terminal
from tidings import Broker
from tidings.broker import ChannelInfo, DeliveredEvent
from tidings.broker.storage import Retention
from tidings.cli.broker import broker_of


@pytest.fixture
def url(tmp_path: Path) -> str:
    """That of a log which an application has made."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    asyncio.run(_with(Broker(url)))
    return url


async def _with(broker: Broker) -> None:
    async with broker:
        pass


async def _read(url: str, channel: str) -> tuple[list[DeliveredEvent], ChannelInfo | None]:
    async with Broker(url, history=None, max_age=None, forget_after=None) as broker:
        found = {info.name: info for info in await broker.channels()}.get(channel)
        events: list[DeliveredEvent] = []
        if found is not None:
            async with broker.subscribe(channel, last_event_id="earliest") as subscription:
                while len(events) < found.events:
                    events.append(await anext(subscription))
        return events, found


def stored(url: str, channel: str) -> list[DeliveredEvent]:
    return asyncio.run(_read(url, channel))[0]


def data(url: str, channel: str) -> list[Any]:
    return [event.data for event in stored(url, channel)]


def is_finished(url: str, channel: str) -> bool:
    found = asyncio.run(_read(url, channel))[1]
    return found is not None and found.finished


def assert_failed(result: subprocess.CompletedProcess[Any], code: int, *words: str) -> None:
    errors = result.stderr if isinstance(result.stderr, str) else result.stderr.decode()
    assert result.returncode == code, errors
    assert "Traceback" not in errors
    for word in words:
        assert word in errors


# -- what is published ------------------------------------------------------------------------------------------------


def test_one_text_is_one_event_and_its_id_is_printed(url: str) -> None:
    text = "line 9 is late,\nby ten minutes “sorry” "
    result = run("publish", url, "news", text)
    (event,) = stored(url, "news")
    assert (event.data, event.event) == (text, None)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{event.id}\n", "")


@pytest.mark.parametrize("dash", [["-"], []])
def test_each_line_of_the_input_is_an_event(url: str, dash: list[str]) -> None:
    result = run("publish", url, "log", *dash, input="first\n\n  two \\n\tand  \r\nthé last 🙂\u2028has no end")
    events = stored(url, "log")
    assert [event.data for event in events] == ["first", "", "  two \\n\tand  ", "thé last 🙂\u2028has no end"]
    assert result.stdout.splitlines() == [event.id for event in events]
    assert (result.returncode, result.stderr) == (0, "")


def test_a_file_is_read_like_a_pipe_and_nothing_is_no_event(url: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("a\nb\n")
    with lines.open() as file:
        assert run("publish", url, "log", "-", stdin=file).returncode == 0
    assert run("publish", url, "log", stdin=subprocess.DEVNULL).stdout == ""
    assert run("publish", url, "log", "").returncode == 0
    assert data(url, "log") == ["a", "b", ""]


def test_a_line_is_published_while_the_next_is_waited_for(url: str) -> None:
    with start("publish", url, "log", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(b"line %d\nhalf of " % number)
            process.stdin.flush()
            id = process.stdout.readline().decode().strip()
            assert stored(url, "log")[-1].id == id
        output, errors = process.communicate(timeout=DEADLINE)
    assert data(url, "log") == ["line 0", "half of line 1", "half of line 2", "half of "]
    assert (process.returncode, len(output.splitlines()), errors) == (0, 1, b"")


def test_many_lines_keep_their_order(url: str) -> None:
    lines = [f"line {number} " + "x" * (number * 7 % 300) for number in range(12_000)]
    result = run("publish", url, "log", input="\n".join(lines))
    events = stored(url, "log")
    assert [event.data for event in events] == lines
    assert result.stdout.splitlines() == [event.id for event in events]


def test_a_long_line_is_one_event(url: str) -> None:
    line = "0123456789" * 300_000
    assert run("publish", url, "log", input=f"a\n{line}\nb\n").returncode == 0
    assert data(url, "log") == ["a", line, "b"]


def test_json_is_published_as_data(url: str) -> None:
    values = [{"line": 9, "é": [1.5, None, True]}, "text", 17, None, {"z": 1, "a": 2}, 10**30]
    lines = "".join(f"  {json.dumps(value)}\n" for value in values)
    assert run("publish", url, "trams", "--json", input=lines).returncode == 0
    assert run("publish", url, "trams", "--json", '{"minutes": 5}').returncode == 0
    assert data(url, "trams") == [*values, {"minutes": 5}]


def test_events_are_given_a_name(url: str) -> None:
    assert run("publish", url, "trams", "--event", "delay", input="a\nb\n").returncode == 0
    assert [(event.event, event.data) for event in stored(url, "trams")] == [("delay", "a"), ("delay", "b")]


def test_data_that_looks_like_an_option(url: str) -> None:
    assert run("publish", "--event", "depth", "--", url, "log", "--json").returncode == 0
    assert data(url, "log") == ["--json"]


def test_a_channel_is_finished_when_all_is_published(url: str) -> None:
    assert run("publish", url, "build/1", "--finish", input="a\nb\n").returncode == 0
    assert (data(url, "build/1"), is_finished(url, "build/1")) == (["a", "b"], True)
    assert run("publish", url, "build/1", "again").returncode == 0
    assert not is_finished(url, "build/1")


def test_a_file_that_is_made_is_told(tmp_path: Path) -> None:
    result = run("publish", "sqlite:///new.db", "log", "first", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "tidings: new.db wasn't there, and is made\n")
    assert run("publish", "sqlite:///new.db", "log", "second", cwd=tmp_path).stderr == ""


# -- what the application keeps ---------------------------------------------------------------------------------------


def test_an_application_that_keeps_more_keeps_it(url: str) -> None:
    async def fill() -> None:
        async with Broker(url, history=5_000) as application:
            await asyncio.gather(*(application.publish("log", number) for number in range(2_500)))

    asyncio.run(fill())
    assert run("publish", url, "log", input="more\n" * 3).returncode == 0
    assert data(url, "log") == [*range(2_500), "more", "more", "more"]


def test_no_age_of_the_commands_own_drops_anything(url: str) -> None:
    retention = broker_of(url)._storage._retention  # type: ignore[attr-defined]
    assert retention == Retention(history=None, max_age=None, forget_after=None)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["{bad", "", "NaN", "[Infinity]", "1 2", '"\\ud800"', "[" * 500, "'a'"])
def test_a_line_that_is_no_json_ends_it_and_is_named(url: str, bad: str) -> None:
    result = run("publish", url, "trams", "--json", "--finish", input=f"1\n2\n{bad}\n4\n")
    assert_failed(result, 1, "line 3 of standard input is not JSON", "lines 1 to 2 are published")
    assert "at line 1" not in result.stderr
    assert data(url, "trams") == [1, 2]
    assert not is_finished(url, "trams")
    assert len(result.stdout.splitlines()) == 2


def test_lines_are_counted_over_everything_that_was_read(url: str) -> None:
    result = run("publish", url, "trams", "--json", input="1\n" * 40_000 + "x\n")
    assert_failed(result, 1, "line 40001 of standard input", "lines 1 to 40000 are published")
    assert len(result.stdout.splitlines()) == 40_000


def test_data_that_is_no_json_is_not_published(url: str) -> None:
    assert_failed(run("publish", url, "trams", "--json", "{bad"), 1, "DATA is not JSON")
    assert data(url, "trams") == []


def test_bytes_that_are_no_utf_8_are_named(url: str) -> None:
    result = run("publish", url, "log", input="é good\nbad é: ".encode() + b"\xff\n", text=False)
    assert_failed(result, 1, "line 2 of standard input is not UTF-8: byte 9 is 0xff", "the line before it is published")
    assert data(url, "log") == ["é good"]
    given = subprocess.run(
        [*COMMAND, "publish", url, "log", b"\xffa"], env=ENVIRONMENT, capture_output=True, check=False, timeout=DEADLINE
    )
    assert_failed(given, 1, "DATA is not UTF-8: byte 1 is 0xff")


@pytest.mark.parametrize("end", ["\nb\n", ""])
def test_a_line_that_is_too_long_is_not_held(url: str, end: str) -> None:
    result = run("publish", url, "log", input="a\n" + "x" * (17 << 20) + end)
    assert_failed(result, 1, "line 2 of standard input is longer than 16 MiB", "the line before it is published")
    assert data(url, "log") == ["a"]


def test_memory_is_refused_with_the_reason() -> None:
    assert_failed(run("publish", "memory://", "log", "a"), 2, "memory of the application's own process")


def test_a_password_is_not_repeated() -> None:
    result = run("publish", "nonsense://user:secret@localhost/0", "log", "a")
    assert_failed(result, 2, "BROKER must be", "sqlite:///")
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", "a"], ["CHANNEL must be 1 to 255 bytes"]),
        (["a\nb", "a"], ["CHANNEL must not contain control characters"]),
        (["log", "a", "--event", "a\nb"], ["--event", "single line"]),
        (["log", "a", "b"], ["b"]),
        ([], ["CHANNEL"]),
    ],
    ids=str,
)
def test_wrong_arguments_publish_nothing(url: str, arguments: list[str], words: list[str]) -> None:
    assert_failed(run("publish", url, *arguments), 2, *words)
    assert data(url, "log") == []


def test_a_broker_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "app.db"
    result = run("publish", f"sqlite:///{path}", "log", "a")
    assert_failed(result, 1, str(path), "create the directory")
    assert "is made" not in result.stderr


def test_an_input_that_cannot_be_read_is_named(url: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as written:
        result = run("publish", url, "log", stdin=written)
    assert_failed(result, 1, "can't be read: Bad file descriptor")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "publish", url, "log"],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )
    assert_failed(closed, 2, "standard input is closed")


def test_a_locked_file_ends_it_and_says_what_is_published(url: str) -> None:
    with start("publish", url, "log", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline()
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            _, errors = process.communicate(b"b\nc\n", timeout=DEADLINE)
    assert process.returncode == 1
    assert b"line 2 of standard input is not published" in errors
    assert b"locked by another process" in errors
    assert b"the line before it is published" in errors
    assert b"Traceback" not in errors
    assert data(url, "log") == ["a"]


# -- how it ends ------------------------------------------------------------------------------------------------------


@contextmanager
def publishing(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that has published one line and waits for the next."""
    with start("publish", url, "log", "--finish", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\nhalf a line")
        process.stdin.flush()
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_ends_it_at_once(url: str) -> None:
    with publishing(url) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert data(url, "log") == ["a"]
    assert not is_finished(url, "log")


def test_who_has_read_enough_ids_ends_it(url: str) -> None:
    with publishing(url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"\nb\n")
        process.stdin.flush()
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_without_an_output_it_publishes_all_the_same(url: str) -> None:
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "publish", url, "log", "a"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        check=False,
        timeout=DEADLINE,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert data(url, "log") == ["a"]


# -- at a terminal ----------------------------------------------------------------------------------------------------


def test_at_a_terminal_it_says_that_something_is_missing(url: str) -> None:
    with at_terminal("publish", url, "log") as session:
        assert session.end() == 2
    assert "Give DATA" in session.output


def test_at_a_terminal_lines_can_be_typed(url: str) -> None:
    with at_terminal("publish", url, "log", "-") as session:
        session.type("typed\n")
        session.until("-1\r\n")
        session.type("\x04")
        assert session.end() == 0
    assert data(url, "log") == ["typed"]


def test_at_a_terminal_a_channel_can_be_finished_without_an_event(url: str) -> None:
    with at_terminal("publish", url, "log", "--finish") as session:
        assert session.end() == 0
    assert (data(url, "log"), is_finished(url, "log")) == ([], True)


def test_help_shows_examples_and_exit_codes() -> None:
    result = run("publish", "--help")
    assert result.returncode == 0
    for text in ["tidings publish sqlite:///app.db news", "| tidings publish", "--json", "--event", "--finish", "130"]:
        assert text in result.stdout
