"""The library of this repository, as its users write it."""

from benchmarks.peers.typed import typed_app
from tidings import EventSourceResponse

app = typed_app(EventSourceResponse)
