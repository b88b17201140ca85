"""What a run found out, and what it was asked to reach."""

import statistics
from dataclasses import dataclass, field

from benchmarks.workloads import Figures

# A saturated server that had less of its processor than this was waiting: something else used it.
FAIR_SHARE = 0.9


@dataclass(frozen=True)
class Sample:
    round: int
    workload: str
    peer: str
    figures: Figures

    @property
    def contended(self) -> bool:
        """Whether it says more of what else this machine did. That doesn't depend on how the peer came off."""
        return self.figures.get("cpu_share", 1.0) < FAIR_SHARE


@dataclass
class Results:
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self, workload: str, peer: str, figure: str) -> list[float]:
        """Of the samples that aren't contended; of all, if all are."""
        samples = [sample for sample in self.samples if (sample.workload, sample.peer) == (workload, peer)]
        fair = [sample for sample in samples if not sample.contended]
        return [sample.figures[figure] for sample in fair or samples]

    def contended(self, workload: str, peer: str) -> bool:
        """Whether there is no sample that isn't."""
        return all(s.contended for s in self.samples if (s.workload, s.peer) == (workload, peer))

    def median(self, workload: str, peer: str, figure: str) -> float | None:
        values = self.values(workload, peer, figure)
        return statistics.median(values) if values else None


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

    def verdict(self, value: float, results: Results) -> str:
        def reached(bound: float) -> bool:
            return value >= bound if self.at_least else value <= bound

        if any(results.contended(self.workload, peer) for peer in ("tidings", self.beside or "tidings")):
            return "unsure: contended"
        return "aim met" if reached(self.aim) else "met" if reached(self.must) else "MISSED"


TARGETS = (
    Target("throughput, times fastapi.sse", "throughput", "events_per_s", 12, 20, at_least=True, beside="fastapi"),
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
    Target("memory per idle stream, KiB", "memory", "kib_per_stream", 30, 22),
    Target("tasks per stream", "tasks", "per_stream", 2, 2),
)
