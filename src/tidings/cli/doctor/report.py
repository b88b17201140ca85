"""Prints findings, for people and for programs."""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

from rich.console import Console
from rich.text import Text

from tidings.cli.doctor.finding import Finding, Level
from tidings.cli.terminal import harmless

__all__ = ["as_json", "print_report"]

_SIGNS: Final = {
    Level.OK: ("✓", "green"),
    Level.NOTE: ("i", "blue"),
    Level.UNKNOWN: ("?", "magenta"),
    Level.WARNING: ("!", "yellow"),
    Level.PROBLEM: ("✗", "bold red"),
}

_INDENT: Final = 11 * " "


def as_json(url: str, seconds: float, findings: list[Finding]) -> str:
    """One object; the findings keep their order."""
    listed = [{"check": f.check, "level": f.level, "seen": f.seen, "change": f.change} for f in findings]
    return json.dumps({"url": url, "seconds": seconds, "findings": listed}, ensure_ascii=False, indent=2)


def print_report(url: str, findings: list[Finding], console: Console) -> None:
    """A paragraph for each finding, and the count of what to change at the end."""
    console.print(Text.assemble("\n", ("tidings doctor", "bold"), f"  {harmless(url)}\n"), soft_wrap=True)
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        console.print(Text.assemble((f"{sign} {finding.level:<8}", style), (f" {finding.check}", "bold")))
        # What a server says may hold anything, and none of it is markup.
        _print_indented(Text(harmless(finding.seen)), console)
        if finding.change:
            _print_indented(Text(f"→ {harmless(finding.change)}", style="dim"), console)
    console.print(Text(f"\n{_summary(findings)}\n"))


def _print_indented(text: Text, console: Console) -> None:
    for line in text.wrap(console, max(console.width - len(_INDENT), 20)):
        line.rstrip()
        console.print(Text(_INDENT) + line, soft_wrap=True)


def _summary(findings: list[Finding]) -> str:
    levels = Counter(finding.level for finding in findings)
    parts = [
        f"{levels[level]} {word if levels[level] == 1 else f'{word}s'}"
        for level, word in ((Level.PROBLEM, "problem"), (Level.WARNING, "warning"))
        if levels[level]
    ]
    text = f"{', '.join(parts)}." if parts else "Nothing to change."
    if levels[Level.UNKNOWN]:
        text += f" {levels[Level.UNKNOWN]} can't be told from what was seen."
    return text
