"""Who is measured. To add a peer, write its applications and add one entry to `PEERS`.

Its `streams` application serves four paths, with the generators of `benchmarks.traffic` or the same written for its
own API: `/quotes?n=`, `/ticks?n=&interval=`, `/idle` and `/tasks`. Its `channels` application serves two:
`/subscribe?channel=`, and `POST /publish?channel=&n=&rate=`, which publishes `traffic.trades(n, rate)` and answers
when it is done.

A client library has a `Reader` instead, in `benchmarks.peers.readers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.command import Command, distribution_version, uvicorn
from benchmarks.peers import nchan
from benchmarks.peers.readers import HTTPX2, HTTPX_SSE, TIDINGS, Reader
from benchmarks.publishing import Publishing, publishing_inside, publishing_over_http


def nothing() -> None:
    return None


@dataclass(frozen=True)
class Peer:
    key: str
    title: str
    servers: Mapping[str, Command] = field(default_factory=dict)
    """What it can serve. A workload measures the peers that have the servers it asks for."""
    reader: Reader | None = None
    """How it reads a stream, if it can."""
    burst: int = 0
    """Events that `fanout` publishes to it: a second's work, or more."""
    publishing: Publishing = publishing_inside
    version: Callable[[], str] | None = None
    """None: the one of the distribution called like its key."""
    missing: Callable[[], str | None] = nothing
    """What has to be installed before it can be measured, if anything."""

    def installed_version(self) -> str:
        return self.version() if self.version else distribution_version(self.key)


PEERS = {
    peer.key: peer
    for peer in (
        Peer(
            "tidings",
            "tidings",
            {
                "streams": uvicorn("benchmarks.peers.tidings_app:app"),
                "channels": uvicorn("benchmarks.peers.tidings_channels:app"),
                "retained": uvicorn("benchmarks.peers.tidings_channels:retained"),
                "sqlite": uvicorn("benchmarks.peers.tidings_sqlite:app"),
                "sqlite, retained": uvicorn("benchmarks.peers.tidings_sqlite:retained"),
                "answers": uvicorn("benchmarks.peers.tidings_answers:app"),
                "sqlite, answers": uvicorn("benchmarks.peers.tidings_sqlite:answers"),
                "redis, answers": uvicorn("benchmarks.peers.tidings_redis:answers"),
                "redis": uvicorn("benchmarks.peers.tidings_redis:app"),
                "redis, retained": uvicorn("benchmarks.peers.tidings_redis:retained"),
            },
            reader=TIDINGS,
            burst=2_000,
        ),
        Peer(
            "fastapi",
            "fastapi.sse",
            {
                "streams": uvicorn("benchmarks.peers.fastapi_app:app"),
                "channels": uvicorn("benchmarks.peers.fastapi_channels:app"),
            },
            burst=30,
        ),
        Peer(
            "sse-starlette",
            "sse-starlette",
            {
                "streams": uvicorn("benchmarks.peers.sse_starlette_app:app"),
                "channels": uvicorn("benchmarks.peers.sse_starlette_channels:app"),
            },
            burst=80,
        ),
        # Does less than the others, and is there for scale.
        Peer(
            "starlette",
            "StreamingResponse, bytes ready",
            {"streams": uvicorn("benchmarks.peers.starlette_app:app")},
        ),
        Peer(
            "nchan",
            "nchan (nginx, in C)",
            {"channels": nchan.command},
            burst=600,
            publishing=publishing_over_http,
            version=nchan.version,
            missing=nchan.missing,
        ),
        Peer("httpx2", "httpx2", reader=HTTPX2),
        Peer("httpx-sse", "httpx-sse", reader=HTTPX_SSE),
    )
}
