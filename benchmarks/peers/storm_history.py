"""The connection manager of the tutorials, with a list in memory of the latest events for those who come back."""

from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from benchmarks.peers.manager import ConnectionManager

# As many as tidings keeps in the same storm.
HISTORY = 20_000

T = TypeVar("T")


class History(Generic[T]):
    def __init__(self) -> None:
        self._manager: ConnectionManager[tuple[int, T]] = ConnectionManager()
        self._events: dict[str, deque[tuple[int, T]]] = {}
        self._sequence = 0

    def publish(self, channel: str, message: T) -> None:
        self._sequence += 1
        event = self._sequence, message
        self._events.setdefault(channel, deque(maxlen=HISTORY)).append(event)
        self._manager.publish(channel, event)

    async def events(self, channel: str, last_event_id: str | None) -> AsyncIterator[tuple[int, T]]:
        """What was missed, and then what comes. The queue is there first, so that nothing is lost in between."""
        queue = self._manager.connect(channel)
        try:
            if last_event_id is not None:
                last = int(last_event_id)
                missed = [event for event in self._events.get(channel, ()) if event[0] > last]
                for event in missed:
                    yield event
                last = missed[-1][0] if missed else last
                while True:
                    event = await queue.get()
                    if event[0] > last:
                        yield event
            while True:
                yield await queue.get()
        finally:
            self._manager.disconnect(channel, queue)
