"""What streams do, in numbers.

They are counted in plain integers, as a stream may write thousands of times a second, and OpenTelemetry asks for them
when it collects. Only what happens once in a stream is recorded through its API, which without an SDK does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from tidings.stream.ending import Ending
from tidings.stream.endpoint import route_of

__all__ = ["Figures", "StreamStatistics", "figures_of", "statistics"]

_FIRST_EVENT_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DURATION_SECONDS: Final = (0.1, 1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 14_400, 43_200, 86_400)

_meter = metrics.get_meter("tidings")
_first_event = _meter.create_histogram(
    "tidings.stream.time_to_first_event",
    "s",
    "From the begin of a stream until its first event with data is sent",
    explicit_bucket_boundaries_advisory=_FIRST_EVENT_SECONDS,
)
_duration = _meter.create_histogram(
    "tidings.stream.duration",
    "s",
    "How long streams lasted, by how they ended",
    explicit_bucket_boundaries_advisory=_DURATION_SECONDS,
)


class Figures:
    """What the streams of one route have done in this process. It belongs to the route: there are few of them.

    Attributes:
        active: streams that are open.
        events: events with data that were sent.
        size: bytes that were sent.
    """

    __slots__ = ("active", "attributes", "endings", "events", "size")

    def __init__(self, route: str | None) -> None:
        self.attributes = {} if route is None else {"http.route": route}
        self.active = 0
        self.events = 0
        self.size = 0
        self.endings = dict.fromkeys(Ending, 0)

    def sent_first(self, seconds: float) -> None:
        """A stream has sent its first event, so long after its begin."""
        _first_event.record(seconds, self.attributes)

    def ended(self, ending: Ending, seconds: float, error: BaseException | None) -> None:
        """A stream has ended, so long after its begin; `error`: what it failed with."""
        self.active -= 1
        self.endings[ending] += 1
        attributes = self.attributes | {"tidings.stream.ending": ending.value}
        if ending is Ending.FAILED and error is not None:
            attributes["error.type"] = type(error).__qualname__
        _duration.record(seconds, attributes)


_figures: dict[str | None, Figures] = {}


def figures_of(scope: Any) -> Figures:
    """Where the stream of a request is counted: with the others of its route."""
    route = getattr(route_of(scope), "path", None)
    figures = _figures.get(route)
    return _figures.setdefault(route, Figures(route)) if figures is None else figures


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What the streams of this process have done since it was started.

    Attributes:
        active: streams that are open now.
        events: events with data that were sent.
        bytes: bytes of bodies that were sent, comments and pings among them.
        endings: how many streams have ended, by how they ended.
    """

    active: int
    events: int
    bytes: int
    endings: dict[Ending, int]


def statistics() -> StreamStatistics:
    """What the streams of this process have done. It takes microseconds, and may be called from any thread."""
    all_figures = list(_figures.values())
    return StreamStatistics(
        active=sum(figures.active for figures in all_figures),
        events=sum(figures.events for figures in all_figures),
        bytes=sum(figures.size for figures in all_figures),
        endings={ending: sum(figures.endings[ending] for figures in all_figures) for ending in Ending},
    )


# -- what OpenTelemetry asks for, in a thread of its own --------------------------------------------------------------


def _observe(number: Callable[[Figures], int], _options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(number(figures), figures.attributes) for figures in list(_figures.values())]


def _observe_endings(_options: CallbackOptions) -> Iterator[Observation]:
    for figures in list(_figures.values()):
        for ending, count in figures.endings.items():
            yield Observation(count, figures.attributes | {"tidings.stream.ending": ending.value})


_meter.create_observable_up_down_counter(
    "tidings.stream.active", [partial(_observe, lambda figures: figures.active)], "{stream}", "Streams open now"
)
_meter.create_observable_counter(
    "tidings.stream.endings", [_observe_endings], "{stream}", "Streams that have ended, by how they ended"
)
_meter.create_observable_counter(
    "tidings.stream.events", [partial(_observe, lambda figures: figures.events)], "{event}", "Events with data sent"
)
_meter.create_observable_counter(
    "tidings.stream.sent", [partial(_observe, lambda figures: figures.size)], "By", "Bytes of bodies sent"
)
