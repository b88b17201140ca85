"""The text/event-stream format (WHATWG HTML §9.2), without any input or output."""

from tidings.wire.decoder import EventDecoder, ReceivedEvent
from tidings.wire.encoder import encode
from tidings.wire.event import ServerSentEvent

__all__ = ["EventDecoder", "ReceivedEvent", "ServerSentEvent", "encode"]
