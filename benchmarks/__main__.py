"""`python -m benchmarks`: tidings and its peers side by side, in turns, on this machine."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks import report
from benchmarks.peers import PEERS
from benchmarks.results import Results, Sample
from benchmarks.server import ServerError, allow_open_files, pin, processors
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.wire import ReceiveError
from benchmarks.workloads import WORKLOADS, Stage, Workload


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 5; 1 with --quick")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every sample as JSON, too")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, measures little")
    options = parser.parse_args(argv)
    options.workloads = options.workloads or list(WORKLOADS)
    options.peers = options.peers.split(",")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 5
    for given, known in ((options.workloads, WORKLOADS), (options.peers, PEERS)):
        for name in given:
            if name not in known:
                parser.error(f"unknown: {name!r} (choose from {', '.join(known)})")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def turns(workload: Workload, peers: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Who is measured in which round."""
    measured = [peer for peer in peers if workload.measures(PEERS[peer])]
    for turn in range(1, (workload.rounds or rounds) + 1):
        # Another peer begins each round, so that coming first is nobody's advantage.
        first = turn % len(measured) if measured else 0
        yield from ((turn, peer) for peer in [*measured[first:], *measured[:first]])


def measure(workloads: Sequence[str], peers: Sequence[str], rounds: int, sizes: Sizes) -> Results:
    results = Results()
    server_processor, receiver_processor = processors()
    if server_processor is None:
        print("Server and receiver share the processors here: expect noise.", file=sys.stderr)
    pin(os.getpid(), receiver_processor)
    results.missing = {
        **{peer: what for peer in peers if (what := PEERS[peer].missing())},
        **{key: what for key in workloads if (what := WORKLOADS[key].missing())},
    }
    for name, what in results.missing.items():
        print(f"{name} is left out: {what}", file=sys.stderr, flush=True)
    present = [peer for peer in peers if peer not in results.missing]
    for key in workloads:
        if key in results.missing:
            continue
        workload = WORKLOADS[key]
        for turn, peer in turns(workload, present, rounds):
            try:
                figures = workload.run(Stage(PEERS[peer], sizes, server_processor))
            except (ServerError, ReceiveError, OSError, psutil.Error) as error:
                # Below its first line stands the server's log, which is for the one who watches the run.
                results.failures.append(f"{key}, {peer}, round {turn}: {str(error).partition(chr(10))[0]}")
                print(f"{key:14} {turn:2} {peer:14} FAILED: {error}", file=sys.stderr, flush=True)
                continue
            contended = sizes.meaningful and workload.contended(figures)
            results.samples.append(Sample(turn, key, peer, figures, contended))
            shown = "  ".join(f"{name} {form.format(figures[name])}" for name, form in workload.figures.items())
            print(f"{key:14} {turn:2} {peer:14} {shown}", file=sys.stderr, flush=True)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    sizes = QUICK if options.quick else FULL
    allow_open_files(2 * sizes.idle_streams)
    results = measure(options.workloads, options.peers, options.rounds, sizes)
    print()
    print(report.text(results, options.workloads, options.peers, sizes, options.rounds))
    if options.out:
        options.out.write_text(report.as_json(results, options.peers, sizes, options.rounds) + "\n")
    # A missed target is no error: a busy machine can miss it. A figure that is missing is one.
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
