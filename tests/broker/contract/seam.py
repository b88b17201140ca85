"""A property: however publishers and subscribers interleave, nobody loses an event, has one twice, or out of order.

Subscribers stop after some events, in an orderly way or by a cancellation, and come back with the id that they saw
last: so each goes over the seam between history and what is new again and again. Channels are finished and opened
again meanwhile, which ends some of the sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from tests.asgi import PATIENCE
from tests.broker.conftest import Log
from tests.broker.contract.reading import examples_of, sequence
from tidings import Broker, Subscription
from tidings.broker import DeliveredEvent

CHANNELS = ("a", "b", "c")
END = "end"

channels = st.sampled_from(CHANNELS)
brokers = st.integers(0, 1)
"""Which of two brokers: if a log can have but one, both are the same."""


@dataclass(frozen=True)
class Publisher:
    broker: int
    bursts: list[tuple[int, list[str], str | None]]
    """How many turns of the loop to wait, then where to publish, at once; and what to finish behind it."""


@dataclass(frozen=True)
class Session:
    broker: int
    turns: int
    """Of the loop, before it begins."""
    events: int
    """After which it stops."""
    cancelled: bool
    """Whether it is cancelled while it waits for the next event; else it is closed."""


@dataclass(frozen=True)
class Subscriber:
    channels: list[str]
    earliest: bool
    filtered: bool
    sessions: list[Session]


publishers = st.builds(
    Publisher,
    brokers,
    st.lists(
        st.tuples(st.integers(0, 4), st.lists(channels, min_size=1, max_size=6), st.none() | st.none() | channels),
        max_size=6,
    ),
)
subscribers = st.builds(
    Subscriber,
    st.lists(channels, min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.lists(st.builds(Session, brokers, st.integers(0, 4), st.integers(0, 6), st.booleans()), max_size=5),
)


def chosen(data: int | str) -> bool:
    """What a filtered subscriber wants to see."""
    return isinstance(data, str) or data % 2 == 0


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class History:
    """What was published, by channel: the events in the order of their ids."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, int | str]] = []
        self._numbers = count()

    async def run(self, publisher: Publisher, broker: Broker) -> None:
        for turns, burst, finished in publisher.bursts:
            await turn(turns)
            await asyncio.gather(*(self.publish(broker, channel, next(self._numbers)) for channel in burst))
            if finished is not None:
                await broker.finish(finished)

    async def publish(self, broker: Broker, channel: str, data: int | str) -> None:
        self.published.append((await broker.publish(channel, data), channel, data))

    def of(self, names: list[str]) -> list[tuple[str, str, int | str]]:
        return sorted((event for event in self.published if event[1] in names), key=lambda event: sequence(event[0]))


class Reading:
    """A subscriber that comes back until it has seen the end of each of its channels."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._left = set(subscriber.channels)
        self.last = "earliest" if subscriber.earliest else None
        self.seen: list[DeliveredEvent] = []

    @property
    def finished(self) -> bool:
        return not self._left

    async def run(self, brokers: list[Broker]) -> None:
        for session in self._subscriber.sessions:
            await turn(session.turns)
            await self._attend(session, brokers[session.broker])
        while self._left:
            async with self._subscribe(brokers[0]) as subscription:
                await self._read(subscription, 1_000)
            await asyncio.sleep(0.001)

    def _subscribe(self, broker: Broker) -> Subscription:
        where = (lambda event: chosen(event.data)) if self._subscriber.filtered else None
        return broker.subscribe(*self._subscriber.channels, last_event_id=self.last, where=where)

    async def _attend(self, session: Session, broker: Broker) -> None:
        subscription = self._subscribe(broker)
        reading = asyncio.create_task(self._read(subscription, session.events + session.cancelled))
        if session.cancelled:
            await turn(3 * session.events)
        else:
            await asyncio.wait([reading], timeout=0.02)  # it may be that nothing comes any more
        reading.cancel()
        await asyncio.wait([reading])
        await subscription.aclose()
        if not reading.cancelled():
            reading.result()

    async def _read(self, subscription: Subscription, events: int) -> None:
        for _ in range(events):
            if not self._left:
                return
            try:
                event = await anext(subscription)
            except StopAsyncIteration:
                return
            self.seen.append(event)
            self.last = event.id
            if event.data == END:
                self._left.discard(event.channel)


async def scenario(
    new_log: Callable[[], Log], shared: bool, publishers: list[Publisher], subscribers: list[Subscriber]
) -> None:
    log = new_log()
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        brokers = [await stack.enter_async_context(Broker(**log, history=None))]
        brokers.append(await stack.enter_async_context(Broker(**log, history=None)) if shared else brokers[0])
        history = History()
        readings = [Reading(subscriber) for subscriber in subscribers]
        async with asyncio.TaskGroup() as group:
            for reading in readings:
                group.create_task(reading.run(brokers))
            async with asyncio.TaskGroup() as publishing:
                for publisher in publishers:
                    publishing.create_task(history.run(publisher, brokers[publisher.broker]))
            group.create_task(end(history, brokers[1], readings))
    for reading, subscriber in zip(readings, subscribers, strict=True):
        expected = history.of(subscriber.channels)
        if subscriber.filtered:
            expected = [event for event in expected if chosen(event[2])]
        seen = [(event.id, event.channel, event.data) for event in reading.seen]
        assert not any(event.control for event in reading.seen)
        if subscriber.earliest:
            assert seen == expected[: len(seen)]
        else:
            start = expected.index(seen[0])
            assert seen == expected[start : start + len(seen)]


async def end(history: History, broker: Broker, readings: list[Reading]) -> None:
    """Say on every channel that it ends; to who came without an id, for as long as it has seen nothing, again."""
    while True:
        for channel in CHANNELS:
            await history.publish(broker, channel, END)
        if all(reading.finished for reading in readings):
            return
        await asyncio.sleep(0.002)


def check_seam(new_log: Callable[[], Log], *, shared: bool, examples: int) -> None:
    """Run the property."""

    @examples_of(examples)
    @given(st.lists(publishers, min_size=1, max_size=4), st.lists(subscribers, min_size=1, max_size=4))
    def check(publishers: list[Publisher], subscribers: list[Subscriber]) -> None:
        asyncio.run(scenario(new_log, shared, publishers, subscribers))

    check()


def test_nothing_is_lost_or_doubled_or_out_of_order_however_publishers_and_subscribers_interleave(
    new_log: Callable[[], Log],
) -> None:
    check_seam(new_log, shared=False, examples=50)
