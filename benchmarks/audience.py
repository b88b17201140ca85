"""The receiving end of a channel: many subscribers at once, all of whom get every event.

While the clock runs, bytes are read and kept, and nothing else. A thousand subscribers of the fastest peer get over a
million events a second: read in joined pieces they cost this process a fraction of its processor, taken apart one by
one they would cost it more than it has.
"""

import selectors
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.receive import Stream
from benchmarks.wire import ReceiveError, check_complete

SILENCE_TIMEOUT = 30.0
# Nanoseconds without a byte after the last event, in which what follows it (the end of a chunk, an event too many)
# arrives as well.
LINGER = 20_000_000
# Bytes at the end of what a subscriber has in which its last event is looked for.
TAIL = 512


def last_mark(count: int) -> bytes:
    """What stands in the last of so many events, and in no other."""
    return b'"sequence":%d,' % (count - 1)


@dataclass(frozen=True)
class Hearing:
    """How an audience took in what came."""

    finished: int
    """When the last byte came, on CLOCK_MONOTONIC, in nanoseconds."""
    receiver_share: float
    """Of its processor, that the receiver used from the first byte to the last."""


class Subscriber:
    """What came to one of them, and when."""

    __slots__ = ("chunks", "connected", "stream", "times")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.connected = time.monotonic_ns()
        self.chunks: list[bytes] = []
        self.times: list[int] = []

    def read(self) -> bool:
        """Whether there was something, and not the end."""
        data = self.stream.client.recv(1 << 16)
        if data:
            self.times.append(time.monotonic_ns())
            self.chunks.append(data)
        return bool(data)

    def has(self, mark: bytes) -> bool:
        tail = b""
        for chunk in reversed(self.chunks):
            tail = chunk[-TAIL:] + tail
            if len(tail) >= TAIL:
                break
        return mark in tail

    def take_events(self) -> list[tuple[int, Any]]:
        """What was read is taken apart, each event with the time of the read that completed it."""
        events = [
            (at, event) for at, chunk in zip(self.times, self.chunks, strict=True) for event in self.stream.feed(chunk)
        ]
        self.forget()
        return events

    def take_body(self) -> bytes:
        body = self.stream.body.feed(b"".join(self.chunks))
        self.forget()
        return body

    def forget(self) -> None:
        self.chunks.clear()
        self.times.clear()


class Audience:
    def __init__(self, streams: Iterable[Stream] = ()) -> None:
        self._selector = selectors.DefaultSelector()
        self._subscribers: list[Subscriber] = []
        self._received = 0
        for stream in streams:
            self.add(stream)

    def __len__(self) -> int:
        return len(self._subscribers)

    def add(self, stream: Stream) -> None:
        subscriber = Subscriber(stream)
        self._subscribers.append(subscriber)
        stream.client.setblocking(False)
        self._selector.register(stream.client, selectors.EVENT_READ, subscriber)

    def look(self, last: bytes) -> bool:
        """Read what has come, once; whether anything has. A connection may end after its last event."""
        ready = self._selector.select(0)
        ended = [key for key, _ in ready if not key.data.read()]
        for key in ended:
            if not key.data.has(last):
                raise ReceiveError("a connection ended before the last event")
            self._selector.unregister(key.fileobj)
        if len(ready) == len(ended):
            return False
        self._received = time.monotonic_ns()
        return True

    def hear(self, count: int, pause: float) -> Hearing:
        """Read until all have the last of `count` events.

        It polls, as blocked it would be woken by many writes at the server's expense (see `receive_burst`). With a
        pause of some seconds after each look it finds joined what came meanwhile; without, its own waking up is no
        part of a latency.
        """
        last = last_mark(count)
        waiting = list(self._subscribers)
        started = 0
        used_before = used = 0.0
        silent_since = time.monotonic_ns()
        while True:
            if not used:
                started, used_before = time.monotonic_ns(), time.process_time()
            if self.look(last):
                used = time.process_time()
                silent_since = self._received
            elif not waiting:
                if time.monotonic_ns() - silent_since > LINGER:
                    break
            elif waiting[-1].has(last):
                waiting.pop()
                continue
            elif time.monotonic_ns() - silent_since > SILENCE_TIMEOUT * 1e9:
                late = sum(not subscriber.has(last) for subscriber in waiting)
                raise ReceiveError(f"{late} of {len(self)} subscribers wait for the last event")
            if pause:
                time.sleep(pause)
        share = (used - used_before) * 1e9 / (self._received - started) if used else 0.0
        return Hearing(self._received, share)

    def check(self, count: int) -> list[Any]:
        """That everybody got every event, once, in order; the events.

        Where the text of all events is that of the first subscriber, byte for byte, it has the same events.
        """
        first, *others = self._subscribers
        body = first.take_body()
        before = first.stream.events.unfinished
        events = first.stream.events.feed(body)
        check_complete(events, first.stream.events.unfinished, count)
        for other in others:
            own = other.take_body()
            if own != body or other.stream.events.unfinished != before:
                check_complete(other.stream.events.feed(own), other.stream.events.unfinished, count)
        return events

    def latencies(self, count: int, warm_up: int = 0) -> list[int]:
        """Nanoseconds from when an event was made to its receipt, of each at each subscriber but for the first few;
        all checked."""
        latencies: list[int] = []
        for subscriber in self._subscribers:
            events = subscriber.take_events()
            check_complete([event for _, event in events], subscriber.stream.events.unfinished, count)
            latencies += [at - event["at"] for at, event in events[warm_up:]]
        return latencies

    def first_bytes(self) -> list[int]:
        """Nanoseconds that each waited for the first byte of what it has, from when it was connected."""
        return [subscriber.times[0] - subscriber.connected for subscriber in self._subscribers]

    def close(self) -> None:
        self._selector.close()
