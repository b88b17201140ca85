"""Who is measured. To add a peer, write its applications and add one entry to `PEERS`.

Its `streams` application serves four paths, with the generators of `benchmarks.traffic` or the same written for its
own API: `/quotes?n=`, `/ticks?n=&interval=`, `/idle` and `/tasks`; `bare` serves the first three without a framework.
Its `channels` application serves two: `/subscribe?channel=`, and `POST /publish?channel=&n=&rate=&channels=&size=`,
which publishes `traffic.publications` of these and answers when it is done; all but the first two may be missing.

Its `storm` application, if it has one, is like `channels` for one channel, gives events ids, and sends who comes with
`Last-Event-ID` what was missed.

A client library has a `Reader` instead, in `benchmarks.peers.readers`.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.command import Command, distribution_version, module, needs, uvicorn
from benchmarks.peers import better_sse, c_floor, nchan
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
                "bare": uvicorn("benchmarks.peers.tidings_bare:app"),
                "channels": uvicorn("benchmarks.peers.tidings_channels:app"),
                "retained": uvicorn("benchmarks.peers.tidings_channels:retained"),
                "storm": uvicorn("benchmarks.peers.tidings_channels:retained"),
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
                "storm": uvicorn("benchmarks.peers.storm_fastapi:app"),
            },
            burst=30,
        ),
        Peer(
            "sse-starlette",
            "sse-starlette",
            {
                "streams": uvicorn("benchmarks.peers.sse_starlette_app:app"),
                "bare": uvicorn("benchmarks.peers.sse_starlette_bare:app"),
                "channels": uvicorn("benchmarks.peers.sse_starlette_channels:app"),
                "storm": uvicorn("benchmarks.peers.storm_sse_starlette:app"),
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
            {"channels": nchan.command, "storm": nchan.command},
            burst=600,
            publishing=publishing_over_http,
            version=nchan.version,
            missing=nchan.missing,
        ),
        Peer(
            "better-sse",
            "better-sse (node)",
            {"streams": better_sse.command, "channels": better_sse.command},
            burst=150,
            version=better_sse.version,
            missing=better_sse.missing,
        ),
        Peer(
            "litestar",
            "Litestar",
            {
                "streams": uvicorn("benchmarks.peers.litestar_app:app"),
                "channels": uvicorn("benchmarks.peers.litestar_channels:app"),
            },
            burst=80,
            missing=needs("litestar"),
        ),
        Peer(
            "aiohttp-sse",
            "aiohttp-sse",
            {
                "streams": module("benchmarks.peers.aiohttp_sse_app"),
                "channels": module("benchmarks.peers.aiohttp_sse_app"),
            },
            burst=80,
            version=lambda: f"{distribution_version('aiohttp-sse')} (aiohttp {distribution_version('aiohttp')})",
            missing=needs("aiohttp-sse", "aiohttp"),
        ),
        # Floors: what a machine needs for the same with nothing in between. They are no libraries.
        Peer(
            "asyncio",
            "asyncio, a bare protocol",
            {
                "streams": module("benchmarks.peers.asyncio_floor"),
                "channels": module("benchmarks.peers.asyncio_floor"),
            },
            burst=300,
            version=platform.python_version,
        ),
        Peer(
            "c",
            "C, one write an event",
            {"streams": c_floor.command, "channels": c_floor.command},
            burst=300,
            version=c_floor.version,
            missing=c_floor.missing,
        ),
        Peer("httpx2", "httpx2", reader=HTTPX2),
        Peer("httpx-sse", "httpx-sse", reader=HTTPX_SSE),
    )
}

USUAL_PEERS = ("tidings", "fastapi", "sse-starlette", "starlette", "nchan", "better-sse", "httpx2", "httpx-sse")
"""Who is measured unless others are asked for."""
