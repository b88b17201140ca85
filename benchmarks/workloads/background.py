"""Answers that are made in the background, token by token, with a reader each."""

import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from benchmarks import redis_server
from benchmarks.audience import Audience, Hearing
from benchmarks.publishing import subscribe_path
from benchmarks.receive import LAZY_PAUSE, TIMEOUT, get_json, open_each, read_json, send_request
from benchmarks.server import Server
from benchmarks.workloads.channels import BURST_PAUSE
from benchmarks.workloads.redis import redis_in
from benchmarks.workloads.workload import Figures, Stage, Workload, server_folder

WARM_UP_TOKENS = 20
WARM_UP_ANSWERS = 20
MIB = 1 << 20

Serve = Callable[[Stage], AbstractContextManager[Server]]


@dataclass(frozen=True)
class Run:
    """Some answers, which begin at the same moment."""

    name: str
    answers: int
    n: int
    """Tokens of each."""
    rate: float = 0.0
    turns: bool = True
    """See `traffic.tokens`."""
    inside: bool = False
    """Whether they are made in their readers' requests, and not in the background."""

    def start(self, server: Server) -> list[str]:
        """Have them ready; the path from which each is read."""
        if self.inside:
            return [f"/answer?{self._query}&number={number}" for number in range(self.answers)]
        get_json(server.port, f"/start?{self._query}", "POST")
        return [subscribe_path(f"{self.name}%20{number}") for number in range(self.answers)]

    @property
    def _query(self) -> str:
        return urlencode(
            {"run": self.name, "answers": self.answers, "n": self.n, "rate": self.rate, "turns": self.turns}
        )


@dataclass(frozen=True)
class Heard:
    """What came of a run, and how."""

    audience: Audience
    hearing: Hearing
    begun: int
    """When it began, on CLOCK_MONOTONIC, in nanoseconds."""
    cpu: float
    """Seconds of its processor that the server used."""


@contextmanager
def heard(server: Server, run: Run, pause: float) -> Iterator[Heard]:
    """A run to its end; each answer has one reader."""
    with open_each(server.port, run.start(server)) as streams:
        audience = Audience(streams)
        try:
            server.settle()
            cpu = server.cpu()
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as client:
                send_request(client, "POST", f"/go?run={run.name}")
                hearing = audience.hear(run.n, pause)
                cpu = server.cpu() - cpu
                begun = read_json(client)["at"]
            yield Heard(audience, hearing, begun, cpu)
        finally:
            audience.close()


@dataclass(frozen=True)
class Speed:
    tokens_per_s: float
    cpu_us_per_token: float
    cpu_share: float


def speed(server: Server, run: Run) -> Speed:
    with heard(server, run, BURST_PAUSE) as result:
        result.audience.check(run.n)
    tokens = run.answers * run.n
    seconds = (result.hearing.finished - result.begun) / 1e9
    return Speed(tokens / seconds, result.cpu / tokens * 1e6, result.cpu / seconds)


def delays(server: Server, run: Run) -> list[int]:
    """Nanoseconds from `yield` to receipt, of every token."""
    with heard(server, run, LAZY_PAUSE) as result:
        return result.audience.latencies(run.n)


def background(serve: Serve, stage: Stage) -> Figures:
    """In the background and in the readers' requests in turn, so that the machine is the same for both."""
    sizes = stage.sizes
    answers, tokens = sizes.answers, sizes.tokens
    with serve(stage) as server:
        speed(server, Run("warm-up", WARM_UP_ANSWERS, WARM_UP_TOKENS))
        speed(server, Run("other-warm-up", WARM_UP_ANSWERS, WARM_UP_TOKENS, inside=True))
        own = speed(server, Run("own", answers, tokens))
        other = speed(server, Run("other", answers, tokens, inside=True))
        ready = speed(server, Run("ready", answers, tokens, turns=False))
        other_ready = speed(server, Run("other-ready", answers, tokens, turns=False, inside=True))
        late = delays(server, Run("paced", answers, sizes.paced_tokens, sizes.token_pace))
    percentiles = statistics.quantiles(late, n=100, method="inclusive")
    return {
        "tokens_per_s": own.tokens_per_s,
        "unbacked_per_s": other.tokens_per_s,
        "times_unbacked": own.tokens_per_s / other.tokens_per_s,
        "cpu_us_per_token": own.cpu_us_per_token,
        "cpu_share": own.cpu_share,
        "ready_per_s": ready.tokens_per_s,
        "unbacked_ready_per_s": other_ready.tokens_per_s,
        "p50_ms": percentiles[49] / 1e6,
        "p99_ms": percentiles[98] / 1e6,
        "max_ms": max(late) / 1e6,
    }


@contextmanager
def on_redis(stage: Stage) -> Iterator[Server]:
    with server_folder() as folder, redis_in(folder), stage.serve_in(folder, "redis, answers") as server:
        yield server


def background_memory(stage: Stage) -> Figures:
    """Of the whole process: idle background streams alone, with a reader in the process each, with one on a socket."""
    count = stage.sizes.idle_answers
    run = Run("idle", count, 1)
    with stage.serve("answers") as server:
        bare = server.rss()
        run.start(server)
        server.settle()
        alone = server.rss()
        get_json(server.port, f"/read?run={run.name}&answers={count}", "POST")
        server.settle()
        read = server.rss()
    with stage.serve("answers") as server, open_each(server.port, run.start(server)):
        server.settle()
        received = server.rss()
    return {
        "mib": alone / MIB,
        "read_mib": read / MIB,
        "received_mib": received / MIB,
        "bare_mib": bare / MIB,
        "kib_per_stream": (alone - bare) / count / 1024,
        "kib_per_reader": (read - alone) / count / 1024,
    }


FIGURES = {
    "tokens_per_s": "{:,.0f}",
    "unbacked_per_s": "{:,.0f}",
    "times_unbacked": "{:.2f}",
    "cpu_us_per_token": "{:.1f}",
    "cpu_share": "{:.2f}",
    "ready_per_s": "{:,.0f}",
    "unbacked_ready_per_s": "{:,.0f}",
    "p50_ms": "{:.2f}",
    "p99_ms": "{:.2f}",
    "max_ms": "{:.1f}",
}

BACKGROUND = (
    Workload(
        "background",
        "{sizes.answers} background streams, {sizes.tokens:,} tokens each, one reader each, through memory",
        partial(background, lambda stage: stage.serve("answers")),
        FIGURES,
        servers=("answers",),
        more_is_better=True,
        busy="cpu_share",
    ),
    Workload(
        "background_sqlite",
        "The same through SQLite, `synchronous=NORMAL`",
        partial(background, lambda stage: stage.serve("sqlite, answers")),
        FIGURES,
        servers=("sqlite, answers",),
        more_is_better=True,
    ),
    Workload(
        "background_redis",
        "The same through Redis",
        partial(background, on_redis),
        FIGURES,
        servers=("redis, answers",),
        missing=redis_server.missing,
        more_is_better=True,
    ),
    Workload(
        "background_memory",
        "Resident memory of a process with {sizes.idle_answers:,} background streams in which nothing happens",
        background_memory,
        {
            "mib": "{:.0f}",
            "read_mib": "{:.0f}",
            "received_mib": "{:.0f}",
            "bare_mib": "{:.0f}",
            "kib_per_stream": "{:.1f}",
            "kib_per_reader": "{:.1f}",
        },
        servers=("answers",),
        more_is_better=False,
        rounds=1,
    ),
)
