"""The follower of a log: no line lost, none twice, whatever happens to the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tidings.demo import logs
from tidings.demo.logs import Follower, Line, LineSplitter, Opening, Restart


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "harbour.log"
    path.write_bytes(b"")
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def read_all(follower: Follower) -> list[Line | Restart]:
    items: list[Line | Restart] = []
    while True:
        batch = follower.read()
        items += batch.items
        if not batch.more:
            return items


def texts(items: list[Line | Restart]) -> list[str]:
    return [item.text if isinstance(item, Line) else f"({item.reason})" for item in items]


def follow(
    stack: ExitStack, path: Path, position: str | None = None, keyword: str = "", tail: int = 200
) -> tuple[Follower, Opening]:
    follower = stack.enter_context(Follower(path, keyword=keyword, position=position, tail=tail))
    return follower, follower.open()


# -- lines ------------------------------------------------------------------------------------------------------------

TEXTS = [
    (b"one\ntwo\n", ["one", "two"]),
    (b"one\r\ntwo\n", ["one", "two"]),
    (b"\n\nthree\n", ["", "", "three"]),
    (b"whole\nhalf", ["whole"]),
    (b"form\x0cfeed and \xe2\x80\xa8 separator\n", ["form\x0cfeed and \u2028 separator"]),
    (b"bad \xff byte\n", ["bad \ufffd byte"]),
    ("gr\u00fc\u00dfe \U0001f6a2\n".encode(), ["gr\u00fc\u00dfe \U0001f6a2"]),
    (b"", []),
]


@pytest.mark.parametrize(("data", "expected"), TEXTS)
def test_lines_are_the_same_however_the_bytes_come(data: bytes, expected: list[str]) -> None:
    for cut in range(len(data) + 1):
        splitter = LineSplitter(7)
        spans = [*splitter.feed(data[:cut]), *splitter.feed(data[cut:])]
        assert [span.text for span in spans] == expected
        assert splitter.position == 7 + len(data)
        assert splitter.end == 7 + data.rfind(b"\n") + 1
        assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]]
    splitter = LineSplitter(0)
    assert [span.text for byte in data for span in splitter.feed(bytes([byte]))] == expected


def test_a_very_long_line_is_cut_and_the_next_is_whole() -> None:
    splitter = LineSplitter(0)
    spans = [span for _ in range(100) for span in splitter.feed(b"x" * 10_000)]
    spans += splitter.feed(b"\nnext\n")
    assert [(len(span.text), span.cut) for span in spans] == [(logs.LINE_LIMIT, True), (4, False)]
    assert spans[0].end == 1_000_001


def test_a_character_at_the_limit_is_not_shown_in_half() -> None:
    (span,) = LineSplitter(0).feed(b"x" * (logs.LINE_LIMIT - 1) + "\u00fc".encode() * 5 + b"\n")
    assert span.text == "x" * (logs.LINE_LIMIT - 1)
    assert span.cut


@pytest.mark.parametrize(
    ("keyword", "text", "passes"),
    [
        ("", "", True),
        ("boat", "a BOAT", True),
        ("Red boat", "a red boat", True),
        ("red boat", "a boat, red", False),
        ("STRASSE", "stra\u00dfe", True),
        (".*", "anything", False),
    ],
)
def test_a_keyword_is_any_text_in_any_case(stack: ExitStack, log: Path, keyword: str, text: str, passes: bool) -> None:
    append(log, f"{text}\n".encode())
    follower, _ = follow(stack, log, keyword=keyword)
    assert texts(read_all(follower)) == [text] * passes


# -- following --------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_last_lines_and_goes_on(stack: ExitStack, log: Path) -> None:
    append(log, b"".join(b"line %d\n" % n for n in range(10)))
    follower, opening = follow(stack, log, tail=3)
    assert (opening.resumed, opening.reason) == (False, None)
    assert texts(read_all(follower)) == ["line 7", "line 8", "line 9"]
    assert texts(read_all(follower)) == []
    append(log, b"line 10\nline")
    assert texts(read_all(follower)) == ["line 10"]
    append(log, b" 11\n")
    assert texts(read_all(follower)) == ["line 11"]


def test_the_last_lines_are_those_that_pass_the_filter(stack: ExitStack, log: Path) -> None:
    append(log, b"".join(b"line %d %s\n" % (n, b"odd" if n % 2 else b"even") for n in range(20)))
    follower, _ = follow(stack, log, keyword="odd", tail=2)
    assert texts(read_all(follower)) == ["line 17 odd", "line 19 odd"]


@pytest.mark.parametrize("extra", [-1, 0, 1, 5])
def test_the_last_lines_are_whole_also_where_the_window_begins(
    stack: ExitStack, log: Path, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    monkeypatch.setattr(logs, "TAIL_WINDOW", 18 + extra)
    append(log, b"first\nsecond\nthird\nfourth\n"[:-1] + b"\n")
    # 26 bytes; the last three lines are 20, the last two 13.
    follower, _ = follow(stack, log)
    expected = ["second", "third", "fourth"] if 18 + extra >= 20 else ["third", "fourth"]
    assert texts(read_all(follower)) == expected


def test_a_large_file_is_read_in_bounded_steps(stack: ExitStack, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follower, _ = follow(stack, log)
    monkeypatch.setattr(logs, "CHUNK", 100)
    append(log, b"".join(b"line %d\n" % n for n in range(200)))
    assert len(follower.read().items) < 20
    assert texts(read_all(follower))[-1] == "line 199"


@pytest.mark.parametrize("keyword", ["", "odd"])
def test_every_position_resumes_exactly(stack: ExitStack, log: Path, keyword: str) -> None:
    append(log, b"".join(b"line %d %s\r\n" % (n, b"odd" if n % 2 else b"even") for n in range(30)))
    follower, opening = follow(stack, log, keyword=keyword)
    lines = [item for item in read_all(follower) if isinstance(item, Line)]
    assert len(lines) == (15 if keyword else 30)
    for index, position in enumerate([opening.position, *(line.position for line in lines)]):
        again, reopening = follow(stack, log, position, keyword)
        assert reopening == Opening(position, resumed=True, reason=None)
        assert texts(read_all(again)) == texts(list(lines[index:]))


def test_the_position_advances_over_lines_that_the_filter_drops(stack: ExitStack, log: Path) -> None:
    follower, opening = follow(stack, log, keyword="never")
    append(log, b"one\ntwo\n")
    assert read_all(follower) == []
    assert follower.position != opening.position
    again, reopening = follow(stack, log, follower.position)
    assert reopening.resumed
    assert read_all(again) == []


def test_a_file_of_one_unfinished_line_is_resumed_at_its_beginning(stack: ExitStack, log: Path) -> None:
    append(log, b"beg")
    follower, opening = follow(stack, log)
    assert read_all(follower) == []
    append(log, b"inning\nnext\n")
    assert texts(read_all(follower)) == ["beginning", "next"]
    again, reopening = follow(stack, log, opening.position)
    assert reopening.resumed
    assert texts(read_all(again)) == ["beginning", "next"]


@pytest.mark.parametrize(
    "position", ["nonsense", "1-2", "1-2--3", "1-2-03", "1-2-3-4", "x-y-z", "1-2-\u0663", "9" * 500]
)
def test_a_position_that_is_none_starts_over(stack: ExitStack, log: Path, position: str) -> None:
    append(log, b"one\n")
    follower, opening = follow(stack, log, position)
    assert (opening.resumed, opening.reason) == (False, "unknown")
    assert texts(read_all(follower)) == ["one"]


def test_a_position_inside_of_a_line_starts_over(stack: ExitStack, log: Path) -> None:
    append(log, b"one\ntwo\n")
    follower, _ = follow(stack, log)
    inside = follower.position.rpartition("-")[0] + "-5"
    assert follow(stack, log, inside)[1].reason == "replaced"


# -- rotation and truncation ------------------------------------------------------------------------------------------


def last_position(stack: ExitStack, log: Path) -> str:
    follower, _ = follow(stack, log)
    read_all(follower)
    return follower.position


def test_a_position_in_a_file_that_was_replaced_starts_over(stack: ExitStack, log: Path) -> None:
    append(log, b"one\n")
    position = last_position(stack, log)
    log.rename(log.with_suffix(".1"))
    append(log, b"one\ntwo\n")
    follower, opening = follow(stack, log, position)
    assert (opening.resumed, opening.reason) == (False, "replaced")
    assert texts(read_all(follower)) == ["one", "two"]


def test_a_position_past_the_end_starts_over(stack: ExitStack, log: Path) -> None:
    append(log, b"one\ntwo\n")
    position = last_position(stack, log)
    os.truncate(log, 4)
    assert follow(stack, log, position)[1].reason == "truncated"


def test_a_position_in_a_file_that_was_truncated_and_has_grown_again_starts_over(stack: ExitStack, log: Path) -> None:
    append(log, b"one\n")
    position = last_position(stack, log)
    os.truncate(log, 0)
    append(log, b"another\nand more\n")
    assert follow(stack, log, position)[1].reason == "replaced"


def test_a_truncated_file_is_read_from_its_beginning(stack: ExitStack, log: Path) -> None:
    append(log, b"one\ntwo\n")
    follower, _ = follow(stack, log)
    read_all(follower)
    os.truncate(log, 0)
    append(log, b"new\n")
    items = read_all(follower)
    assert texts(items) == ["(truncated)", "new"]
    assert follow(stack, log, items[0].position)[1].resumed


def test_a_file_that_was_truncated_and_has_outgrown_itself_is_noticed(stack: ExitStack, log: Path) -> None:
    append(log, b"one\n")
    follower, _ = follow(stack, log)
    read_all(follower)
    os.truncate(log, 0)
    append(log, b"first\nsecond\nthird\n")
    assert texts(read_all(follower)) == ["(truncated)", "first", "second", "third"]


def read_quietly(follower: Follower) -> list[Line | Restart]:
    return [item for _ in range(logs.QUIET_READS + 1) for item in read_all(follower)]


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(stack: ExitStack, log: Path) -> None:
    old = log.with_suffix(".1")
    append(log, b"one\n")
    follower, _ = follow(stack, log)
    assert texts(read_all(follower)) == ["one"]
    log.rename(old)
    assert read_quietly(follower) == []
    append(old, b"two\n")
    append(log, b"new one\n")
    assert texts(read_all(follower)) == ["two"]
    append(old, b"three\n")
    items = read_quietly(follower)
    assert texts(items) == ["three", "(rotated)", "new one"]
    for item, rest in zip(items[1:], (["new one"], []), strict=True):
        again, reopening = follow(stack, log, item.position)
        assert reopening.resumed
        assert texts(read_all(again)) == rest


def test_a_link_that_points_elsewhere_is_followed(stack: ExitStack, tmp_path: Path) -> None:
    monday, tuesday, link = tmp_path / "monday", tmp_path / "tuesday", tmp_path / "today"
    append(monday, b"one\n")
    append(tuesday, b"two\n")
    link.symlink_to(monday)
    follower, _ = follow(stack, link)
    assert texts(read_all(follower)) == ["one"]
    link.unlink()
    link.symlink_to(tuesday)
    assert texts(read_quietly(follower)) == ["(rotated)", "two"]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with Follower(tmp_path / "nowhere") as follower, pytest.raises(FileNotFoundError):
        follower.open()


def test_closing_twice_is_fine(log: Path) -> None:
    with Follower(log) as follower:
        follower.open()
        follower.close()


def test_a_follower_that_is_closed_while_a_thread_opens_it_leaves_nothing_open(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(log)
    opened: list[int] = []
    really_open = os.open

    def open_late(path: Path, flags: int) -> int:
        fd = really_open(path, flags)
        opened.append(fd)
        follower.close()  # the client has left
        return fd

    monkeypatch.setattr("tidings.demo.logs.os.open", open_late)
    with pytest.raises(OSError, match="the follower is closed"):
        follower.open()
    [fd] = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
