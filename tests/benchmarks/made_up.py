"""Results of all workloads that pages show, made up."""

from dataclasses import replace

from benchmarks.peers import PEERS
from benchmarks.publish.views import SHOWN
from benchmarks.results import Results, Sample
from benchmarks.runs import Run
from benchmarks.scale.capacity import TRAFFIC, Costs, need
from benchmarks.scale.findings import Findings
from benchmarks.scale.measure import Check
from benchmarks.scale.reconnect import CLIENTS, Storm, simulate
from benchmarks.sizes import FULL
from benchmarks.workloads import WORKLOADS

MEASURED = [key for key in WORKLOADS if key in SHOWN]
PEERS_MEASURED = ["tidings", "fastapi", "nchan", "better-sse", "c", "httpx2"]
COSTS = Costs(48.0, 20.0, 10.0, 500.0, 400.0, 80.0, 10.0)


def samples(key):
    """Each peer is half as good as the one before it; each round is a hundredth more than the last."""
    workload = WORKLOADS[key]
    measured = [peer for peer in PEERS_MEASURED if workload.measures(PEERS[peer])]
    for turn in (1, 2, 3):
        for point in workload.points(FULL):
            for place, peer in enumerate(measured):
                value = 1_000.0 * 2 ** (-place if workload.more_is_better else place) * (1 + turn / 100)
                yield Sample(turn, key, peer, dict.fromkeys(workload.figures, value), False, point)


def run(**changes):
    found = Run(
        machine="Linux 1.0, 2 x Processor",
        versions={"python": "3.11.0", "tidings": "1.0", "fastapi": "0.1"},
        sizes=FULL,
        workloads=MEASURED,
        peers=PEERS_MEASURED,
        results=Results([sample for key in MEASURED for sample in samples(key)]),
    )
    return replace(found, **changes)


def with_samples(change):
    """A run in which each sample is what `change` makes of it."""
    return run(results=Results([change(sample) for key in MEASURED for sample in samples(key)]))


def findings(**changes):
    storm = Storm(clients=200, opens_per_s=100, queue=200)
    found = Findings(
        machine="Linux 1.0, 2 x Processor",
        quick=False,
        costs=COSTS,
        checks=[Check("memory", "MiB", 100.0, 110.0)],
        needs={traffic.name: {10_000: need(10_000, traffic, COSTS)} for traffic in TRAFFIC},
        storms={"room for all": {kind: simulate(storm, CLIENTS[kind]) for kind in CLIENTS}},
    )
    return replace(found, **changes)
