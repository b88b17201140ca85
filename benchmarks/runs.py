"""What was measured when and where, as a file of JSON; and several such files as one."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import redis_server
from benchmarks.command import distribution_version
from benchmarks.peers import PEERS
from benchmarks.results import TARGETS, Failure, Results, Sample
from benchmarks.sizes import Sizes
from benchmarks.workloads import WORKLOADS, Workload

SHARED = ("uvicorn", "uvloop", "httptools", "starlette", "pydantic", "anyio", "httpx", "redis")


def versions(peers: Sequence[str]) -> dict[str, str]:
    own = {key: PEERS[key].installed_version() for key in peers}
    shared = {name: distribution_version(name) for name in SHARED if name not in own}
    return {"python": platform.python_version(), **own, **shared, "redis-server": redis_server.version()}


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def machine() -> str:
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} x {processor_name()}"


@dataclass(frozen=True)
class Run:
    """Results, and what they are of."""

    machine: str
    versions: dict[str, str]
    sizes: Sizes
    workloads: list[str]
    peers: list[str]
    results: Results


class MergeError(ValueError):
    """These runs don't belong together."""


def merged(runs: Sequence[Run]) -> Run:
    """One run of several. A workload is taken from the last one that has it, with all of its peers: only what was
    measured in turns can be compared."""
    first, *others = runs
    versions = dict(first.versions)
    for other in others:
        if (other.machine, other.sizes) != (first.machine, first.sizes):
            raise MergeError("the runs are of different machines or sizes")
        for name, number in other.versions.items():
            if versions.setdefault(name, number) != number:
                raise MergeError(f"the runs have different versions of {name}: {versions[name]} and {number}")
    source = {key: run for run in runs for key in run.workloads}
    workloads = [key for key in WORKLOADS if key in source]
    results = Results(
        samples=[sample for key in workloads for sample in source[key].results.samples if sample.workload == key],
        failures=[failure for key in workloads for failure in source[key].results.failures if failure.workload == key],
        missing={name: what for run in runs for name, what in run.results.missing.items()},
    )
    peers = [peer for peer in PEERS if any(peer in run.peers for run in runs)]
    return Run(first.machine, versions, first.sizes, workloads, peers, results)


def load(file: Path) -> Run:
    """As `as_json` wrote it."""
    run = json.loads(file.read_text())
    results = Results(
        [Sample(**sample) for sample in run["samples"]],
        [Failure(**failure) for failure in run["failures"]],
        run["missing"],
    )
    for sample in results.samples:
        if sample.workload not in WORKLOADS or sample.figures.keys() != WORKLOADS[sample.workload].figures.keys():
            raise MergeError(f"{file} is of other benchmarks than these: {sample.workload} has other figures")
    return Run(run["machine"], run["versions"], Sizes(**run["sizes"]), run["workloads"], run["peers"], results)


def figures(workload: Workload, peer: str, point: int | None, results: Results) -> dict[str, Any]:
    """Of each figure the median, and the range it is from."""
    summary = {}
    for figure in workload.figures:
        values = results.values(workload.key, peer, figure, point)
        summary[figure] = {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "runs": len(values),
        }
    return summary


def summary(run: Run, workload: Workload) -> dict[str, Any]:
    """By peer. Where something grows, each has a list of points, in the order of growth."""
    by_peer: dict[str, Any] = {}
    for peer in run.peers:
        points = [
            {"at": point, "figures": figures(workload, peer, point, run.results)}
            for point in workload.points(run.sizes)
            if run.results.values(workload.key, peer, workload.main, point)
        ]
        if points:
            by_peer[peer] = points if workload.by else points[0]["figures"]
    return {"by": workload.by, "peers": by_peer} if workload.by else by_peer


def as_json(run: Run) -> str:
    measured = [WORKLOADS[key] for key in run.workloads]
    targets = []
    for target in TARGETS:
        if target.workload in run.workloads:
            value = target.value(run.results)
            targets.append({**asdict(target), "value": value, "verdict": target.verdict(value, run.results)})
    return json.dumps(
        {
            "machine": run.machine,
            "versions": run.versions,
            "every_event_counted": not run.results.failures,
            "workloads": run.workloads,
            "peers": run.peers,
            "sizes": asdict(run.sizes),
            "figures": {each.key: summary(run, each) for each in measured if not each.by},
            "growth": {each.key: summary(run, each) for each in measured if each.by},
            "targets": targets,
            "samples": [asdict(sample) for sample in run.results.samples],
            "failures": [asdict(failure) for failure in run.results.failures],
            "missing": run.results.missing,
        },
        indent=2,
    )
