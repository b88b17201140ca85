"""A property of the fast path: whatever clients do, their responses carry all that was published, once and in order.

Clients stop reading and read on, leave and come back with the last id that they were told, while small and large events
are published one by one and at once; in the end the channels are finished, or the broker is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from tests.asgi import PATIENCE, Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import examples_of, position, take
from tidings import Broker, EventSourceResponse
from tidings.broker import DeliveredEvent
from tidings.wire import EventDecoder

CHANNELS = ("a", "b")


@dataclass(frozen=True)
class Publish:
    channel: str
    sizes: list[int]
    at_once: bool


@dataclass(frozen=True)
class Act:
    client: int
    action: Literal["stop reading", "read on", "come back"]


@dataclass(frozen=True)
class Turn:
    """Let the event loop turn so many times."""

    times: int


@dataclass(frozen=True)
class Wish:
    """What a client asks for."""

    channels: tuple[str, ...]
    earliest: bool
    filtered: bool


Published = tuple[str, str, int]
"""The id, the channel, the number."""

Step = Publish | Act | Turn

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.builds(
        Publish,
        st.sampled_from(CHANNELS),
        st.lists(st.sampled_from([0, 0, 8_000, 8_000, 8_000, 70_000]), min_size=1, max_size=20),
        st.booleans(),
    )
    | st.builds(Act, st.integers(0, 2), st.sampled_from(["stop reading", "stop reading", "read on", "come back"]))
    | st.builds(Turn, st.integers(1, 8)),
    max_size=25,
)
wishes = st.lists(
    st.builds(Wish, st.sampled_from([("a",), ("b",), ("a", "b")]), st.booleans(), st.booleans()),
    min_size=3,
    max_size=3,
)


def even(event: DeliveredEvent) -> bool:
    return bool(event.data["number"] % 2 == 0)


class Client:
    """One that is connected, and was before."""

    def __init__(self, broker: Broker, wish: Wish) -> None:
        self._broker = broker
        self.wish = wish
        self.last_event_id = "earliest" if wish.earliest else ""
        self.received: list[tuple[str, int]] = []

    async def connect(self) -> None:
        subscription = self._broker.subscribe(
            *self.wish.channels, last_event_id=self.last_event_id, where=even if self.wish.filtered else None
        )
        self.connection = Connection(EventSourceResponse(subscription, ping_interval=0.01, send_timeout=None))
        await self.connection.__aenter__()
        await self.connection.until(lambda: self.connection.messages)

    async def do(self, action: str) -> None:
        match action:
            case "stop reading":
                self.connection.stop_reading()
            case "read on":
                self.connection.read_on()
            case _:
                await self.come_back()

    async def come_back(self) -> None:
        decoder = EventDecoder()
        decoder.feed(self.connection.body)
        if decoder.last_event_id:  # else it is not known what it has seen
            self.connection.disconnect()
            self.connection.read_on()
            await self.end()
            await self.connect()

    def wanted(self, published: list[Published]) -> list[tuple[str, int]]:
        """What it is to receive, in order: from its first connection on, as nothing was published before."""
        return [
            (id, number)
            for id, channel, number in sorted(published, key=lambda event: position(event[0]))
            if channel in self.wish.channels and not (self.wish.filtered and number % 2)
        ]

    async def is_up_to_date(self, published: list[Published]) -> None:
        """Wait until it has received all, though nothing else happens."""
        missing = len(self.wanted(published)) - len(self.received)
        await self.connection.until(lambda: self.connection.body.count(b"data: ") == missing)

    async def end(self) -> None:
        """The response ends; take note of what it carried."""
        await self.connection.end()
        decoder = EventDecoder()
        self.received += [(event.id, event.json()["number"]) for event in decoder.feed(self.connection.body)]
        self.last_event_id = decoder.last_event_id or self.last_event_id


async def run(broker: Broker, clients: list[Client], steps: list[Step], published: list[Published]) -> None:
    numbers = count()

    async def publish(channel: str, size: int) -> None:
        number = next(numbers)
        data: dict[str, Any] = {"number": number, "cargo": "x" * size}
        published.append((await broker.publish(channel, data), channel, number))

    for step in steps:
        match step:
            case Publish(channel, sizes, at_once=True):
                await asyncio.gather(*(publish(channel, size) for size in sizes))
            case Publish(channel, sizes):
                for size in sizes:
                    await publish(channel, size)
            case Turn(times):
                for _ in range(times):
                    await asyncio.sleep(0)
            case Act(client, action):
                await clients[client].do(action)


async def scenario(log: Log, wishes: list[Wish], steps: list[Step], *, closed: bool) -> None:
    broker = Broker(**log, history=None)
    published: list[Published] = []
    async with asyncio.timeout(PATIENCE):
        async with broker:
            clients = [Client(broker, wish) for wish in wishes]
            for client in clients:
                await client.connect()
            await run(broker, clients, steps, published)
            for client in clients:
                client.connection.read_on()
            if not closed:
                for client in clients:
                    await client.is_up_to_date(published)
                for channel in CHANNELS:
                    await broker.finish(channel)
                for client in clients:
                    await client.end()
                    assert client.connection.complete
        async with broker:
            for client in clients:
                if closed:
                    await client.end()
                    assert client.connection.complete
                missing = await missed(broker, client, published)
                assert closed or not missing


async def missed(broker: Broker, client: Client, published: list[Published]) -> list[tuple[str, int]]:
    """What a client has not received; whether it is given just that when it comes back is checked."""
    wish = client.wish
    expected = client.wanted(published)
    missing = expected[len(client.received) :]
    assert client.received == expected[: len(client.received)]
    if missing and client.last_event_id:
        subscription = broker.subscribe(
            *wish.channels, last_event_id=client.last_event_id, where=even if wish.filtered else None
        )
        events = await take(subscription, len(missing))
        assert [(event.id, event.data["number"]) for event in events] == missing
    return missing


def test_responses_carry_all_until_their_channels_are_finished(new_log: Callable[[], Log]) -> None:
    @examples_of(60)
    @given(wishes, steps)
    def check_all(wishes: list[Wish], steps: list[Step]) -> None:
        asyncio.run(scenario(new_log(), wishes, steps, closed=False))

    check_all()


def test_responses_that_end_when_the_broker_is_closed_say_where_to_go_on(new_log: Callable[[], Log]) -> None:
    @examples_of(40)
    @given(wishes, steps)
    def check_all(wishes: list[Wish], steps: list[Step]) -> None:
        asyncio.run(scenario(new_log(), wishes, steps, closed=True))

    check_all()
