"""Metrics of the broker, through the OpenTelemetry API: without an SDK in the process they cost next to nothing."""

from __future__ import annotations

from opentelemetry import metrics

__all__ = ["entries_fed", "event_published", "subscriber_reset", "subscription_closed", "subscription_opened"]

_meter = metrics.get_meter("tidings")
_open = _meter.create_up_down_counter("tidings.subscriptions.open", "{subscription}", "Subscriptions open now")
_resets = _meter.create_counter("tidings.subscriptions.reset", "{reset}", "Subscribers that may have missed events")
_published = _meter.create_counter("tidings.events.published", "{event}", "Events published by this process")
_lag = _meter.create_histogram("tidings.broker.lag", "s", "From the storing of an event to this process's subscribers")


def subscription_opened() -> None:
    _open.add(1)


def subscription_closed() -> None:
    _open.add(-1)


def subscriber_reset(reason: str) -> None:
    _resets.add(1, {"tidings.reset.reason": str(reason)})


def event_published() -> None:
    _published.add(1)


def entries_fed(lag: float) -> None:
    _lag.record(lag)
