"""What `python -m benchmarks.scale` found out, as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.scale.capacity import Costs, Need
from benchmarks.scale.measure import Check
from benchmarks.scale.reconnect import Outcome

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Findings", "load"]


@dataclass(frozen=True)
class Findings:
    """Costs and checks were measured; the needs are computed from the costs, and the storms are simulated.

    Attributes:
        machine: where it was measured.
        quick: sizes were so small that the costs mean little.
        needs: by traffic and number of subscribers.
        storms: by what is left, and by who comes.
    """

    machine: str
    quick: bool
    costs: Costs
    checks: list[Check]
    needs: dict[str, dict[int, Need]]
    storms: dict[str, dict[str, Outcome]]

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def load(file: Path) -> Findings:
    """As `as_json` wrote it."""
    known = json.loads(file.read_text())
    return Findings(
        machine=known["machine"],
        quick=known["quick"],
        costs=Costs(**known["costs"]),
        checks=[Check(**check) for check in known["checks"]],
        needs={name: {int(n): Need(**each) for n, each in by.items()} for name, by in known["needs"].items()},
        storms={name: {kind: Outcome(**each) for kind, each in by.items()} for name, by in known["storms"].items()},
    )
