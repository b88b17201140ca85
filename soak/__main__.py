"""`python -m soak`: clients read, publishers publish, a hand breaks what it can; then it is counted what is missing."""

import argparse
import asyncio
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from soak import report
from soak.run import STORAGES, Outcome, run
from soak.settings import Settings


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all; default: %(default)s")
    parser.add_argument("--storages", default=",".join(STORAGES), help="they share the minutes; default: %(default)s")
    parser.add_argument("--clients", type=int, default=usual.clients, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=usual.rate, help="events per second; default: %(default)s")
    parser.add_argument("--workers", type=int, default=usual.workers, help="from 2; default: %(default)s")
    parser.add_argument("--every", type=float, default=usual.every, help="seconds between acts; default: %(default)s")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of the acts and of all chance; default: 1")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables as Markdown, too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and files here")
    options = parser.parse_args(argv)
    options.storages = options.storages.split(",")
    for storage in options.storages:
        if storage not in STORAGES:
            parser.error(f"unknown: {storage!r} (choose from {', '.join(STORAGES)})")
    if options.workers < 2 or options.clients < 10 or options.minutes <= 0 or options.rate <= 0 or options.every <= 0:
        parser.error("at least 2 workers and 10 clients, and more than nothing of the rest")
    return options


def allow_open_files(wanted: int) -> None:
    """For this process and, by inheritance, for all that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


async def run_all(storages: Sequence[str], settings: Settings, folder: Path) -> list[Outcome]:
    begin = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    # As at Ctrl+C: what was started is ended.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def say(line: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {line}", file=sys.stderr, flush=True)

    outcomes = []
    for storage in storages:
        own = folder / storage
        own.mkdir(parents=True, exist_ok=True)
        outcomes.append(await run(storage, settings, own, say))
        say(f"{storage}: {'FAILED' if outcomes[-1].failed else 'all is there, once and in order'}")
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    settings = Settings(
        seconds=options.minutes * 60 / len(options.storages),
        clients=options.clients,
        rate=options.rate,
        workers=options.workers,
        every=options.every,
        seed=options.seed,
    )
    allow_open_files(20 * settings.clients)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcomes = runner.run(run_all(options.storages, settings, folder))
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = report.text(outcomes, settings)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
