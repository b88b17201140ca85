"""A run as Markdown, which reads as well in a terminal, and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import redis_server
from benchmarks.command import distribution_version
from benchmarks.peers import PEERS
from benchmarks.results import TARGETS, Results
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


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown, aligned in the source too: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = ["-" * width if not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return [line(header), line(rule), *(line(row) for row in rows)]


def spread(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))} to {form.format(max(values))}"


def compared(workload: Workload, peer: str, results: Results) -> str:
    """How many times better tidings is by the workload's first figure."""
    figure = next(iter(workload.figures))
    own = results.median(workload.key, "tidings", figure)
    other = results.median(workload.key, peer, figure)
    if not own or not other:
        return "-"
    return f"{own / other if workload.more_is_better else other / own:.2f}"


def workload_table(workload: Workload, peers: Sequence[str], results: Results) -> list[str]:
    main = next(iter(workload.figures))
    measured = [peer for peer in peers if results.values(workload.key, peer, main)]
    if not measured:
        return []
    rows = [["peer", *workload.figures, f"{main}, min to max"]]
    for peer in measured:
        medians = [form.format(results.median(workload.key, peer, figure)) for figure, form in workload.figures.items()]
        values = results.values(workload.key, peer, main)
        rows.append([PEERS[peer].title, *medians, spread(values, workload.figures[main])])
    if len(measured) > 1:
        column = ["tidings is x better", *(compared(workload, peer, results) for peer in measured)]
        rows = [[*row, cell] for row, cell in zip(rows, column, strict=True)]
    return table(rows[0], rows[1:])


def contention(workload: Workload, peers: Sequence[str], results: Results) -> list[str]:
    """What to make of figures that were measured on a busy machine."""
    samples = [sample for sample in results.samples if sample.workload == workload.key]
    contended = [sample for sample in samples if sample.contended]
    if not contended:
        return []
    note = (
        f"Something else is at work on this machine: {len(contended)} of {len(samples)} runs of {workload.key} had "
        f"less than {workload.fair_share:.0%} of a processor ({workload.busy}). They are left out of the medians of a "
        "peer that has others."
    )
    cost = next((figure for figure in workload.figures if figure.startswith("cpu_us_per_")), None)
    own = cost and results.median(workload.key, "tidings", cost)
    if cost and own:
        others = {peer: results.median(workload.key, peer, cost) for peer in peers if peer != "tidings"}
        ratios = [f"{other / own:.1f} x {PEERS[peer].title}" for peer, other in others.items() if other]
        if ratios:
            note += f" By {cost}, which suffers less, tidings is {', '.join(ratios)}."
    return [note, ""]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.2f}".rstrip("0").rstrip(".")


def targets_table(workloads: Sequence[str], results: Results) -> list[str]:
    rows = []
    for target in TARGETS:
        if target.workload in workloads:
            value = target.value(results)
            sign = ">=" if target.at_least else "<="
            rows.append(
                [
                    target.text,
                    "-" if value is None else number(value),
                    f"{sign} {number(target.must)}",
                    f"{sign} {number(target.aim)}",
                    target.verdict(value, results),
                ]
            )
    return table(["target", "measured", "must", "aim", "verdict"], rows) if rows else []


def text(results: Results, workloads: Sequence[str], peers: Sequence[str], sizes: Sizes, rounds: int) -> str:
    out = [f"Medians of {rounds} round{'s' if rounds > 1 else ''}. {machine()}.", ""]
    out += [", ".join(f"{name} {number}" for name, number in versions(peers).items()) + ".", ""]
    for key in workloads:
        lines = workload_table(WORKLOADS[key], peers, results)
        if lines:
            out += [f"## {key}: {WORKLOADS[key].title.format(sizes=sizes)}", "", *lines, ""]
        out += contention(WORKLOADS[key], peers, results)
    verdicts = targets_table(workloads, results)
    if verdicts:
        out += ["## targets", "", *verdicts, ""]
    titles = {key: peer.title for key, peer in PEERS.items()}
    out += [f"Not measured: {titles.get(name, name)}. {what}" for name, what in results.missing.items()]
    out += [f"FAILED: {failure}" for failure in results.failures]
    return "\n".join(out).rstrip()


def as_json(results: Results, peers: Sequence[str], sizes: Sizes, rounds: int) -> str:
    targets: list[dict[str, Any]] = []
    for target in TARGETS:
        value = target.value(results)
        targets.append({**asdict(target), "value": value, "verdict": target.verdict(value, results)})
    medians = {
        workload.key: {
            peer: {figure: results.median(workload.key, peer, figure) for figure in workload.figures}
            for peer in peers
            if results.values(workload.key, peer, next(iter(workload.figures)))
        }
        for workload in WORKLOADS.values()
    }
    return json.dumps(
        {
            "machine": machine(),
            "versions": versions(peers),
            "rounds": rounds,
            "sizes": asdict(sizes),
            "medians": medians,
            "targets": targets,
            "samples": [asdict(sample) for sample in results.samples],
            "failures": results.failures,
            "missing": results.missing,
        },
        indent=2,
    )
