"""The acts of a soak run."""

from __future__ import annotations

import pytest
from soak.schedule import OF_REDIS, Kind, schedule
from soak.settings import Settings


def test_the_same_seed_gives_the_same_acts() -> None:
    assert schedule(Settings(seed=3), redis=True) == schedule(Settings(seed=3), redis=True)
    assert schedule(Settings(seed=3), redis=True) != schedule(Settings(seed=4), redis=True)


@pytest.mark.parametrize("redis", [False, True])
def test_every_kind_has_its_turn_within_the_time(redis: bool) -> None:
    settings = Settings(seconds=300, every=4)
    acts = schedule(settings, redis=redis)
    assert {act.kind for act in acts} == {kind for kind in Kind if redis or kind not in OF_REDIS}
    assert 50 <= len(acts) <= 100
    assert [act.at for act in acts] == sorted(act.at for act in acts)
    assert 0 < acts[0].at < acts[-1].at < settings.seconds


def test_the_first_worker_is_never_ended() -> None:
    acts = schedule(Settings(seconds=10_000, workers=2), redis=False)
    ended = {act.worker for act in acts if act.kind in {Kind.KILL_WORKER, Kind.STOP_WORKER}}
    frozen = {act.worker for act in acts if act.kind is Kind.FREEZE_WORKER}
    assert (ended, frozen) == ({1}, {0, 1})
