"""What a workload is."""

import tempfile
from collections.abc import Callable, Iterator
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

    def contended(self, figures: Figures) -> bool:
        """Whether they say more of what else this machine did. That doesn't depend on how the peer came off."""
        return self.busy is not None and figures[self.busy] < self.fair_share

    def measures(self, peer: Peer) -> bool:
        return all(name in peer.servers for name in self.servers) and (peer.reader is not None or not self.reads)
