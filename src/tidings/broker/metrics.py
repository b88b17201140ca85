"""What brokers do, in numbers: counted in plain integers, for which OpenTelemetry asks when it collects.

Only the lag is recorded through its API, which without an SDK does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from tidings.broker.resume import Reset
from tidings.broker.run import State
from tidings.broker.storage import Storage

__all__ = ["Figures", "broker_closed", "broker_opened"]

_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_meter = metrics.get_meter("tidings")
_lag = _meter.create_histogram(
    "tidings.broker.lag",
    "s",
    "From the storing of an event to this process's subscribers",
    explicit_bucket_boundaries_advisory=_LAG_SECONDS,
)


class _Totals:
    """What all brokers on one kind of storage have done in this process."""

    def __init__(self, storage: str) -> None:
        self.attributes = {"tidings.storage": storage}
        self.subscriptions = 0
        self.resets = dict.fromkeys(Reset, 0)
        self.published = 0
        self.failed = 0
        self.running = 0
        self.endings = dict.fromkeys(set(State) - {State.RUNNING}, 0)


_totals: dict[str, _Totals] = {}


class Figures:
    """What one broker has done since it was opened; it counts for all brokers of the process, too.

    Args:
        storage: the kind of its storage.

    Attributes:
        lag: seconds from the storing of an event until its readers here were to be woken: of the newest one.
    """

    __slots__ = ("_total", "failed", "lag", "published", "resets", "running")

    def __init__(self, storage: str = "memory") -> None:
        self._total = _totals.setdefault(storage, _Totals(storage))
        self.published = 0
        self.failed = 0
        self.resets = 0
        self.running = 0
        self.lag = 0.0

    def subscribed(self, change: int) -> None:
        """So many subscriptions more are open."""
        self._total.subscriptions += change

    def reset(self, reason: Reset) -> None:
        """A subscriber may have missed events."""
        self.resets += 1
        self._total.resets[reason] += 1

    def publish(self, events: int) -> None:
        """So many events are stored."""
        self.published += events
        self._total.published += events

    def publish_failed(self) -> None:
        """An event may not be stored."""
        self.failed += 1
        self._total.failed += 1

    def fed(self, stored_at: float) -> None:
        """Subscribers are to be woken for what was stored then, in seconds of the clock on the wall."""
        # Of two clocks one may be behind by more than that took; a histogram takes nothing negative.
        self.lag = max(0.0, time.time() - stored_at)
        _lag.record(self.lag, self._total.attributes)

    def run_began(self) -> None:
        """A background stream runs here."""
        self.running += 1
        self._total.running += 1

    def run_ended(self, state: State) -> None:
        """It does no longer."""
        self.running -= 1
        self._total.running -= 1
        self._total.endings[state] += 1


_open: list[Storage] = []


def broker_opened(storage: Storage) -> None:
    """From now on this storage is observed."""
    _open.append(storage)


def broker_closed(storage: Storage) -> None:
    """No longer."""
    _open.remove(storage)


# -- what OpenTelemetry asks for, in a thread of its own --------------------------------------------------------------


def _observe(number: Callable[[_Totals], int], _options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(number(totals), totals.attributes) for totals in list(_totals.values())]


def _observe_each(
    attribute: str, counts: Callable[[_Totals], Mapping[Reset, int] | Mapping[State, int]], _options: CallbackOptions
) -> Iterator[Observation]:
    for totals in list(_totals.values()):
        for value, count in counts(totals).items():
            yield Observation(count, totals.attributes | {attribute: value.value})


def _observe_connections(_options: CallbackOptions) -> Iterable[Observation]:
    storages = list(_open)
    for kind in sorted({storage.kind for storage in storages}):
        connected = all(storage.connected for storage in storages if storage.kind == kind)
        yield Observation(int(connected), {"tidings.storage": kind})


_meter.create_observable_up_down_counter(
    "tidings.subscription.active",
    [partial(_observe, lambda totals: totals.subscriptions)],
    "{subscription}",
    "Subscriptions open now",
)
_meter.create_observable_counter(
    "tidings.subscription.resets",
    [partial(_observe_each, "tidings.reset.reason", lambda totals: totals.resets)],
    "{reset}",
    "Subscribers that may have missed events",
)
_meter.create_observable_counter(
    "tidings.publish.events",
    [partial(_observe, lambda totals: totals.published)],
    "{event}",
    "Events published by this process",
)
_meter.create_observable_counter(
    "tidings.publish.failures",
    [partial(_observe, lambda totals: totals.failed)],
    "{event}",
    "Events that may not be stored",
)
_meter.create_observable_up_down_counter(
    "tidings.background.active",
    [partial(_observe, lambda totals: totals.running)],
    "{stream}",
    "Background streams running here",
)
_meter.create_observable_counter(
    "tidings.background.endings",
    [partial(_observe_each, "tidings.background.state", lambda totals: totals.endings)],
    "{stream}",
    "Background streams that ended here",
)
_meter.create_observable_gauge(
    "tidings.storage.connected",
    [_observe_connections],
    "{storage}",
    "1, or 0 while the storage of an open broker doesn't answer",
)
