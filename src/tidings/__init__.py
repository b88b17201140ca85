"""Server-sent events for Python web applications."""

from tidings.events import Event, with_ids
from tidings.stream import EventSourceResponse, shutting_down
from tidings.wire import ServerSentEvent

__all__ = ["Event", "EventSourceResponse", "ServerSentEvent", "shutting_down", "with_ids"]

__version__ = "0.1.0"
