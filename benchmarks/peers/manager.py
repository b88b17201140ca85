"""The connection manager of the tutorials: a queue for each connection, and a publish puts into each of them."""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class ConnectionManager(Generic[T]):
    def __init__(self) -> None:
        self._queues: dict[str, set[asyncio.Queue[T]]] = {}

    def connect(self, channel: str) -> asyncio.Queue[T]:
        queue: asyncio.Queue[T] = asyncio.Queue()
        self._queues.setdefault(channel, set()).add(queue)
        return queue

    def disconnect(self, channel: str, queue: asyncio.Queue[T]) -> None:
        self._queues[channel].remove(queue)

    def publish(self, channel: str, message: T) -> None:
        for queue in self._queues.get(channel, ()):
            queue.put_nowait(message)
