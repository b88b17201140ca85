"""Clients of event streams that reconnect and resume (WHATWG HTML §9.2), on httpx2."""

from tidings.client.aio import AsyncEventSource
from tidings.client.sync import EventSource

__all__ = ["AsyncEventSource", "EventSource"]
