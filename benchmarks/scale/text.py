"""What `python -m benchmarks.scale` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.markdown import table
from benchmarks.scale.capacity import Costs, Need
from benchmarks.scale.measure import Check
from benchmarks.scale.reconnect import Outcome

__all__ = ["checks_text", "costs_text", "needs_text", "storms_text"]

NEVER = "never"


def costs_text(costs: Costs) -> str:
    rows = [[name, f"{value:.2f}"] for name, value in asdict(costs).items()]
    return _section("costs of one process", ["cost", "measured"], rows)


def checks_text(checks: Sequence[Check]) -> str:
    rows = [
        [
            check.what,
            check.unit,
            f"{check.foretold:.2f}",
            f"{check.measured:.2f}",
            f"{check.foretold / check.measured - 1:+.0%}" if check.measured else "-",
        ]
        for check in checks
    ]
    return _section("sizes that the model wasn't made from", ["what", "unit", "foretold", "measured", "off by"], rows)


def needs_text(needs: Mapping[str, Mapping[int, Need]]) -> str:
    header = [
        "traffic",
        "subscribers",
        "processes",
        "limit",
        "memory, GiB",
        "Redis, processors",
        "network, Gbit/s",
        "all back, s",
    ]
    rows = [
        [
            traffic,
            f"{subscribers:,}",
            f"{found.processes:,}",
            found.limit,
            f"{found.memory_gib:,.1f}",
            f"{found.redis_share:,.2f}",
            f"{found.network_gbit_s:,.2f}",
            f"{found.reconnect_s:.1f}",
        ]
        for traffic, by_size in needs.items()
        for subscribers, found in by_size.items()
    ]
    return _section("what very many subscribers need", header, rows)


def storms_text(outcomes: Mapping[str, Mapping[str, Outcome]]) -> str:
    header = [
        "what is left has",
        "clients",
        "half back, s",
        "99 % back, s",
        "busiest second",
        "attempts each",
        "work in vain",
    ]
    rows = [
        [
            storm,
            kind,
            _seconds(found.median_s),
            _seconds(found.last_s),
            f"{found.busiest:,}",
            f"{found.attempts:.1f}",
            f"{found.in_vain:.0%}",
        ]
        for storm, by_kind in outcomes.items()
        for kind, found in by_kind.items()
    ]
    return _section("a reconnect storm of 100,000 clients", header, rows)


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"### {title}", "", *table(header, rows)])


def _seconds(value: float | None) -> str:
    return NEVER if value is None else f"{value:.0f}"
