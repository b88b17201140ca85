"""Who is measured. To add a peer, write its application and add one entry to `PEERS`.

An application serves four paths, with the generators of `benchmarks.traffic` or the same written for its own
API: `/quotes?n=`, `/ticks?n=&interval=`, `/idle` and `/tasks`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    key: str
    title: str
    app: str
    """`module:attribute`, as uvicorn takes it."""
    distribution: str
    """Whose version the report quotes."""


PEERS = {
    peer.key: peer
    for peer in (
        Peer("tidings", "tidings", "benchmarks.peers.tidings_app:app", "tidings"),
        Peer("fastapi", "fastapi.sse", "benchmarks.peers.fastapi_app:app", "fastapi"),
        Peer("sse-starlette", "sse-starlette", "benchmarks.peers.sse_starlette_app:app", "sse-starlette"),
        # Does less than the others, and is there for scale.
        Peer("starlette", "StreamingResponse, bytes ready", "benchmarks.peers.starlette_app:app", "starlette"),
    )
}
