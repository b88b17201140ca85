"""The library of this repository without a framework."""

from benchmarks import traffic
from benchmarks.peers.bare import bare_app
from tidings import EventSourceResponse

app = bare_app(
    {
        "/quotes": lambda query: EventSourceResponse(traffic.quotes(int(query["n"]))),
        "/ticks": lambda query: EventSourceResponse(traffic.ticks(int(query["n"]), float(query["interval"]))),
        "/idle": lambda _: EventSourceResponse(traffic.idle()),
    }
)
