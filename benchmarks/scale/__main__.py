"""`python -m benchmarks.scale`: what grows with subscribers, measured; what very many would need; a reconnect storm."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.runs import machine
from benchmarks.scale.capacity import TRAFFIC, need
from benchmarks.scale.findings import Findings, load
from benchmarks.scale.measure import Sizes, measure
from benchmarks.scale.reconnect import CLIENTS, Storm, simulate
from benchmarks.scale.text import checks_text, costs_text, needs_text, storms_text
from benchmarks.server import allow_open_files, pin, processors

SUBSCRIBERS = (10_000, 1_000_000, 10_000_000)
QUICK = Sizes(
    subscribers=(50, 100),
    more_subscribers=200,
    seconds=1.0,
    processes=(1, 2),
    more_processes=4,
    published=200,
    rounds=1,
)
STORMS = {
    "room for all in 10 s": Storm(clients=100_000, opens_per_s=10_000, queue=100_000),
    "room for all in 100 s": Storm(clients=100_000, opens_per_s=1_000, queue=100_000),
    "the same, and a queue of 2,048": Storm(clients=100_000, opens_per_s=1_000, queue=2_048),
}
"""100,000 clients on what is left when one server of several is lost."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, measures little")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="take them from what --out wrote; measure nothing")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON, too")
    options = parser.parse_args(argv)
    if options.costs:
        known = load(options.costs)
        where, quick, costs, checks = known.machine, known.quick, known.costs, known.checks
    else:
        where, quick = machine(), options.quick
        sizes = QUICK if options.quick else Sizes()
        allow_open_files(2 * sizes.more_subscribers)
        pin(os.getpid(), processors()[1])
        costs, checks = measure(sizes)
    needs = {t.name: {n: need(n, t, costs) for n in SUBSCRIBERS} for t in TRAFFIC}
    outcomes = {name: {kind: simulate(storm, CLIENTS[kind]) for kind in CLIENTS} for name, storm in STORMS.items()}
    print("\n\n".join((costs_text(costs), checks_text(checks), needs_text(needs), storms_text(outcomes))))
    if options.out:
        found = Findings(where, quick, costs, checks, needs, outcomes)
        options.out.write_text(found.as_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
