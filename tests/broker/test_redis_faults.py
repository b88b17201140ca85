"""Redis at its worst, under subscribers that account for every event.

Whatever happens to the server or the link to it: what was acknowledged arrives, nothing arrives twice or out of order,
and who publishes while the server is away is told so in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from tests.asgi import Connection
from tests.broker.contract.reading import data, fill, ids, position, sequence, take
from tests.broker.redis_server import RedisServer
from tests.servers.servers import free_port
from tidings import Broker, EventSourceResponse
from tidings.broker import DeliveredEvent
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio

TIMEOUT = 1.0
"""Seconds after which the brokers of these tests give a publish up."""

LATER = 2.0
"""Seconds that it may take longer, on a machine that has much else to do."""

PATIENCE = 20.0
"""Seconds after which something that must happen counts as not happening."""

CHANNELS = ("a", "b", "quiet")


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until this is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.005)


class Stored(NamedTuple):
    """An event, as somebody was given it."""

    id: str
    channel: str
    data: str


class Reader:
    """A subscriber, and what it was given."""

    def __init__(self, broker: Broker, channels: tuple[str, ...], start: str) -> None:
        self.channels = channels
        self.events: list[DeliveredEvent] = []
        self.task = asyncio.create_task(self._read(broker.subscribe(*channels, last_event_id=start)))

    async def _read(self, subscription: AsyncIterator[DeliveredEvent]) -> None:
        async for event in subscription:
            self.events.append(event)

    def has(self, id: str) -> bool:
        assert not self.task.done(), f"the subscription to {self.channels} ended: {self.task}"
        return bool(self.events) and self.events[-1].id == id

    @property
    def given(self) -> list[Stored]:
        """All but the resets."""
        return [Stored(event.id, event.channel, event.data) for event in self.events if not event.control]

    @property
    def resets(self) -> list[DeliveredEvent]:
        return [event for event in self.events if event.control]


class Publisher:
    """Publishes into a channel, one event after the other."""

    def __init__(self, broker: Broker, channel: str, name: str) -> None:
        self.acknowledged: list[Stored] = []
        self.refused: dict[str, str] = {}
        """What the errors said, by the events."""
        self.longest = 0.0
        """Seconds that it took until an error."""
        self.enough = False
        self.task = asyncio.create_task(self._publish(broker, channel, name))

    async def _publish(self, broker: Broker, channel: str, name: str) -> None:
        for number in itertools.count():
            data = f"{name} {number}"
            begin = time.monotonic()
            try:
                id = await broker.publish(channel, data)
            except PublishError as error:
                self.refused[data] = str(error)
                self.longest = max(self.longest, time.monotonic() - begin)
            else:
                self.acknowledged.append(Stored(id, channel, data))
            if self.enough:
                return
            await asyncio.sleep(0.004)


class Scene:
    """Two brokers on one log, with 24 subscribers and 5 publishers that go on until the end.

    Args:
        url: of the server.
        timeout: seconds after which a publish is given up.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self.url = url
        self._timeout = timeout
        self._stack = AsyncExitStack()
        self.readers: list[Reader] = []
        self.publishers: list[Publisher] = []

    async def __aenter__(self) -> Self:
        try:
            one, other = self.brokers = [await self._stack.enter_async_context(self._broker()) for _ in range(2)]
            self.start = start = await one.publish("a", "start")
            self.readers += [Reader(one, ("a",), start) for _ in range(8)]
            self.readers += [Reader(one, ("a", "b"), start) for _ in range(6)]
            self.readers += [Reader(other, ("b",), start) for _ in range(5)]
            self.readers += [Reader(other, ("quiet", "b", "a"), start) for _ in range(3)]
            self.readers += [Reader(broker, ("quiet",), start) for broker in (one, other)]
            self.publishers += [Publisher(one, channel, f"one {n}") for n, channel in enumerate("aab")]
            self.publishers += [Publisher(other, channel, f"other {n}") for n, channel in enumerate("ab")]
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks = [member.task for member in (*self.readers, *self.publishers)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()

    def _broker(self) -> Broker:
        return Broker(self.url, history=100_000, publish_timeout=self._timeout)

    async def flows(self, count: int = 25) -> None:
        """Every publisher stores so many events more."""
        wanted = [len(publisher.acknowledged) + count for publisher in self.publishers]
        await until(
            lambda: all(len(p.acknowledged) >= n for p, n in zip(self.publishers, wanted, strict=True)),
            "the publishers go on",
        )

    async def fails(self) -> None:
        """Every publisher is told that it can't publish."""
        wanted = [len(publisher.refused) + 1 for publisher in self.publishers]
        await until(
            lambda: all(len(p.refused) >= n for p, n in zip(self.publishers, wanted, strict=True)),
            "the publishers are told",
        )

    async def end(self, *, resets: int = 0, passed_by: bool = False) -> list[Stored]:
        """Stop publishing, wait for what is on its way, and check that all is well; returns what the log holds.

        Args:
            resets: how many each reader has been told of, because the log was lost.
            passed_by: whether those of several channels may have been told that they passed something by.
        """
        await self.flows()
        for publisher in self.publishers:
            publisher.enough = True
        await asyncio.gather(*(publisher.task for publisher in self.publishers))
        last = {channel: await self.brokers[0].publish(channel, "the end") for channel in CHANNELS}
        for reader in self.readers:
            newest = max((last[channel] for channel in reader.channels), key=sequence)
            await until(lambda reader=reader, newest=newest: reader.has(newest), f"{newest} reaches {reader.channels}")
        stored = await self._stored(last["quiet"])
        self._check_publishers(stored)
        for reader in self.readers:
            if passed_by and len(reader.channels) > 1:
                self._check_rewound(reader, stored)
            else:
                assert len(reader.resets) == resets, reader.resets
                self._check_reader(reader, stored)
        self._check_ids(stored)
        return stored

    async def _stored(self, last: str) -> list[Stored]:
        """All that the log holds, as somebody sees it who comes now."""
        stored: list[Stored] = []
        async with self._broker() as broker, broker.subscribe(*CHANNELS, last_event_id="earliest") as subscription:
            while not stored or stored[-1].id != last:
                (event,) = await take(subscription, 1)
                assert not event.control
                stored.append(Stored(event.id, event.channel, event.data))
        return stored

    def _check_publishers(self, stored: list[Stored]) -> None:
        epoch = position(stored[-1].id)[0]
        present = {event.data for event in stored}
        assert len(present) == len(stored) - 2, "an event is stored twice"  # "the end" is, once in each channel
        for publisher in self.publishers:
            acknowledged = [event for event in publisher.acknowledged if position(event.id)[0] == epoch]
            assert set(acknowledged) <= set(stored), "what was acknowledged is lost"
            for event in stored:
                if event.data in publisher.refused:
                    assert "may or may not be stored" in publisher.refused[event.data], event
            assert publisher.longest < self._timeout + LATER
            assert is_rising(sequence(event.id) for event in acknowledged)
        known = {data for p in self.publishers for data in (*p.refused, *(event.data for event in p.acknowledged))}
        assert present - known == {"start", "the end"} or present - known == {"the end"}

    def _check_reader(self, reader: Reader, stored: list[Stored]) -> None:
        expected = [event for event in stored if event.channel in reader.channels]
        if not reader.resets:
            assert reader.given == [event for event in expected if event.id != self.start]
            return
        reset = reader.events.index(reader.resets[0])
        before, after = reader.given[:reset], reader.given[reset:]
        assert after == expected
        assert is_rising(sequence(event.id) for event in before)
        assert sequence(reader.resets[0].id) < sequence(expected[0].id)
        said = reader.resets[0].data
        assert (said["reason"], said["requested"]) == ("epoch", before[-1].id if before else self.start)
        # Who is told before there is anything new in its channels is told of nothing.
        assert said["oldest"] in (None, expected[0].id)

    def _check_rewound(self, reader: Reader, stored: list[Stored]) -> None:
        """With each reset it goes back to before what it missed."""
        given: list[Stored] = []
        for event in reader.events:
            if event.control:
                assert (event.data["reason"], event.data["requested"]) == ("trimmed", given[-1].id)
                given = [each for each in given if sequence(each.id) <= sequence(event.id)]
            else:
                given.append(Stored(event.id, event.channel, event.data))
        assert given == [event for event in stored if event.channel in reader.channels and event.id != self.start]

    def _check_ids(self, stored: list[Stored]) -> None:
        """No id stands for two events."""
        events: dict[str, Stored] = {}
        seen: Iterable[list[Stored]] = (stored, *(p.acknowledged for p in self.publishers))
        for event in itertools.chain(*seen, *(reader.given for reader in self.readers)):
            assert events.setdefault(event.id, event) == event


def is_rising(numbers: Iterable[int]) -> bool:
    return all(one < other for one, other in itertools.pairwise(numbers))


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for which acknowledged means stored."""
    with RedisServer(tmp_path / "redis", appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


# -- the server goes away and comes back ------------------------------------------------------------------------------


async def test_a_server_that_is_killed_and_started_again(durable: RedisServer) -> None:
    async with Scene(durable.url) as scene:
        for _ in range(3):
            await scene.flows()
            durable.kill()
            await scene.fails()
            await asyncio.to_thread(durable.start)
        await scene.end()
    epochs = {position(event.id)[0] for publisher in scene.publishers for event in publisher.acknowledged}
    assert len(epochs) == 1


async def test_a_server_that_is_started_again_at_once_costs_nothing_but_what_was_on_its_way(
    durable: RedisServer,
) -> None:
    async with Scene(durable.url, timeout=PATIENCE) as scene:
        for _ in range(3):
            await scene.flows()
            durable.kill()
            await asyncio.to_thread(durable.start)
        await scene.end()
    for publisher in scene.publishers:
        assert len(publisher.refused) <= 3
        for error in publisher.refused.values():
            assert "may or may not be stored" in error


async def test_a_server_that_takes_long_to_load_its_file(durable: RedisServer) -> None:
    durable.settings |= {"key_load_delay": 1_000, "loading_process_events_interval_bytes": 1024}
    async with Scene(durable.url) as scene:
        await scene.flows()
        durable.client.mset({f"filler {number}": "x" * 100 for number in range(1_000)})
        durable.client.bgrewriteaof()
        await until(lambda: not durable.client.info("persistence")["aof_rewrite_in_progress"], "the file is rewritten")
        await scene.flows()
        durable.kill()
        await asyncio.to_thread(durable.start)
        await scene.end()
    said = [error for publisher in scene.publishers for error in publisher.refused.values()]
    assert any("loading" in error for error in said), said[-3:]


async def test_a_server_that_stops_for_three_seconds(server: RedisServer) -> None:
    async with Scene(server.url) as scene:
        await scene.flows()
        with server.stopped():
            stopped = time.monotonic()
            await scene.fails()
            await asyncio.sleep(stopped + 3 - time.monotonic())
        await scene.end()
    for publisher in scene.publishers:
        assert len(publisher.refused) >= 2


async def test_readers_that_are_far_behind_when_the_server_is_killed(durable: RedisServer) -> None:
    async with Broker(durable.url, history=10_000, publish_timeout=TIMEOUT) as broker:
        start = await broker.publish("a", "start")
        behind = [broker.subscribe("a", "b", last_event_id=start) for _ in range(20)]
        first = await broker.publish("a", 0)
        for subscription in behind:
            assert ids(await take(subscription, 1)) == [first]
        published = [
            id
            for _ in range(20)
            for id in await asyncio.gather(*(broker.publish("ab"[n % 2], "x" * 100) for n in range(240)))
        ]  # more than this process remembers, also with a page that was being read when it began
        durable.kill()
        reading = [asyncio.create_task(take(subscription, len(published))) for subscription in behind]
        done, _ = await asyncio.wait(reading, timeout=0.3)
        assert not done, done.pop()
        await asyncio.to_thread(durable.start)
        for task in reading:
            assert ids(await task) == sorted(published, key=sequence)


async def test_connections_for_notifications_that_are_closed_again_and_again(server: RedisServer) -> None:
    async with Scene(server.url, timeout=10) as scene:
        closed = 0
        while closed < 25:
            await scene.flows(1)
            closed += server.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(random.uniform(0, 0.1))
        await scene.end()
        assert not any(publisher.refused for publisher in scene.publishers)


async def test_all_connections_that_are_closed_again_and_again(server: RedisServer) -> None:
    async with Scene(server.url) as scene:
        for _ in range(15):
            await scene.flows(1)
            for kind in ("normal", "pubsub"):
                server.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            await asyncio.sleep(random.uniform(0, 0.1))
        await scene.end()


# -- the log is lost, or a part of it ---------------------------------------------------------------------------------


async def test_a_log_that_is_flushed(server: RedisServer) -> None:
    async with Scene(server.url) as scene:
        await scene.flows()
        server.client.flushall()
        stored = await scene.end(resets=1)
    assert position(stored[-1].id)[0] != position(scene.start)[0]
    assert sequence(stored[0].id) == 1


@pytest.mark.parametrize("lost", ["log", "newest"])
async def test_a_log_whose_channels_are_left(server: RedisServer, lost: str) -> None:
    async with Scene(server.url, timeout=PATIENCE) as scene:
        await scene.flows()
        if lost == "log":
            server.client.delete("{tidings}:log")
        else:
            server.client.hset("{tidings}:log", "newest", 3)
        await scene.end(resets=1)
        for publisher in scene.publishers:
            assert not publisher.refused


async def test_a_failover_that_loses_the_newest_events(durable: RedisServer, tmp_path: Path) -> None:
    async with Scene(durable.url) as scene:
        await scene.flows()
        durable.kill()
        shutil.copytree(durable.folder / "appendonlydir", tmp_path / "copy")
        await asyncio.to_thread(durable.start)
        await scene.flows()
        durable.kill()
        restore(durable, tmp_path / "copy")
        await asyncio.to_thread(durable.start)
        stored = await scene.end(resets=1)
    assert position(stored[-1].id)[0] != position(scene.start)[0]


@pytest.mark.parametrize("first", ["its own log", "another log", "its own log, flushed before"])
async def test_after_a_failover_no_id_stands_for_two_events_whoever_is_first_to_publish(
    durable: RedisServer, tmp_path: Path, first: str
) -> None:
    async with Broker(durable.url) as unknowing, Broker(durable.url, namespace="another") as another:
        async with Broker(durable.url) as knowing:
            if first.endswith("flushed before"):
                durable.client.flushall()
            await fill(unknowing, "elsewhere", range(2))
            await fill(knowing, "news", range(10))
            durable.kill()
            shutil.copytree(durable.folder / "appendonlydir", tmp_path / "copy")
            await asyncio.to_thread(durable.start)
            lost = await until_published(knowing, "news", 3)
        durable.kill()
        restore(durable, tmp_path / "copy")
        await asyncio.to_thread(durable.start)
        if first == "another log":
            await until_published(another, "news", 1)
        published = await until_published(unknowing, "news", 5)
        assert not set(published) & set(lost)
        for seen in lost:
            events = await take(unknowing.subscribe("news", last_event_id=seen), 5)
            assert events[0].control or ids(events) == published


async def until_published(broker: Broker, channel: str, count: int) -> list[str]:
    """Publish so many events through a broker that may not know yet that its connections are lost."""
    published: list[str] = []
    while len(published) < count:
        with contextlib.suppress(PublishError):
            published.append(await broker.publish(channel, len(published)))
    return published


def restore(server: RedisServer, copy: Path) -> None:
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder / "appendonlydir")


# -- the link ---------------------------------------------------------------------------------------------------------


class Link:
    """A TCP proxy in front of a server.

    Attributes:
        to_drop: notifications that are to be dropped.
        dropped: those that were.
        slow: whether what the server says comes late and in small pieces.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.slow = False
        self.to_drop = 0
        self.dropped: list[bytes] = []

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Self]:
        link = cls(port)
        server = await asyncio.start_server(link._connected, "127.0.0.1", 0)
        link.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        try:
            yield link
        finally:
            server.close()
            for task in link._tasks:
                task.cancel()
            await asyncio.gather(*link._tasks, return_exceptions=True)
            await server.wait_closed()

    url: str

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask(reader, to_server))
                tasks.create_task(self._answer(from_server, writer))
        except* (OSError, _LinkClosed):
            pass
        finally:
            for end in (writer, to_server):
                if end is not None:
                    end.close()
            self._tasks.discard(task)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._carry(data, writer)
        raise _LinkClosed

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while more := await reader.read(1 << 16):
            data += more
            start = 0
            while (end := end_of_reply(data, start)) is not None:
                reply, start = data[start:end], end
                if self.to_drop and reply.startswith(b"*3\r\n$7\r\nmessage\r\n"):
                    self.to_drop -= 1
                    self.dropped.append(reply)
                else:
                    await self._carry(reply, writer)
            data = data[start:]
        raise _LinkClosed

    async def _carry(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            size = random.randrange(1, 400) if self.slow else len(data)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if self.slow:
                await asyncio.sleep(random.choice([0, 0, 0, 0.001, 0.01]))


class _LinkClosed(Exception):  # noqa: N818 - it is none
    """One side has gone."""


def end_of_reply(data: bytes, start: int) -> int | None:
    """Where the reply that begins here ends; None if it isn't complete."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = data[start : start + 1], line + 2
    if kind == b"$":
        length = int(data[start + 1 : line])
        end += length + 2 if length >= 0 else 0  # there is a null, too
        return end if end <= len(data) else None
    if kind == b"*":
        for _ in range(int(data[start + 1 : line])):
            element = end_of_reply(data, end)
            if element is None:
                return None
            end = element
    return end


async def test_a_slow_link(server: RedisServer) -> None:
    async with Link.to(server.port) as link, Scene(link.url, timeout=10) as scene:
        await scene.flows()
        link.slow = True
        await scene.flows(15)
        link.slow = False
        await scene.end()
        assert not any(publisher.refused for publisher in scene.publishers)


async def test_one_notification_that_is_lost(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with Link.to(server.port) as link, Scene(link.url, timeout=10) as scene:
        for number in range(1, 6):
            await scene.flows()
            link.to_drop = 1
            await until(lambda number=number: len(link.dropped) == number, "a notification is dropped")
        await scene.end(passed_by=True)
    assert len([message for message in caplog.messages if "a notification is lost" in message]) == 5


# -- no memory --------------------------------------------------------------------------------------------------------


async def test_a_server_without_memory_left(server: RedisServer) -> None:
    async with Scene(server.url) as scene:
        await scene.flows()
        server.client.set("filler", b"x" * (8 << 20))
        server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] - (1 << 20))
        await scene.fails()
        # Who comes now is given all that is there.
        newest = max((p.acknowledged[-1] for p in scene.publishers), key=lambda event: sequence(event.id)).id
        async with scene.brokers[1].subscribe("a", "b", last_event_id=scene.start) as subscription:
            while (await take(subscription, 1))[0].id != newest:
                pass
        server.client.delete("filler")
        await scene.end()
    for publisher in scene.publishers:
        for error in publisher.refused.values():
            assert re.search("(?i)memory", error)
            assert "is not stored" in error


async def test_a_server_without_memory_left_that_is_started_again(durable: RedisServer) -> None:
    async with Scene(durable.url) as scene:
        await scene.flows()
        durable.client.set("filler", b"x" * (8 << 20))
        durable.settings["maxmemory"] = "6mb"
        durable.kill()
        await asyncio.to_thread(durable.start)
        await scene.fails()
        # Those who read go on, and one who comes now begins; also in a process that comes now.
        async with Broker(durable.url) as broker:
            for each in (broker, *scene.brokers):
                async with each.subscribe("a", "b", last_event_id=scene.start) as subscription:
                    stored = ids(await take(subscription, 100))
                acknowledged = {event.id for publisher in scene.publishers for event in publisher.acknowledged}
                assert stored == sorted(acknowledged, key=sequence)[:100]
        durable.client.delete("filler")
        await scene.end()
    for publisher in scene.publishers:
        assert any("OutOfMemoryError" in error for error in publisher.refused.values())


# -- the server is away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", ["", "user:secret@", ":secret@"])
async def test_to_open_a_broker_whose_server_is_away(credentials: str) -> None:
    port = free_port()
    begin = time.monotonic()
    with pytest.raises(StorageError) as raised:
        async with Broker(f"redis://{credentials}127.0.0.1:{port}/0", publish_timeout=TIMEOUT):
            pass
    assert time.monotonic() - begin < TIMEOUT + LATER
    assert f"redis://127.0.0.1:{port}/0" in str(raised.value)
    assert re.search("refused|Connect call failed", str(raised.value))
    assert "secret" not in repr(raised.value)


async def test_to_open_a_broker_whose_server_does_not_answer(server: RedisServer) -> None:
    broker = Broker(server.url, publish_timeout=TIMEOUT)
    with server.stopped():
        begin = time.monotonic()
        with pytest.raises(StorageError, match=r"within 1\.0 s|[Tt]imeout") as raised:
            async with broker:
                pass
        assert time.monotonic() - begin < TIMEOUT + LATER
    assert server.url in str(raised.value)
    async with broker:  # it may be tried again
        await broker.publish("news", 1)


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_subscriptions_that_are_opened_while_the_server_is_away(durable: RedisServer, how: str) -> None:
    async with Broker(durable.url, publish_timeout=TIMEOUT) as broker:
        start = await broker.publish("news", "start")
        open_already = Connection(EventSourceResponse(broker.subscribe("news", last_event_id=start)))
        async with open_already:
            await broker.publish("news", "before")
            await open_already.until(b"before")
            if how == "killed":
                durable.kill()
            else:
                durable.stop()
            begin = time.monotonic()
            await asyncio.gather(
                *(
                    is_told_to_come_again(broker, last_event_id=id)
                    for id in (None, start, "earliest", "x")
                    for _ in "12345"
                )
            )
            assert time.monotonic() - begin < TIMEOUT + LATER
            with pytest.raises(StorageError):
                await anext(broker.subscribe("news", last_event_id=start))
            if how == "killed":
                await asyncio.to_thread(durable.start)
            else:
                durable.go_on()
            while True:
                with contextlib.suppress(PublishError):
                    await broker.publish("news", "after")
                    break
            await open_already.until(b"after")
            assert data(await take(broker.subscribe("news", last_event_id=start), 2)) == ["before", "after"]


async def is_told_to_come_again(broker: Broker, last_event_id: str | None) -> None:
    async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id))) as client:
        await client.end()
    assert client.status == 503
    assert client.headers["retry-after"] == "5"
