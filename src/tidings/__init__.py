"""Server-sent events for Python web applications."""

from tidings.broker import Broker, Subscription
from tidings.events import Event, with_ids
from tidings.stream import EventSourceResponse, shutting_down
from tidings.wire import ServerSentEvent

__all__ = [
    "Broker",
    "Event",
    "EventSourceResponse",
    "ServerSentEvent",
    "Subscription",
    "shutting_down",
    "with_ids",
]

__version__ = "0.1.0"
