"""FastAPI's own server-sent events."""

from fastapi.sse import EventSourceResponse

from benchmarks.peers.typed import typed_app

app = typed_app(EventSourceResponse)
