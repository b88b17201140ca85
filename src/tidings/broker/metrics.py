"""Metrics of the broker, through the OpenTelemetry API: without an SDK in the process they cost next to nothing."""

from __future__ import annotations

from opentelemetry import metrics

__all__ = [
    "entries_fed",
    "events_published",
    "run_began",
    "run_ended",
    "subscriber_reset",
    "subscription_closed",
    "subscription_opened",
]

_meter = metrics.get_meter("tidings")
_open = _meter.create_up_down_counter("tidings.subscriptions.open", "{subscription}", "Subscriptions open now")
_resets = _meter.create_counter("tidings.subscriptions.reset", "{reset}", "Subscribers that may have missed events")
_published = _meter.create_counter("tidings.events.published", "{event}", "Events published by this process")
_running = _meter.create_up_down_counter("tidings.background.running", "{stream}", "Background streams running here")
_ended = _meter.create_counter("tidings.background.ended", "{stream}", "Background streams that ended here")
_lag = _meter.create_histogram("tidings.broker.lag", "s", "From the storing of an event to this process's subscribers")


def subscription_opened() -> None:
    _open.add(1)


def subscription_closed() -> None:
    _open.add(-1)


def subscriber_reset(reason: str) -> None:
    _resets.add(1, {"tidings.reset.reason": str(reason)})


def events_published(count: int) -> None:
    _published.add(count)


def run_began() -> None:
    _running.add(1)


def run_ended(state: str) -> None:
    _running.add(-1)
    _ended.add(1, {"tidings.background.state": str(state)})


def entries_fed(lag: float) -> None:
    _lag.record(lag)
