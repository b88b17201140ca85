"""What the fuzz targets have in common: each is run by atheris, or by itself with random inputs."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable

__all__ = ["main"]


def main(doc: str | None, check: Callable[[bytes], None], random_case: Callable[[random.Random], bytes]) -> None:
    """Run a target with atheris, or with `--runs` without it.

    Args:
        doc: of the target; its first line is its invariant.
        check: raises if the invariant doesn't hold for an input.
        random_case: makes an input for a run without atheris.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--runs", type=int, help="check this many random inputs, without atheris")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    options, rest = parser.parse_known_args()
    if options.runs is not None:
        _run(check, random_case, options.runs, options.seed)
        return
    try:
        import atheris  # noqa: PLC0415 - optional, and not needed for a random run
    except ModuleNotFoundError:
        sys.exit("this needs atheris: pip install atheris (or give --runs N for a random run without it)")
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *rest], check)
    atheris.Fuzz()


def _run(check: Callable[[bytes], None], random_case: Callable[[random.Random], bytes], runs: int, seed: int) -> None:
    source = random.Random(seed)
    for _ in range(runs):
        case = random_case(source)
        try:
            check(case)
        except Exception as error:
            error.add_note(f"input: {case!r}")
            raise
    print(f"{runs} inputs, seed {seed}: the invariant held")
