"""Streams: any iterable of items, driven onto an ASGI connection to the last detail of its life."""

from tidings.stream.ending import Ending
from tidings.stream.limit import StreamLimit
from tidings.stream.loop import shutting_down
from tidings.stream.metrics import StreamStatistics, statistics
from tidings.stream.response import EventSourceResponse

__all__ = ["Ending", "EventSourceResponse", "StreamLimit", "StreamStatistics", "shutting_down", "statistics"]
