"""What came of it, as Markdown, which reads as well in a terminal."""

from __future__ import annotations

import os
import platform
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final

from benchmarks.markdown import table

from soak.run import Outcome
from soak.schedule import Kind
from soak.settings import Settings

_TITLES: Final = {"sqlite": "SQLite", "redis": "Redis"}
_PACKAGES: Final = ("tidings", "uvicorn", "starlette", "fastapi", "redis", "httpx2")
_EXAMPLES: Final = 20


def _count(value: int) -> str:
    return f"{value:,}"


def _sizes(values: Sequence[int], unit: int = 1) -> str:
    return " → ".join(f"{value / unit:.0f}" for value in values)


def _resets(outcome: Outcome) -> str:
    resets = outcome.verdict.resets
    return f"{resets['slow']}; {resets.total() - resets['slow']}"


def _longest(outcome: Outcome) -> str:
    return f"{max((gap.seconds for gap in outcome.gaps.values()), default=0):.1f} s"


def _endings(outcome: Outcome) -> str:
    endings = outcome.answers.endings
    return f"{endings['finished']}; {endings['aborted: lost']}; {endings['aborted: shutdown']}"


ROWS: Final[dict[str, Callable[[Outcome], str]]] = {
    "seconds of chaos": lambda outcome: f"{outcome.seconds:.0f}",
    "acts": lambda outcome: _count(len(outcome.done)),
    "clients": lambda outcome: _count(sum(outcome.clients.values())),
    "connections that they made": lambda outcome: _count(outcome.verdict.connections),
    "events acknowledged": lambda outcome: _count(outcome.verdict.acknowledged),
    "refused or unanswered; of them stored": lambda outcome: (
        f"{_count(outcome.verdict.unacknowledged)}; {_count(outcome.verdict.stored)}"
    ),
    "events delivered": lambda outcome: _count(outcome.verdict.delivered),
    "**lost**": lambda outcome: _count(outcome.verdict.lost),
    "**doubled**": lambda outcome: _count(outcome.verdict.doubled),
    "**out of order**": lambda outcome: _count(outcome.verdict.disordered),
    "ids or events that can't be": lambda outcome: _count(outcome.verdict.strange),
    "clients without the last event": lambda outcome: _count(len(outcome.unsettled)),
    "resets: of slow readers; of others": _resets,
    "background streams: finished; `lost`; `shutdown`": _endings,
    "their tokens read": lambda outcome: _count(outcome.answers.tokens),
    "faults in them": lambda outcome: _count(len(outcome.answers.wrong)),
    "longest gap that a client saw": _longest,
    "memory of the survivor, MiB: start → busy → end": lambda outcome: _sizes(
        [size.rss for size in (outcome.sizes.begin, outcome.sizes.busy, outcome.sizes.end)], 1 << 20
    ),
    "its descriptors": lambda outcome: _sizes(
        [size.descriptors for size in (outcome.sizes.begin, outcome.sizes.busy, outcome.sizes.end)]
    ),
    "errors in the workers' logs": lambda outcome: _count(len(outcome.faults)),
    "processes that didn't end": lambda outcome: _count(len(outcome.stuck)),
}


def _acts(outcomes: Sequence[Outcome]) -> list[str]:
    counts = [Counter(done.kind for done in outcome.done) for outcome in outcomes]
    rows = []
    for kind in [*Kind, None]:
        row = ["none that is known" if kind is None else kind.value]
        for count, outcome in zip(counts, outcomes, strict=True):
            gap = outcome.gaps.get(kind)
            row += [str(count[kind]) if kind and count[kind] else "-", f"{gap.seconds:.1f} s" if gap else "-"]
        rows.append(row)
    header = ["what was done"]
    for outcome in outcomes:
        header += [_TITLES[outcome.storage], "longest gap"]
    return table(header, rows)


def problems(outcome: Outcome) -> list[str]:
    """What went wrong, one line each, the first of each sort."""
    sorts = (outcome.verdict.examples, outcome.answers.wrong, outcome.unsettled, outcome.stuck, outcome.faults)
    return [f"{_TITLES[outcome.storage]}: {line}" for sort in sorts for line in sort[:_EXAMPLES]]


def text(outcomes: Sequence[Outcome], settings: Settings) -> str:
    kinds = outcomes[0].clients
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    about = (
        f"Seed {settings.seed}, {settings.workers} workers, {settings.rate:.0f} events per second; "
        f"clients: {', '.join(f'{number} {kind}' for kind, number in kinds.items())}. "
        f"Python {platform.python_version()}, {versions}. {platform.system()}, {os.cpu_count()} processors."
    )
    out = [
        *textwrap.wrap(about, 120),
        "",
        *table(
            ["", *(_TITLES[outcome.storage] for outcome in outcomes)],
            [[name, *(cell(outcome) for outcome in outcomes)] for name, cell in ROWS.items()],
        ),
        "",
        *_acts(outcomes),
    ]
    wrong = [line for outcome in outcomes for line in problems(outcome)]
    if wrong:
        out += ["", *(f"WRONG: {line}" for line in wrong)]
    return "\n".join(out)
