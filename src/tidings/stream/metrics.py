"""Metrics, through the OpenTelemetry API: without an SDK in the process they cost next to nothing."""

from __future__ import annotations

from opentelemetry import metrics

from tidings.stream.ending import Ending

__all__ = ["stream_ended", "stream_opened", "stream_sent"]

_meter = metrics.get_meter("tidings")
_open = _meter.create_up_down_counter("tidings.streams.open", "{stream}", "Streams open now")
_ended = _meter.create_counter("tidings.streams.ended", "{stream}", "Streams ended, by how they ended")
_events = _meter.create_counter("tidings.events.sent", "{event}", "Events with data sent")
_bytes = _meter.create_counter("tidings.bytes.sent", "By", "Bytes of streams sent")


def stream_opened() -> None:
    _open.add(1)


def stream_sent(events: int, size: int) -> None:
    if events:
        _events.add(events)
    _bytes.add(size)


def stream_ended(ending: Ending) -> None:
    _open.add(-1)
    _ended.add(1, {"tidings.ending": ending.value})
