"""What was measured, as tables for pages."""

from collections.abc import Iterator, Sequence

from benchmarks import report
from benchmarks.markdown import table
from benchmarks.peers import PEERS
from benchmarks.publish.views import ALONE, GROWING, GROWTH, SIDE_BY_SIDE, Growth, View
from benchmarks.runs import Run
from benchmarks.scale.findings import Findings
from benchmarks.scale.text import checks_text, costs_text, needs_text, storms_text
from benchmarks.workloads import WORKLOADS

__all__ = ["judged", "parts"]

NOT_MEASURED = "-"
UNSURE = " ?"


def parts(run: Run, found: Findings) -> dict[str, str]:
    """The text of each part of a page that is made, by its name."""
    return {
        "run": run_text(run),
        "report": report.text(run).replace("\n## ", "\n### "),
        **{name: beside(run, views) for name, views in SIDE_BY_SIDE.items()},
        "alone": alone(run),
        **{f"growth_{name}": growth(run, each) for name, each in GROWTH.items()},
        "costs": f"Measured on {found.machine}.\n\n{untitled(costs_text(found.costs))}",
        "checks": untitled(checks_text(found.checks)),
        "needs": untitled(needs_text(found.needs)),
        "reconnect": untitled(storms_text(found.storms)),
    }


def run_text(run: Run) -> str:
    versions = ", ".join(f"{PEERS[name].title if name in PEERS else name} {of}" for name, of in run.versions.items())
    lines = [
        f"Medians of rounds: {report.rounds_text(run)}. {run.machine}. {report.COUNTED}",
        "",
        f"Versions: {versions}.",
    ]
    if run.results.missing:
        lines += [
            "",
            f"Not measured: {', '.join(PEERS[name].title if name in PEERS else name for name in run.results.missing)}.",
        ]
    if run.results.failures:
        lines += ["", f"Failed: {'; '.join(str(failure) for failure in run.results.failures)}."]
    return "\n".join(lines)


def times_text(ratio: float) -> str:
    """A ratio in about two digits."""
    form = "{:,.0f}" if ratio >= 10 else "{:.1f}" if ratio >= 1 else "{:.2f}" if ratio >= 0.1 else "{:.2g}"
    return f"{form.format(ratio)} x"


def beside(run: Run, views: Sequence[View]) -> str:
    """The figures of tidings, and how many times better they are than those of each peer."""
    measured = [view for view in views if run.results.values(view.workload, "tidings", WORKLOADS[view.workload].main)]
    peers = [
        peer
        for peer in run.peers
        if peer != "tidings"
        and any(report.times(WORKLOADS[view.workload], peer, None, run.results) for view in measured)
    ]
    rows = [["**tidings**", *(figure(run, view) for view in measured)]]
    rows += [[PEERS[peer].title, *(times_of(run, view, peer) for view in measured)] for peer in peers]
    rows.append(["*largest spread*", *(spread(run, view) for view in measured)])
    return "\n".join(table(["", *(view.heading for view in measured)], rows))


def figure(run: Run, view: View) -> str:
    workload = WORKLOADS[view.workload]
    return workload.figures[workload.main].format(run.results.median(view.workload, "tidings", workload.main))


def times_of(run: Run, view: View, peer: str) -> str:
    ratio = report.times(WORKLOADS[view.workload], peer, None, run.results)
    if ratio is None:
        return NOT_MEASURED
    text = judged(run, view, peer, ratio)
    return text if ratio >= 1 else f"**{text}**"


def judged(run: Run, view: View, peer: str, ratio: float) -> str:
    """A ratio, and whether it says more of what else the machine did."""
    unsure = any(run.results.contended(view.workload, each) for each in ("tidings", peer))
    return times_text(ratio) + (UNSURE if unsure else "")


def spread(run: Run, view: View) -> str:
    """Of the peer whose rounds differ most."""
    main = WORKLOADS[view.workload].main
    all_values = [run.results.values(view.workload, peer, main) for peer in run.peers]
    widths = [
        (max(values) - min(values)) / 2 / sorted(values)[len(values) // 2] for values in all_values if len(values) > 1
    ]
    return f"± {max(widths):.0%}" if widths else "one round"


def alone(run: Run) -> str:
    rows = []
    for view in ALONE:
        workload = WORKLOADS[view.workload]
        if values := run.results.values(view.workload, "tidings", workload.main):
            form = workload.figures[workload.main]
            rows.append([view.title, view.unit, figure(run, view), report.spread(values, form)])
    return "\n".join(table(["", "unit", "median", "min to max"], rows))


def growth(run: Run, grows: Growth) -> str:
    """One line for each point and peer."""
    return "\n".join(table([grows.points, "peer", *GROWING.values()], list(_growth_rows(run, grows))))


def _growth_rows(run: Run, grows: Growth) -> Iterator[list[str]]:
    workload = WORKLOADS[grows.workload]
    for point in workload.points(run.sizes):
        for peer in run.peers:
            if run.results.values(grows.workload, peer, workload.main, point):
                medians = {name: run.results.median(grows.workload, peer, name, point) for name in GROWING}
                cells = {name: workload.figures[name].format(median) for name, median in medians.items()}
                if _contended(run, grows, peer, point):
                    cells["p99_ms"] += UNSURE
                yield [f"{point:,}", PEERS[peer].title, *cells.values()]


def _contended(run: Run, grows: Growth, peer: str, point: int | None) -> bool:
    key = (grows.workload, peer, point)
    return all(each.contended for each in run.results.samples if (each.workload, each.peer, each.point) == key)


def untitled(section: str) -> str:
    """Without the heading, which the page has in its own words."""
    return section.partition("\n")[2].strip()
