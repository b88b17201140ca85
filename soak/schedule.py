"""What is broken when: a value, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from soak.settings import Settings


class Kind(StrEnum):
    KILL_WORKER = "worker killed (SIGKILL)"
    STOP_WORKER = "worker restarted (SIGTERM)"
    ROLL = "workers restarted in turn (SIGTERM)"
    BLACKOUT = "all workers but one killed"
    FREEZE_WORKER = "worker frozen (SIGSTOP)"
    KILL_REDIS = "Redis killed (SIGKILL)"
    RESTART_REDIS = "Redis restarted (SIGTERM)"
    FREEZE_REDIS = "Redis frozen (SIGSTOP)"
    RESET = "connections reset by clients"
    ABANDON = "connections left half-open by clients"
    CUT = "connections cut by the proxy"
    STALL = "connections silent in the proxy"


OF_REDIS = {Kind.KILL_REDIS, Kind.RESTART_REDIS, Kind.FREEZE_REDIS}


@dataclass(frozen=True)
class Act:
    """
    Attributes:
        at: seconds from the beginning.
        worker: which one, counted from 0; those acts that have none leave it at 0.
        seconds: how long it lasts, or until what was ended is started again.
        share: of the connections.
    """

    at: float
    kind: Kind
    worker: int = 0
    seconds: float = 0.0
    share: float = 0.0


def schedule(settings: Settings, *, redis: bool) -> list[Act]:
    """The acts of a run, in their order."""
    chance = random.Random(f"acts of {settings.seed}")  # the same in every process, which a hash is not
    kinds = _kinds(chance, redis=redis)
    acts: list[Act] = []
    at = chance.uniform(0.5, 1.0) * settings.every
    while at < settings.seconds:
        acts.append(_act(at, next(kinds), settings, chance))
        at += chance.uniform(0.5, 1.5) * settings.every
    return acts


def _kinds(chance: random.Random, *, redis: bool) -> Iterator[Kind]:
    """All kinds in turn, in another order each time, so that a short run has of each as well."""
    deck = [kind for kind in Kind if redis or kind not in OF_REDIS]
    while True:
        yield from chance.sample(deck, len(deck))


def _act(at: float, kind: Kind, settings: Settings, chance: random.Random) -> Act:
    match kind:
        case Kind.KILL_WORKER | Kind.STOP_WORKER:
            return Act(at, kind, worker=chance.randrange(1, settings.workers), seconds=chance.uniform(0, 2))
        case Kind.FREEZE_WORKER:
            # One in five is frozen for longer than its lease: its background streams are taken for lost.
            seconds = chance.uniform(11, 14) if chance.random() < 0.2 else chance.uniform(0.3, 4)
            return Act(at, kind, worker=chance.randrange(settings.workers), seconds=seconds)
        case Kind.BLACKOUT | Kind.ROLL | Kind.KILL_REDIS | Kind.RESTART_REDIS:
            return Act(at, kind, seconds=chance.uniform(0, 2))
        case Kind.FREEZE_REDIS:
            return Act(at, kind, seconds=chance.uniform(0.3, 4))
        case Kind.RESET | Kind.ABANDON:
            return Act(at, kind, share=chance.uniform(0.1, 0.6))
        case Kind.CUT | Kind.STALL:
            return Act(at, kind)
