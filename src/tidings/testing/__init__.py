"""Reading the streams of an application in its tests: in this process, without a server, without waiting."""

from tidings.testing.lifespan import lifespan
from tidings.testing.opening import open_stream
from tidings.testing.stream import AsyncStream
from tidings.testing.sync import Stream

__all__ = ["AsyncStream", "Stream", "lifespan", "open_stream"]
