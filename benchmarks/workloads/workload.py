"""What a workload is."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import Command
from benchmarks.peers import Peer, nothing
from benchmarks.server import Server, serving
from benchmarks.sizes import Sizes

Figures = dict[str, float]


@contextmanager
def server_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Stage:
    """Where a workload is played: a peer, how much, and the processor for servers."""

    peer: Peer
    sizes: Sizes
    processor: int | None

    @contextmanager
    def serve(self, name: str) -> Iterator[Server]:
        """One of the peer's servers, just started."""
        with (
            tempfile.TemporaryDirectory(prefix="tidings-bench-") as folder,
            self.serve_in(Path(folder), name) as server,
        ):
            yield server

    @contextmanager
    def serve_in(self, folder: Path, name: str) -> Iterator[Server]:
        with self.start(self.peer.servers[name], folder) as server:
            yield server

    @contextmanager
    def start(self, command: Command, folder: Path) -> Iterator[Server]:
        with serving(command, self.processor, folder) as server:
            yield server


@dataclass(frozen=True)
class Workload:
    key: str
    title: str
    run: Callable[[Stage], Figures]
    figures: dict[str, str]
    """In the order of the report, each with the format it is printed in; peers are compared by the first."""
    more_is_better: bool
    servers: tuple[str, ...] = ()
    """What a peer must be able to serve to be measured."""
    only: tuple[str, ...] | None = None
    """The keys of those who are measured, if not everybody is who can be."""
    by: str | None = None
    """The one of the sizes that grows from run to run, through the points of `Sizes.growth`."""
    reads: bool = False
    """Whether a peer must be able to read a stream."""
    missing: Callable[[], str | None] = nothing
    """What has to be installed before anybody can be measured, if anything."""
    rounds: int | None = None
    """Set where another round can only give the same answer."""
    busy: str | None = None
    """The figure that says how much of its processor the process had that never rests in this workload."""
    fair_share: float = 0.9
    """If it had less than this, it was waiting: something else used its processor."""

    @property
    def main(self) -> str:
        """The figure that peers are compared by."""
        return next(iter(self.figures))

    def contended(self, figures: Figures) -> bool:
        """Whether they say more of what else this machine did. That doesn't depend on how the peer came off."""
        return self.busy is not None and figures[self.busy] < self.fair_share

    def measures(self, peer: Peer) -> bool:
        if self.only is not None and peer.key not in self.only:
            return False
        return all(name in peer.servers for name in self.servers) and (peer.reader is not None or not self.reads)

    def points(self, sizes: Sizes) -> Sequence[int | None]:
        """Where it is measured; None stands for the usual sizes."""
        return [None] if self.by is None else sizes.growth[self.by]

    def sizes_at(self, point: int | None, sizes: Sizes) -> Sizes:
        return sizes if self.by is None else sizes.with_one(self.by, point)
