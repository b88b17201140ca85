"""Who is lost is noticed in time, and nobody else is taken for lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.broker.background.storages import BEFORE, Leasing, opened, stored
from tidings.broker.background.leases import Leases
from tidings.broker.entry import Draft
from tidings.broker.run import LEASE_SECONDS, Lease, State
from tidings.errors import PublishError
from tidings.testing.clock import advance

pytestmark = pytest.mark.anyio

NOTICED = 12.0
"""Seconds within which a lost producer is noticed."""


@pytest.fixture
async def storage() -> AsyncIterator[Leasing]:
    async with opened(storage := Leasing()):
        yield storage


@pytest.fixture
async def losses() -> list[float]:
    """When this producer found that its lease was gone."""
    return []


@pytest.fixture
async def leases(storage: Leasing, losses: list[float]) -> AsyncIterator[Leases]:
    leases = Leases(storage, "this one", lambda: losses.append(now()))
    yield leases
    await leases.close()


def now() -> float:
    return asyncio.get_running_loop().time()


async def begin(storage: Leasing, producer: str, *channels: str) -> None:
    for channel in channels or ["chat"]:
        assert await storage.begin(channel, f"run of {channel}", producer, LEASE_SECONDS)


# -- those of others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun_after", [0.0, 0.3, 3.0, 9.9, 10.1, 25.0])
async def test_a_producer_that_renews_no_more_is_noticed_within_twelve_seconds(
    storage: Leasing, leases: Leases, begun_after: float, caplog: pytest.LogCaptureFixture
) -> None:
    await advance(begun_after)
    await begin(storage, "lost")
    await advance(LEASE_SECONDS - 0.1)
    assert storage.state("chat") is State.RUNNING
    await advance(NOTICED - LEASE_SECONDS + 0.1)
    assert storage.state("chat") is State.ABORTED
    assert stored(storage.entries("chat")) == ['aborted {"reason":"lost"}']
    assert caplog.messages == ["lost is lost; 1 of its background streams were ended"]
    assert await storage.leases() == []
    await advance(60)
    assert len(caplog.messages) == 1


async def test_a_lease_that_is_renewed_is_kept(storage: Leasing, leases: Leases) -> None:
    await begin(storage, "alive")
    for _ in range(20):
        await advance(LEASE_SECONDS - 0.01)
        storage.hold("alive", LEASE_SECONDS)
    assert storage.state("chat") is State.RUNNING
    await advance(NOTICED)
    assert storage.state("chat") is State.ABORTED


async def test_who_renews_a_lease_that_had_run_out_for_a_moment_is_not_taken_for_lost(
    storage: Leasing, leases: Leases
) -> None:
    """As when the machine was suspended: all leases have run out when it wakes, and are about to be renewed."""
    await begin(storage, "suspended")
    await advance(LEASE_SECONDS - 1)
    for _ in range(40):
        storage.hold("suspended", -30.0)
        await advance(0.5)
        storage.hold("suspended", 0.2)
        await advance(0.1)
    assert storage.state("chat") is State.RUNNING


async def test_all_runs_of_who_is_lost_are_ended_some_at_a_time(
    storage: Leasing, leases: Leases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tidings.broker.background.leases._ENDED_AT_ONCE", 3)
    await begin(storage, "lost", *(f"chat {number}" for number in range(10)))
    await begin(storage, "alive", "other")
    await advance(8)
    storage.hold("alive", LEASE_SECONDS)
    await advance(4)
    assert [storage.state(f"chat {number}") for number in range(10)] == [State.ABORTED] * 10
    assert storage.state("other") is State.RUNNING
    assert caplog.messages == ["lost is lost; 10 of its background streams were ended"]


async def test_leases_that_can_not_be_looked_at_are_looked_at_when_they_can(storage: Leasing, leases: Leases) -> None:
    await begin(storage, "lost")
    storage.fails = True
    await advance(40)
    assert storage.state("chat") is State.RUNNING
    storage.fails = False
    await advance(5)
    assert storage.state("chat") is State.ABORTED


async def test_runs_that_could_not_be_ended_are_ended_later(storage: Leasing, leases: Leases) -> None:
    await begin(storage, "lost")
    storage.faults.extend([BEFORE] * 4)
    await advance(NOTICED + 4)
    assert not storage.faults
    assert stored(storage.entries("chat")) == ['aborted {"reason":"lost"}']


async def test_after_an_outage_producers_have_time_to_renew(storage: Leasing, leases: Leases) -> None:
    await begin(storage, "alive")
    storage.fails = True
    await advance(40)
    storage.fails = False
    await advance(3.2)  # until its next renewal, at the latest
    storage.hold("alive", LEASE_SECONDS)
    await advance(5)
    assert storage.state("chat") is State.RUNNING


@pytest.mark.parametrize("jump", [10 + 12.0, 3_600.0])
async def test_when_the_machine_was_suspended_producers_have_time_to_renew(
    storage: Leasing, leases: Leases, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    await begin(storage, "alive", "chat")
    await begin(storage, "lost", "other")
    await advance(5)
    storage.hold("alive", -1.0)
    storage.hold("lost", -1.0)
    monkeypatch.setattr("tidings.broker.background.leases.time", Shifted(jump))
    await advance(5 + 3.2)
    storage.hold("alive", LEASE_SECONDS)
    await advance(3)
    assert storage.state("chat") is State.RUNNING
    assert storage.state("other") is State.ABORTED


async def test_a_lease_that_runs_out_soon_after_the_machine_was_suspended_may_be_renewed(
    storage: Leasing, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(storage, "alive")
    await advance(8)
    monkeypatch.setattr("tidings.broker.background.leases.time", Shifted(10 + 8.5))  # the other one moves, too
    await advance(2.3)
    storage.hold("alive", 1.0)
    await advance(2.6)
    storage.hold("alive", LEASE_SECONDS)
    await advance(3)
    assert storage.state("chat") is State.RUNNING


class Shifted:
    """A clock that was set forward."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return time.time() + self._seconds


async def test_a_lost_producer_whose_runs_can_not_be_ended_is_in_nobodys_way(
    storage: Leasing, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    abort = storage.abort

    async def refuse(lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
        if lease.producer == "stuck":
            raise PublishError("something else is stored under its key")
        return await abort(lease, drafts, end, most)

    monkeypatch.setattr(storage, "abort", refuse)
    await begin(storage, "stuck", "one")
    await begin(storage, "lost", "other")
    await advance(NOTICED)
    assert storage.state("one") is State.RUNNING
    assert storage.state("other") is State.ABORTED


async def test_several_that_watch_end_a_run_once(
    storage: Leasing, leases: Leases, caplog: pytest.LogCaptureFixture
) -> None:
    others = [Leases(storage, f"watcher {number}", lambda: None) for number in range(5)]
    await begin(storage, "lost")
    storage.flows.clear()
    await advance(NOTICED)
    assert storage.waiting == 6  # at the same moment
    storage.flows.set()
    await advance(1)
    assert len(caplog.messages) == 1
    assert stored(storage.entries("chat")) == ['aborted {"reason":"lost"}']
    for other in others:
        await other.close()


# -- this one's -------------------------------------------------------------------------------------------------------


async def test_the_lease_is_renewed_as_long_as_there_is_something_to_keep_it_for(
    storage: Leasing, leases: Leases, losses: list[float]
) -> None:
    await advance(60)
    assert storage.renewals == []
    await begin(storage, "this one")
    for _ in range(3):
        leases.keep()
    await advance(60)
    assert storage.state("chat") is State.RUNNING
    assert 18 <= len(storage.renewals) <= 20
    leases.let_go()
    leases.let_go()
    renewed = len(storage.renewals)
    await advance(NOTICED)
    assert len(storage.renewals) == renewed
    assert storage.state("chat") is State.ABORTED
    leases.keep()
    await advance(4)
    assert len(storage.renewals) == renewed + 1


async def test_a_renewal_that_failed_is_tried_again_soon(storage: Leasing, leases: Leases, losses: list[float]) -> None:
    await begin(storage, "this one")
    leases.keep()
    for _ in range(5):
        storage.fails = True
        await advance(LEASE_SECONDS - 4)
        storage.fails = False
        await advance(1)
        assert (await storage.leases())[0].left > LEASE_SECONDS - 1.5
        await advance(3)
    assert storage.state("chat") is State.RUNNING
    assert losses == []


async def test_who_finds_that_its_lease_is_gone_is_told(storage: Leasing, leases: Leases, losses: list[float]) -> None:
    await begin(storage, "this one")
    leases.keep()
    await advance(10)
    assert losses == []
    storage.drop("this one")
    gone = now()
    await advance(4)
    assert len(losses) == 1
    assert losses[0] <= gone + 3.1


async def test_who_renews_its_lease_too_late_is_told(storage: Leasing, leases: Leases, losses: list[float]) -> None:
    # Its runs may have been ended, and another one that was begun since has given it a lease again.
    await begin(storage, "this one")
    leases.keep()
    storage.fails = True
    await advance(LEASE_SECONDS + 0.1)
    storage.fails = False
    storage.hold("this one", LEASE_SECONDS)
    await advance(1)
    assert len(losses) == 1
    await advance(30)
    assert len(losses) == 1


async def test_closing_leaves_no_task_behind(storage: Leasing) -> None:
    before = asyncio.all_tasks()
    leases = Leases(storage, "this one", lambda: None)
    leases.keep()
    await advance(20)
    await leases.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
