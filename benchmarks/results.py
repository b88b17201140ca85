"""What a run found out, and what it was asked to reach."""

import statistics
from dataclasses import dataclass, field

from benchmarks.workloads import Figures


@dataclass(frozen=True)
class Sample:
    round: int
    workload: str
    peer: str
    figures: Figures
    contended: bool
    point: int | None = None
    """Where it was measured, if the workload has several points."""


@dataclass(frozen=True)
class Failure:
    """A run that has no figure: its server failed, or an event was lost, doubled or out of order."""

    round: int
    workload: str
    peer: str
    error: str

    def __str__(self) -> str:
        return f"{self.workload}, {self.peer}, round {self.round}: {self.error}"


@dataclass
class Results:
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Peers and workloads that can't be measured here, and what they need."""

    def values(self, workload: str, peer: str, figure: str, point: int | None = None) -> list[float]:
        """Of the samples that aren't contended; of all, if all are."""
        key = (workload, peer, point)
        samples = [sample for sample in self.samples if (sample.workload, sample.peer, sample.point) == key]
        fair = [sample for sample in samples if not sample.contended]
        return [sample.figures[figure] for sample in fair or samples]

    def contended(self, workload: str, peer: str) -> bool:
        """Whether there is no sample that isn't."""
        return all(s.contended for s in self.samples if (s.workload, s.peer) == (workload, peer))

    def median(self, workload: str, peer: str, figure: str, point: int | None = None) -> float | None:
        values = self.values(workload, peer, figure, point)
        return statistics.median(values) if values else None

    def rounds(self, workload: str) -> int:
        return max((sample.round for sample in self.samples if sample.workload == workload), default=0)


@dataclass(frozen=True)
class Target:
    """A figure of tidings, or its ratio to that of `beside`."""

    text: str
    workload: str
    figure: str
    must: float
    aim: float
    at_least: bool = False
    beside: str | None = None

    def value(self, results: Results) -> float | None:
        own = results.median(self.workload, "tidings", self.figure)
        if self.beside is None or own is None:
            return own
        other = results.median(self.workload, self.beside, self.figure)
        return own / other if other else None

    def verdict(self, value: float | None, results: Results) -> str:
        if value is None:
            return "not measured"
        if any(results.contended(self.workload, peer) for peer in ("tidings", self.beside or "tidings")):
            return "unsure: contended"
        return "aim met" if self._reached(value, self.aim) else "met" if self._reached(value, self.must) else "MISSED"

    def _reached(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound


TARGETS = (
    Target("throughput, times fastapi.sse", "throughput", "events_per_s", 12, 20, at_least=True, beside="fastapi"),
    Target("throughput, times better-sse", "throughput", "events_per_s", 1, 1.3, at_least=True, beside="better-sse"),
    Target(
        "throughput, times sse-starlette",
        "throughput",
        "events_per_s",
        5,
        8,
        at_least=True,
        beside="sse-starlette",
    ),
    Target("latency p50, ms", "latency", "p50_ms", 1, 1),
    Target("answers p99, times fastapi.sse", "answers", "p99_ms", 1, 1 / 3, beside="fastapi"),
    Target("memory per idle stream, KiB", "memory", "kib_per_stream", 30, 20),
    Target("memory per idle bare stream, KiB", "bare_memory", "kib_per_stream", 20, 15),
    Target("tasks per stream", "tasks", "per_stream", 2, 2),
    Target("fanout, deliveries/s", "fanout", "deliveries_per_s", 600_000, 1_000_000, at_least=True),
    Target("fanout, times nchan", "fanout", "deliveries_per_s", 3, 5, at_least=True, beside="nchan"),
    Target("fanout, times sse-starlette", "fanout", "deliveries_per_s", 15, 15, at_least=True, beside="sse-starlette"),
    Target("fanout, times fastapi.sse", "fanout", "deliveries_per_s", 60, 60, at_least=True, beside="fastapi"),
    Target("fanout_latency p99, times nchan", "fanout_latency", "p99_ms", 2, 1.5, beside="nchan"),
    Target("memory per idle subscriber, KiB", "channel_memory", "kib_per_subscriber", 26, 20),
    Target("storm, time of sse-starlette's", "storm", "seconds", 1, 1 / 3, beside="sse-starlette"),
    Target("publish to SQLite, events/s", "publish", "publishes_per_s", 5_000, 5_000, at_least=True),
    Target("replay from memory, events/s", "replay", "memory_events_per_s", 200_000, 200_000, at_least=True),
    Target("replay from SQLite, events/s", "replay", "sqlite_events_per_s", 200_000, 200_000, at_least=True),
    Target("wakeup p50, ms", "wakeup", "p50_ms", 50, 50),
    Target("publish to Redis, events/s", "redis_publish", "publishes_per_s", 10_000, 15_000, at_least=True),
    Target("redis_latency p50, ms", "redis_latency", "p50_ms", 3, 3),
    Target("redis_latency p99, ms", "redis_latency", "p99_ms", 15, 15),
    Target("fanout from Redis, times memory", "redis_fanout", "times_memory", 0.85, 0.85, at_least=True),
    Target("background streams, tokens/s", "background", "tokens_per_s", 50_000, 50_000, at_least=True),
    Target(
        "background streams on SQLite, tokens/s", "background_sqlite", "tokens_per_s", 10_000, 10_000, at_least=True
    ),
    Target("background streams on Redis, tokens/s", "background_redis", "tokens_per_s", 10_000, 10_000, at_least=True),
    Target("memory of idle background streams, MiB", "background_memory", "mib", 200, 200),
    Target("decode, times httpx2", "decode", "events_per_s", 1.5, 3, at_least=True, beside="httpx2"),
    Target("decode, times httpx-sse", "decode", "events_per_s", 1.5, 3, at_least=True, beside="httpx-sse"),
    Target("decode_large, time of a byte, 10 MiB to 1 MiB", "decode_large", "growth", 2, 1.5),
)
