"""The accounting of a soak run: nothing that goes wrong may go unseen, and nothing that is right be taken for wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest
from soak.ledger import GRACE, Account, Ledger, Verdict, judge

HISTORY = 5


class Stage(NamedTuple):
    """A log into whose channels `a` and `b` ten events were published: 1, 3, 5 … to `a`, 2, 4, 6 … to `b`."""

    ledger: Ledger

    def account(self, *channels: str, position: str = "e-0") -> Account:
        return Account("reader", "reader", self.ledger, channels, position)

    def judge(self, *accounts: Account, goals: Mapping[str, int] | None = None) -> Verdict:
        verdict = Verdict()
        judge(self.ledger, accounts, goals or {"a": 9, "b": 10}, verdict)
        return verdict


def channel_of(sequence: int) -> str:
    return "a" if sequence % 2 else "b"


def receive(account: Account, sequences: Sequence[int], at: float = 100.0) -> None:
    for sequence in sequences:
        account.received(f"e-{sequence}", channel_of(sequence), f"key-{sequence}", at)


def faults(verdict: Verdict) -> dict[str, int]:
    names = ("lost", "doubled", "disordered", "strange")
    return {name: value for name in names if (value := getattr(verdict, name))}


@pytest.fixture
def stage() -> Stage:
    ledger = Ledger(HISTORY)
    for sequence in range(1, 11):
        ledger.sending(f"key-{sequence}", channel_of(sequence), at=float(sequence))
        ledger.acknowledged(f"key-{sequence}", f"e-{sequence}", at=sequence + 0.5)
    return Stage(ledger)


A = (1, 3, 5, 7, 9)
B = (2, 4, 6, 8, 10)


# -- one client -------------------------------------------------------------------------------------------------------


def test_who_saw_all_of_its_channels_lacks_nothing(stage: Stage) -> None:
    some, all_ = stage.account("a"), stage.account("a", "b")
    receive(some, A)
    receive(all_, range(1, 11))
    verdict = stage.judge(some, all_)
    assert faults(verdict) == {}
    assert (verdict.acknowledged, verdict.delivered) == (10, 15)


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ((), {"lost": 5}),
        ((1, 3, 7, 9), {"lost": 1}),
        ((3, 5, 7, 9), {"lost": 1}),
        ((1, 3, 5, 7), {"lost": 1}),
        ((1, 3, 3, 5, 7, 9), {"doubled": 1}),
        ((1, 3, 5, 1, 3, 5, 7, 9), {"doubled": 3}),
        ((1, 5, 3, 7, 9), {"disordered": 1}),
        ((1, 5, 3, 3, 9), {"lost": 1, "doubled": 1, "disordered": 1}),
        ((1, 2, 3, 5, 7, 9), {"strange": 1}),  # of a channel that it didn't subscribe to
    ],
)
def test_what_is_wrong_is_counted(stage: Stage, seen: Sequence[int], found: Mapping[str, int]) -> None:
    account = stage.account("a")
    receive(account, seen)
    verdict = stage.judge(account)
    assert faults(verdict) == found
    assert len(verdict.examples) == sum(found.values())


def test_what_was_there_before_the_id_it_came_with_is_not_due(stage: Stage) -> None:
    account = stage.account("a", position="e-3")
    receive(account, A[2:])
    assert faults(stage.judge(account)) == {}


def test_what_is_behind_the_last_event_is_not_due(stage: Stage) -> None:
    account = stage.account("a")
    receive(account, A[:3])
    assert faults(stage.judge(account, goals={"a": 5, "b": 10})) == {}
    assert account.has_all({"a": 5})
    assert not account.has_all({"a": 7})


# -- without an id ----------------------------------------------------------------------------------------------------


def test_without_an_id_it_lacks_what_was_sent_after_it_was_connected(stage: Stage) -> None:
    account = stage.account("a", position="")
    account.opened("", at=4.5)
    receive(account, A[3:])
    verdict = stage.judge(account)
    assert faults(verdict) == {"lost": 1}
    assert "didn't see 5" in verdict.examples[0]


def test_without_an_id_it_lacks_what_follows_the_first_event_that_it_saw(stage: Stage) -> None:
    account = stage.account("a", position="")
    account.opened("", at=9.5)
    receive(account, (3, 5, 9))
    assert faults(stage.judge(account)) == {"lost": 1}


def test_without_an_id_it_begins_anew_until_it_has_one(stage: Stage) -> None:
    account = stage.account("a", position="")
    account.opened("", at=0.5)
    account.opened("", at=6.5)  # nothing had come: what was sent in between is nobody's fault
    receive(account, (7,))
    account.opened("e-7", at=9.5)
    receive(account, (9,))
    assert faults(stage.judge(account)) == {}


# -- resets -----------------------------------------------------------------------------------------------------------


def many(stage: Stage) -> Stage:
    """Thirteen more to `a`: 11, 13 … 35."""
    for sequence in range(11, 36, 2):
        stage.ledger.sending(f"key-{sequence}", "a", at=float(sequence))
        stage.ledger.acknowledged(f"key-{sequence}", f"e-{sequence}", at=float(sequence))
    return stage


def test_a_reset_excuses_what_the_window_had_passed(stage: Stage) -> None:
    account = many(stage).account("a")
    receive(account, (1, 3))
    account.was_reset("e-25", "trimmed", at=40.0)
    receive(account, range(27, 36, 2))
    verdict = stage.judge(account, goals={"a": 35, "b": 10})
    assert faults(verdict) == {}
    assert verdict.resets == {"reader": 1}


def test_a_reset_excuses_nothing_that_must_still_have_been_there(stage: Stage) -> None:
    account = many(stage).account("a")
    receive(account, (1, 3))
    account.was_reset("e-29", "trimmed", at=40.0)  # of 27 and 29 it says so wrongly: five follow 25
    receive(account, range(31, 36, 2))
    assert faults(stage.judge(account, goals={"a": 35, "b": 10})) == {"lost": 2}


def test_a_reset_excuses_nothing_that_was_dropped_by_nobody_then(stage: Stage) -> None:
    account = many(stage).account("a")
    receive(account, (1, 3))
    account.was_reset("e-25", "trimmed", at=20.0 - GRACE)  # up to 19 there was: five follow 9
    receive(account, range(27, 36, 2))
    assert faults(stage.judge(account, goals={"a": 35, "b": 10})) == {"lost": 8}


def test_a_reset_excuses_nothing_behind_its_position_or_before_it(stage: Stage) -> None:
    account = many(stage).account("a")
    receive(account, (1, 5))
    account.was_reset("e-15", "trimmed", at=40.0)
    receive(account, range(19, 36, 2))
    verdict = stage.judge(account, goals={"a": 35, "b": 10})
    assert faults(verdict) == {"lost": 2}
    assert ["didn't see 3 " in verdict.examples[0], "didn't see 17 " in verdict.examples[1]] == [True, True]


@pytest.mark.parametrize("reason", ["epoch", "ahead", "malformed"])
def test_resets_for_other_reasons_excuse_nothing(stage: Stage, reason: str) -> None:
    account = many(stage).account("a")
    account.was_reset("e-25", reason, at=40.0)
    receive(account, range(27, 36, 2))
    assert faults(stage.judge(account, goals={"a": 35, "b": 10})) == {"lost": 13}


# -- what is stored ---------------------------------------------------------------------------------------------------


def publish_unacknowledged(stage: Stage) -> None:
    stage.ledger.sending("key-11", "a", at=11.0)


def test_what_is_not_acknowledged_may_be_missing_everywhere(stage: Stage) -> None:
    publish_unacknowledged(stage)
    account = stage.account("a")
    receive(account, A)
    verdict = stage.judge(account, goals={"a": 11, "b": 10})
    assert faults(verdict) == {}
    assert (verdict.acknowledged, verdict.unacknowledged, verdict.stored) == (10, 1, 0)


def test_what_one_saw_is_stored_and_due_to_all(stage: Stage) -> None:
    publish_unacknowledged(stage)
    one, other = stage.account("a"), stage.account("a")
    receive(one, (*A, 11))
    receive(other, A)
    verdict = stage.judge(one, other, goals={"a": 11, "b": 10})
    assert faults(verdict) == {"lost": 1}
    assert verdict.stored == 1


def test_an_event_that_is_stored_twice_is_doubled(stage: Stage) -> None:
    account = stage.account("a")
    receive(account, A)
    account.received("e-11", "a", "key-9", 100.0)
    assert faults(stage.judge(account)) == {"doubled": 1}


@pytest.mark.parametrize(
    ("event_id", "channel", "key"),
    [
        ("e-9", "a", "key-7"),  # one id for two
        ("e-11", "a", "key-11"),  # nobody published it
        ("other-9", "a", "key-9"),  # another epoch
    ],
)
def test_what_cannot_be_is_counted(stage: Stage, event_id: str, channel: str, key: str) -> None:
    account = stage.account("a")
    receive(account, A[:4])
    account.received(event_id, channel, key, 100.0)
    assert stage.judge(account, goals={"a": 7, "b": 10}).strange == 1


def test_an_acknowledgement_that_names_the_id_of_another_event_is_counted(stage: Stage) -> None:
    publish_unacknowledged(stage)
    stage.ledger.acknowledged("key-11", "e-9", 100.0)
    assert stage.judge().strange == 1


# -- gaps -------------------------------------------------------------------------------------------------------------


def test_gaps_are_noted(stage: Stage) -> None:
    account = stage.account("a")
    for sequence, at in zip(A, (1.0, 1.1, 4.1, 4.2, 5.2), strict=True):
        receive(account, (sequence,), at)
    assert [round(gap.seconds, 1) for gap in account.gaps] == [3.0, 1.0]
