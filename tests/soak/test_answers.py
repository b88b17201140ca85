"""The accounting of background streams in a soak run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from soak.answers import Answer, View, judge_answers

Item = tuple[int, str, Any]


def tokens(*numbers: int) -> list[Item]:
    return [(10 + place, "message", number) for place, number in enumerate(numbers)]


LOST: Item = (90, "aborted", {"reason": "lost"})
SHUTDOWN: Item = (91, "aborted", {"reason": "shutdown"})


def view(items: Sequence[Item], *, ended: bool = True) -> View:
    seen = View(ended=ended)
    for sequence, name, data in items:
        seen.received(f"e-{sequence}", name, data)
    return seen


def answer(*views: View) -> Answer:
    return Answer("answer-1", 3, views)


@pytest.mark.parametrize(
    ("items", "ending"),
    [
        (tokens(0, 1, 2), "finished"),
        ([*tokens(0, 1), LOST], "aborted: lost"),
        ([*tokens(0, 1, 2), SHUTDOWN], "aborted: shutdown"),
        ([LOST], "aborted: lost"),
    ],
)
def test_what_is_right(items: Sequence[Item], ending: str) -> None:
    verdict = judge_answers([answer(view(items), view(items))])
    assert verdict.wrong == []
    assert verdict.endings == {ending: 1}


@pytest.mark.parametrize(
    "items",
    [
        tokens(0, 1),  # it finished, and one is missing
        tokens(0, 2),
        tokens(1, 2),
        tokens(0, 1, 1, 2),
        tokens(0, 2, 1),
        [(10, "message", 0), (10, "message", 1), (11, "message", 2)],
        [*tokens(0, 1), LOST, SHUTDOWN],
        [*tokens(0, 1), LOST, LOST],
        [LOST, (92, "message", 0)],  # something follows the end
        [*tokens(0, 1), (90, "failed", {"error": "internal error"})],
        [*tokens(0, 1), (90, "reset", {"reason": "trimmed"}), (91, "message", 2)],
    ],
)
def test_what_is_wrong(items: Sequence[Item]) -> None:
    assert judge_answers([answer(view(items), view(items))]).wrong != []


def test_a_reader_that_was_told_no_end_is_wrong() -> None:
    seen = view(tokens(0, 1, 2), ended=False)
    verdict = judge_answers([answer(seen, seen)])
    assert len(verdict.wrong) == 2
    assert verdict.endings == {"never": 1}


def test_readers_that_saw_different_things_are_wrong() -> None:
    verdict = judge_answers([answer(view([*tokens(0, 1), LOST]), view([*tokens(0), LOST]))])
    assert verdict.wrong == ["answer-1: its readers saw different things"]
