"""The accounting of background streams: tokens once, in order, without a gap, and the right end. No input or output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from soak.ledger import epoch_and_sequence

ABORTED = "aborted"


@dataclass
class View:
    """What one reader saw of an answer.

    Attributes:
        ended: whether the server said that nothing follows.
    """

    items: list[tuple[int, str, Any]] = field(default_factory=list)
    ended: bool = False

    def received(self, event_id: str, name: str, data: Any) -> None:
        self.items.append((epoch_and_sequence(event_id)[1], name, data))

    @property
    def tokens(self) -> list[Any]:
        return [data for _, name, data in self.items if name == "message"]

    @property
    def endings(self) -> list[tuple[str, Any]]:
        return [(name, data) for _, name, data in self.items if name != "message"]


@dataclass
class Answer:
    """A background stream that was started, and its readers."""

    channel: str
    tokens: int
    views: Sequence[View]


@dataclass
class AnswersVerdict:
    """
    Attributes:
        endings: how many ended how: `finished`, `aborted: lost`, `aborted: shutdown`.
        wrong: what should not be.
    """

    endings: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    wrong: list[str] = field(default_factory=list)


def judge_answers(answers: Iterable[Answer]) -> AnswersVerdict:
    verdict = AnswersVerdict()
    for answer in answers:
        for view in answer.views:
            verdict.tokens += len(view.tokens)
            verdict.wrong += [f"{answer.channel}: {fault}" for fault in _faults(answer, view)]
        first, *others = answer.views
        if any(other.items != first.items for other in others):
            verdict.wrong.append(f"{answer.channel}: its readers saw different things")
        verdict.endings[_ending(first)] += 1
    return verdict


def _ending(view: View) -> str:
    if not view.endings:
        return "finished" if view.ended else "never"
    name, data = view.endings[-1]
    return f"{name}: {data.get('reason') or data.get('error')}"


def _faults(answer: Answer, view: View) -> Iterable[str]:
    sequences = [sequence for sequence, _, _ in view.items]
    if any(after <= before for before, after in pairwise(sequences)):
        yield "an id doesn't follow the one before it"
    for place, token in enumerate(view.tokens):
        if token != place:
            yield f"at place {place} is token {token}"
            break
    if not view.ended:
        yield "its reader saw no end"
        return
    match view.endings:
        case []:
            if len(view.tokens) != answer.tokens:
                yield f"it finished with {len(view.tokens)} tokens of {answer.tokens}"
        case [(name, _)] if name == ABORTED:
            if view.items[-1][1] != ABORTED:
                yield "something follows its end"
        case endings:
            yield f"it ended with {endings}"
