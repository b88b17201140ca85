"""`python -m benchmarks.publish`: keep results in the repository, and make charts and parts of pages of them again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.publish.charts import drawn
from benchmarks.publish.pages import filled
from benchmarks.publish.tables import parts
from benchmarks.publish.views import SHOWN
from benchmarks.runs import MergeError, Run, as_json, load, merged
from benchmarks.scale import findings
from benchmarks.scale.findings import Findings

__all__ = ["main", "published"]

ROOT = Path(__file__).parent.parent.parent
RUN = Path("benchmarks/published/run.json")
SCALE = Path("benchmarks/published/scale.json")
CHARTS = Path("docs/images/performance")
PAGES = (Path("docs/performance.md"), Path("benchmarks/README.md"))


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.publish", description=__doc__)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="what `benchmarks --out` wrote; default: the results that are kept",
    )
    parser.add_argument("--scale", type=Path, metavar="FILE", help="the same of `benchmarks.scale --out`")
    options = parser.parse_args(argv)
    try:
        run = merged([load(file) for file in options.files or [root / RUN]])
        found = findings.load(options.scale or root / SCALE)
        files = published(run, found, root)
    except (OSError, ValueError, TypeError, KeyError) as error:
        parser.error(f"{type(error).__name__}: {error}")
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_text() != text:
            target.write_text(text)
            print(f"wrote {path}")
    return 0


def published(run: Run, found: Findings, root: Path = ROOT) -> dict[Path, str]:
    """All files that are made of results, by their path in the repository.

    Raises:
        MergeError: a quick run measures too little to be shown, or the run lacks something that is.
        PageError: a page has a part that can't be made.
    """
    if not run.sizes.meaningful or found.quick:
        raise MergeError("figures of a quick run mean too little to be published")
    if lacking := [
        workload for workload in SHOWN if not any(each.workload == workload for each in run.results.samples)
    ]:
        raise MergeError(f"the run has nothing of {', '.join(lacking)}")
    made = parts(run, found)
    return {
        RUN: as_json(run) + "\n",
        SCALE: found.as_json() + "\n",
        **{CHARTS / name: text for name, text in drawn(run, found).items()},
        **{page: filled((root / page).read_text(), made) for page in PAGES},
    }


if __name__ == "__main__":
    sys.exit(main())
