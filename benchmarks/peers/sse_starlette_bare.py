"""sse-starlette without a framework."""

from benchmarks.peers.bare import bare_app
from benchmarks.peers.sse_starlette_app import idle_response, quotes_response, ticks_response

app = bare_app(
    {
        "/quotes": lambda query: quotes_response(int(query["n"])),
        "/ticks": lambda query: ticks_response(int(query["n"]), float(query["interval"])),
        "/idle": lambda _: idle_response(),
    }
)
