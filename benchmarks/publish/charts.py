"""What was measured, as charts: SVG whose text is text, on a white ground.

The same results make the same bytes, with the same version of matplotlib.
"""

import hashlib
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from benchmarks import report
from benchmarks.peers import PEERS
from benchmarks.publish.tables import judged
from benchmarks.publish.views import FLOORS, GROWING, GROWTH, SIDE_BY_SIDE, Growth, View
from benchmarks.runs import Run, as_json
from benchmarks.scale.findings import Findings
from benchmarks.scale.reconnect import Outcome
from benchmarks.workloads import WORKLOADS

__all__ = ["drawn", "source"]

AHEAD, BEHIND, FLOOR = "#1f6f9f", "#d9822b", "#9a9a9a"
LINES = ("#1f6f9f", "#d9822b", "#4b9b57", "#8e5ea2")
STYLE: Any = {  # its type is another in each version of matplotlib
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, in a font of the reader's
    "svg.hashsalt": "tidings",  # names inside the file would be random otherwise
}
WIDTH = 9.0


def drawn(run: Run, found: Findings) -> dict[str, str]:
    """Each chart as SVG, by the name of its file."""
    of_run, of_storms = source(run), source(found)
    with mpl.rc_context(STYLE):
        return {
            **{f"{name}.svg": svg(ratios(run, views), of_run) for name, views in SIDE_BY_SIDE.items()},
            **{f"growth-{name}.svg": svg(growth(run, each), of_run) for name, each in GROWTH.items()},
            "reconnect.svg": svg(reconnect(found.storms), of_storms),
        }


def source(results: Run | Findings) -> str:
    """What a chart says about the results that it is of: another result is another source."""
    text = as_json(results) if isinstance(results, Run) else json.dumps(asdict(results))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def svg(figure: Figure, of: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Source": of})
    # Without blanks at the ends of lines, which git minds.
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def ratios(run: Run, views: Sequence[View]) -> Figure:
    """For each workload a bar for each peer: to the right as many times as tidings is better, to the left worse."""
    panels = {view: found for view in views if (found := _times(run, view))}
    rows = [max(len(found) for found in pair) for pair in _pairs(list(panels.values()))]
    figure = Figure(figsize=(WIDTH, sum(0.28 * count + 0.75 for count in rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), 2, height_ratios=[count + 1.5 for count in rows])
    values = [1.0, *(ratio for found in panels.values() for ratio in found.values())]
    for index, (view, found) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[divmod(index, 2)])
        labels = [judged(run, view, peer, ratio) for peer, ratio in found.items()]
        _bars(axes, found, labels, (min(values), max(values)), rows[index // 2])
        axes.set_title(view.heading)
    figure.supxlabel("How many times better tidings is. Orange: the peer is better. Grey: a floor.", fontsize=9)
    return figure


def _times(run: Run, view: View) -> dict[str, float]:
    ratios = {peer: report.times(WORKLOADS[view.workload], peer, None, run.results) for peer in run.peers}
    return {peer: ratio for peer, ratio in ratios.items() if ratio and peer != "tidings"}


def _pairs(items: Sequence[Mapping[str, float]]) -> list[Sequence[Mapping[str, float]]]:
    return [items[first : first + 2] for first in range(0, len(items), 2)]


def _bars(
    axes: Axes, found: Mapping[str, float], labels: Sequence[str], bounds: tuple[float, float], rows: int
) -> None:
    places = range(len(found))
    colours = [FLOOR if peer in FLOORS else AHEAD if ratio >= 1 else BEHIND for peer, ratio in found.items()]
    # It begins at 1, so that its length is what a logarithmic scale makes of the ratio.
    axes.barh(places, [ratio - 1 for ratio in found.values()], left=1, height=0.65, color=colours)
    for place, ratio, label in zip(places, found.values(), labels, strict=True):
        axes.annotate(
            label,
            (ratio, place),
            (3 if ratio >= 1 else -3, 0),
            textcoords="offset points",
            ha="left" if ratio >= 1 else "right",
            va="center",
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    room = 2 * (bounds[1] / bounds[0]) ** 0.35  # for the figures beside the bars
    axes.set_xlim(bounds[0] / room, bounds[1] * room)
    axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in range(-3, 4)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(places, [textwrap.fill(PEERS[peer].title, 22) for peer in found], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows - 0.4, -0.6)  # downwards


def growth(run: Run, grows: Growth) -> Figure:
    """For each figure the points of each peer."""
    workload = WORKLOADS[grows.workload]
    points = [point for point in workload.points(run.sizes) if point is not None]
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    peers = [peer for peer in run.peers if run.results.values(grows.workload, peer, workload.main, points[0])]
    for axes, (name, title) in zip(figure.subplots(1, len(GROWING)), GROWING.items(), strict=True):
        for peer, colour in zip(peers, LINES, strict=False):
            medians = [(point, run.results.median(grows.workload, peer, name, point)) for point in points]
            line = [(at, value) for at, value in medians if value is not None]
            axes.plot(*zip(*line, strict=True), color=colour, marker="o", markersize=4, label=PEERS[peer].title)
            for at, value in line:
                others = [run.results.median(grows.workload, other, name, at) or 0.0 for other in peers]
                _label(axes, at, value, colour, above=value >= max(others))
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_xlim(points[0] / 1.7, points[-1] * 1.9)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(points, [f"{point:,}" for point in points])
        _from_below(axes, logarithmic=name != "kib_per_subscriber")
    figure.supxlabel(grows.points, fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _label(axes: Axes, at: int, value: float, colour: str, *, above: bool) -> None:
    place = (0, 5 if above else -11)
    style: Any = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5, "color": colour}
    axes.annotate(short(value), (at, value), place, **style)


def short(value: float) -> str:
    """In two or three digits, which is what fits beside a point."""
    for unit, of in (("M", 1e6), ("k", 1e3)):
        if value >= of:
            return f"{value / of:.{1 if value < 10 * of else 0}f} {unit}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _from_below(axes: Axes, *, logarithmic: bool) -> None:
    """Room above for what stands at the points; the points have their values, so the scale needs few."""
    low, high = axes.get_ylim()
    if logarithmic:
        axes.set_yscale("log")
        smallest, largest = axes.dataLim.intervaly
        axes.set_ylim(smallest / 4, largest * 2.5)
        axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(-3, 9)]))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, high + (high - low) * 0.1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def reconnect(storms: Mapping[str, Mapping[str, Outcome]]) -> Figure:
    """Above, how many attempts came in each second; below, who had a stream."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, len(storms), squeeze=False)
    for column, (name, by_kind) in enumerate(storms.items()):
        seconds = max(_seconds_shown(outcome) for outcome in by_kind.values())
        for (kind, outcome), colour in zip(by_kind.items(), LINES, strict=False):
            _curve(upper[column], outcome.attempts_by_second[:seconds], kind, colour)
            clients = outcome.connected_by_second[-1] / outcome.connected if outcome.connected else 1
            _curve(lower[column], [each / clients for each in outcome.connected_by_second[:seconds]], kind, colour)
        upper[column].set_title(name)
        upper[column].set_yscale("log", nonpositive="clip")
        upper[column].set_ylim(10, 2e5)
        upper[column].yaxis.set_minor_locator(NullLocator())
        upper[column].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        lower[column].set_ylim(0, 1.05)
        lower[column].yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in (upper[column], lower[column]):
            axes.set_xlim(0, seconds)
    upper[0].set_ylabel("attempts in each second")
    lower[0].set_ylabel("have a stream")
    figure.supxlabel("seconds since the loss", fontsize=9)
    handles, labels = upper[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _seconds_shown(outcome: Outcome) -> int:
    """Until nearly all have a stream, and a little more."""
    until = outcome.last_s if outcome.last_s is not None else len(outcome.connected_by_second)
    return int(until * 1.15) + 2


def _curve(axes: Axes, values: Sequence[float], label: str, colour: str) -> None:
    axes.plot(range(len(values)), values, color=colour, linewidth=1, label=label)
