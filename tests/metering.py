"""What OpenTelemetry's SDK is given, by its reader in memory."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

Values = dict[str, float]


@cache
def _reader() -> InMemoryMetricReader:
    """One for the process: a provider can be set once. It comes behind the import of tidings, as in many programs."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return reader


class Meter:
    """The change of each value since the test began: counts, and how often a histogram was given something.

    A value is called as its instrument and the values of its attributes, in the order of their names.
    """

    def __init__(self) -> None:
        self._before = self._read()

    def _read(self) -> Values:
        return {name: getattr(point, "value", None) or getattr(point, "count", 0) for name, point in self.points()}

    def points(self) -> Iterator[tuple[str, Any]]:
        for metric in self.instruments().values():
            for point in metric.data.data_points:
                values = [str(value) for _, value in sorted(dict(point.attributes or {}).items())]
                yield " ".join([metric.name, *values]), point

    def instruments(self) -> dict[str, Metric]:
        data = _reader().get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes if scope.scope.name == "tidings" for metric in scope.metrics}

    def changes(self, *instruments: str) -> Values:
        """What has changed, of all instruments or of some."""
        now = self._read()
        changes = {name: change for name, value in now.items() if (change := value - self._before.get(name, 0))}
        return {name: change for name, change in changes.items() if not instruments or name.split()[0] in instruments}
