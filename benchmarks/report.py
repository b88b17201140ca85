"""A run as Markdown, which reads as well in a terminal."""

from collections.abc import Sequence

from benchmarks.markdown import table
from benchmarks.peers import PEERS
from benchmarks.results import TARGETS, Results
from benchmarks.runs import Run
from benchmarks.workloads import WORKLOADS, Workload

COUNTED = "Every event was counted: what lost one, or had one twice or out of order, failed, and is in no figure."


def spread(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))} to {form.format(max(values))}"


def times(workload: Workload, peer: str, point: int | None, results: Results) -> float | None:
    """How many times better tidings is by the workload's first figure."""
    own = results.median(workload.key, "tidings", workload.main, point)
    other = results.median(workload.key, peer, workload.main, point)
    if not own or not other:
        return None
    return own / other if workload.more_is_better else other / own


def compared(workload: Workload, peer: str, point: int | None, results: Results) -> str:
    ratio = times(workload, peer, point, results)
    return "-" if ratio is None else f"{ratio:.2f}"


def workload_table(workload: Workload, run: Run) -> list[str]:
    results, main = run.results, workload.main
    measured = [
        (peer, point)
        for point in workload.points(run.sizes)
        for peer in run.peers
        if results.values(workload.key, peer, main, point)
    ]
    if not measured:
        return []
    compares = len({peer for peer, _ in measured}) > 1
    grows = [workload.by] if workload.by else []
    header = ["peer", *grows, *workload.figures, f"{main}, min to max", *(["tidings is x better"] if compares else [])]
    rows = []
    for peer, point in measured:
        medians = [
            form.format(results.median(workload.key, peer, figure, point)) for figure, form in workload.figures.items()
        ]
        row = [PEERS[peer].title, *([] if point is None else [f"{point:,}"]), *medians]
        row.append(spread(results.values(workload.key, peer, main, point), workload.figures[main]))
        rows.append([*row, compared(workload, peer, point, results)] if compares else row)
    return table(header, rows)


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


def rounds_text(run: Run) -> str:
    rounds = {run.results.rounds(key) for key in run.workloads if not WORKLOADS[key].rounds} - {0} or {1}
    return " to ".join(str(number) for number in sorted({min(rounds), max(rounds)}))


def text(run: Run) -> str:
    results = run.results
    out = [f"Medians of rounds: {rounds_text(run)}. {run.machine}.", "", COUNTED, ""]
    out += [", ".join(f"{name} {number}" for name, number in run.versions.items()) + ".", ""]
    for key in run.workloads:
        lines = workload_table(WORKLOADS[key], run)
        if lines:
            out += [f"## {key}: {WORKLOADS[key].title.format(sizes=run.sizes)}", "", *lines, ""]
        out += contention(WORKLOADS[key], run.peers, results)
    verdicts = targets_table(run.workloads, results)
    if verdicts:
        out += ["## targets", "", *verdicts, ""]
    titles = {key: peer.title for key, peer in PEERS.items()}
    out += [f"Not measured: {titles.get(name, name)}. {what}" for name, what in results.missing.items()]
    out += [f"FAILED: {failure}" for failure in results.failures]
    return "\n".join(out).rstrip()
