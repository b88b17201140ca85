"""`python -m benchmarks`: tidings and its peers side by side, in turns, on this machine."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks import report
from benchmarks.peers import PEERS, USUAL_PEERS
from benchmarks.results import Failure, Results, Sample
from benchmarks.runs import Run, as_json, load, machine, merged, versions
from benchmarks.server import ServerError, allow_open_files, pin, processors
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.wire import ReceiveError
from benchmarks.workloads import GROUPS, USUAL, WORKLOADS, Stage, Workload

# Of a process, beside its connections.
OTHER_FILES = 200


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help=f"of {', '.join(WORKLOADS)}; or a group of them, of {', '.join(GROUPS)}; default: all but growth",
    )
    parser.add_argument("--peers", default=",".join(USUAL_PEERS), help="comma-separated, or all; default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 3; 1 with --quick")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every sample as JSON, too")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, measures little")
    options = parser.parse_args(argv)
    options.workloads = [key for name in options.workloads or USUAL for key in GROUPS.get(name, [name])]
    options.peers = list(PEERS) if options.peers == "all" else options.peers.split(",")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    for given, known in ((options.workloads, WORKLOADS), (options.peers, PEERS)):
        for name in given:
            if name not in known:
                parser.error(f"unknown: {name!r} (choose from {', '.join(known)})")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def turns(workload: Workload, peers: Sequence[str], rounds: int, sizes: Sizes) -> Iterator[tuple[int, int | None, str]]:
    """Who is measured in which round, and at which point."""
    measured = [peer for peer in peers if workload.measures(PEERS[peer])]
    for turn in range(1, (workload.rounds or rounds) + 1):
        # Another peer begins each round, so that coming first is nobody's advantage.
        first = turn % len(measured) if measured else 0
        for point in workload.points(sizes):
            yield from ((turn, point, peer) for peer in [*measured[first:], *measured[:first]])


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
        for turn, point, peer in turns(workload, present, rounds, sizes):
            label = f"{key:17} {turn:2} {peer:14}" + (f" {workload.by} {point:<6,}" if workload.by else "")
            try:
                figures = workload.run(Stage(PEERS[peer], workload.sizes_at(point, sizes), server_processor))
            except (ServerError, ReceiveError, OSError, psutil.Error) as error:
                # Below its first line stands the server's log, which is for the one who watches the run.
                results.failures.append(Failure(turn, key, peer, str(error).partition("\n")[0]))
                print(f"{label} FAILED: {error}", file=sys.stderr, flush=True)
                continue
            contended = sizes.meaningful and workload.contended(figures)
            results.samples.append(Sample(turn, key, peer, figures, contended, point))
            shown = "  ".join(f"{name} {form.format(figures[name])}" for name, form in workload.figures.items())
            print(f"{label} {shown}", file=sys.stderr, flush=True)
    return results


def finish(run: Run, out: Path | None) -> int:
    print(report.text(run))
    if out:
        out.write_text(as_json(run) + "\n")
    # A missed target is no error: a busy machine can miss it. A figure that is missing is one.
    return 1 if run.results.failures else 0


def report_again(argv: Sequence[str]) -> int:
    """`python -m benchmarks report FILE…`: of files that `--out` wrote."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report",
        description="Several runs on this machine as one. A workload is taken from the last file that has it.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what --out wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write them as one")
    options = parser.parse_args(argv)
    try:
        run = merged([load(file) for file in options.files])
    except (OSError, ValueError, TypeError, KeyError) as error:
        parser.error(f"{type(error).__name__}: {error}")
    return finish(run, options.out)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == "report":
        return report_again(argv[1:])
    options = arguments(argv)
    sizes = QUICK if options.quick else FULL
    most = allow_open_files(sizes.many_streams + OTHER_FILES) - OTHER_FILES
    sizes = sizes.with_one("many_streams", min(sizes.many_streams, most))
    results = measure(options.workloads, options.peers, options.rounds, sizes)
    print()
    run = Run(machine(), versions(options.peers), sizes, options.workloads, options.peers, results)
    return finish(run, options.out)


if __name__ == "__main__":
    sys.exit(main())
