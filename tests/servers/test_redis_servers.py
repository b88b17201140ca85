"""Two servers on one Redis, behind a balancer: whatever is killed, each client gets all that was acknowledged, once.

With `SECONDS=30` in the environment each test goes on for so long.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx2
import pytest

from tests.broker.redis_server import RedisServer
from tests.client.reading import NO_TLS
from tests.servers.servers import Server, free_port
from tests.servers.test_channels import sequence
from tidings.client import AsyncEventSource
from tidings.wire import ReceivedEvent

CLIENTS = 50
PUBLISHERS = 8
RATE = 200
"""Messages per second, of all publishers."""

FAULTS = 3
"""At the least, however long they take."""

PATIENCE = 45.0
"""Seconds until all clients have all, once nothing is killed any more."""

URL = "http://balancer/news"


class Balancer(httpx2.AsyncHTTPTransport):
    """Sends each request to one of the servers by chance; to the other one if it can't be connected to."""

    def __init__(self, ports: list[int], chance: random.Random) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=PUBLISHERS)
        super().__init__(verify=NO_TLS, limits=limits)
        self._ports = ports
        self._chance = chance

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        first, second = self._chance.sample(self._ports, 2)
        try:
            return await self._send(request, first)
        except httpx2.ConnectError:  # so nothing was sent
            return await self._send(request, second)

    async def _send(self, request: httpx2.Request, port: int) -> httpx2.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=port)
        return await super().handle_async_request(request)


class Reader:
    """Reads the channel from its beginning, and connects again by itself."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.events: list[ReceivedEvent] = []
        self.lost = 0
        """How often it has lost its stream, or found no server."""
        self.opened = asyncio.Event()
        self._source = AsyncEventSource(
            URL,
            last_event_id="earliest",
            client=client,
            retry=0.005,
            max_attempts=None,
            on_open=lambda _response: self.opened.set(),
            on_reconnect=self._on_lost,
        )

    def _on_lost(self, _error: Exception | None, _delay: float) -> None:
        self.lost += 1

    async def read_until(self, text: str) -> None:
        async with self._source as source:
            async for event in source:
                self.events.append(event)
                if event.data == f'"{text}"':
                    return


class Publisher:
    """Posts one message after the other, never the same again."""

    def __init__(self, client: httpx2.AsyncClient, name: str) -> None:
        self._client = client
        self._name = name
        self.attempts = 0
        self.acknowledged: dict[str, str] = {}
        """The texts, by their ids."""

    async def publish(self) -> None:
        text = f"{self._name}-{self.attempts}"
        self.attempts += 1
        try:
            response = await self._client.post(URL, params={"text": text}, timeout=10)
        except httpx2.TransportError:
            return  # it may be stored or not
        assert response.status_code in {200, 503}, response.text
        if response.status_code == 200:
            self.acknowledged[response.json()] = text

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            await asyncio.sleep(due - loop.time())
            await self.publish()
            due += 1 / rate


class Machines:
    """A Redis and two servers on it, each of which is started again when it has ended."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.redis = stack.enter_context(RedisServer(folder / "redis", appendonly="yes", appendfsync="always"))
        self._folder = folder
        self._stack = stack
        self.servers = [self._serve(port) for port in (free_port(), free_port())]

    def _serve(self, port: int) -> Server:
        app = "tests.servers.redis_apps:app"
        return self._stack.enter_context(Server("uvicorn", app, self._folder, port, BROKER=self.redis.url))

    async def kill(self, *numbers: int) -> None:
        """End servers with no chance to do anything more."""
        await asyncio.gather(*(self._end(number, self.servers[number].kill) for number in numbers))
        await self._start(*numbers)

    async def restart(self, number: int) -> None:
        """Ask a server to stop."""
        await self._end(number, self.servers[number].terminate)
        await self._start(number)

    async def kill_redis(self) -> None:
        await asyncio.to_thread(self.redis.kill)
        await asyncio.to_thread(self.redis.start)

    async def kill_redis_and(self, number: int) -> None:
        """Both; the other server has no Redis when clients come to it."""
        await self._end(number, self.servers[number].kill)
        await self.kill_redis()
        await self._start(number)

    async def _end(self, number: int, end: Callable[[], object]) -> None:
        await asyncio.to_thread(end)
        self.check_log(number)

    async def _start(self, *numbers: int) -> None:
        for number in numbers:
            self.servers[number] = await asyncio.to_thread(self._serve, self.servers[number].port)

    def check_log(self, number: int) -> None:
        log = self.servers[number].log
        assert "Traceback" not in log, log


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(tmp_path, stack)


async def go_on(machines: Machines, faults: Iterable[Awaitable[None]], seconds: float, lost: int = 0) -> list[Reader]:
    """Publish and read while one fault follows the other; check what everybody has got in the end.

    Until so many streams are lost it goes on for longer, on a machine where a server takes long to come back.
    """
    loop = asyncio.get_running_loop()
    chance = random.Random(1)
    until = loop.time() + float(os.environ.get("SECONDS", seconds))
    enough = asyncio.Event()
    transport = Balancer([server.port for server in machines.servers], chance)
    async with httpx2.AsyncClient(transport=transport) as client:
        readers = [Reader(client) for _ in range(CLIENTS)]
        publishers = [Publisher(client, f"{number}") for number in range(PUBLISHERS)]
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(reader.read_until("the end")) for reader in readers]
            publishing = [tasks.create_task(publisher.run(RATE / PUBLISHERS, enough)) for publisher in publishers]
            async with asyncio.timeout(PATIENCE):
                for reader in readers:
                    await reader.opened.wait()
            done = 0
            for fault in faults:
                await asyncio.sleep(chance.uniform(0.2, 1.0))
                await fault
                done += 1
                if done >= FAULTS and loop.time() > until and sum(reader.lost for reader in readers) >= lost:
                    break
                assert loop.time() < until + PATIENCE, f"{done} faults"
            enough.set()
            await asyncio.gather(*publishing)
            response = await client.post(URL, params={"text": "the end"}, timeout=10)
            assert response.status_code == 200, response.text
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*reading)
    check(readers, publishers)
    for number in range(2):
        machines.check_log(number)
    acknowledged = sum(len(publisher.acknowledged) for publisher in publishers)
    attempts = sum(publisher.attempts for publisher in publishers)
    print(
        f"{done} faults, {acknowledged} of {attempts} acknowledged, {len(readers[0].events) - 1} stored, "
        f"{sum(reader.lost for reader in readers)} streams lost"
    )
    # Most of them, unless the machine is so busy that what was killed is away most of the time.
    assert acknowledged > attempts / 10
    return readers


def check(readers: list[Reader], publishers: list[Publisher]) -> None:
    """Everybody has the same, in order, each once; and all that was acknowledged is there."""
    seen = {event.id: event.json() for event in readers[0].events}
    order = list(seen)
    assert order == sorted(order, key=sequence)
    assert max(Counter(seen.values()).values()) == 1, "something was stored twice"
    for reader in readers:
        assert [event.id for event in reader.events] == order
        assert {event.event for event in reader.events} == {"news"}, "somebody was reset"
    for publisher in publishers:
        assert publisher.acknowledged.items() <= seen.items()
        assert list(publisher.acknowledged) == [id for id in order if id in publisher.acknowledged]


def test_servers_killed_at_random(machines: Machines) -> None:
    chance = random.Random(2)
    faults = (machines.kill(chance.randrange(2)) for _ in count())
    asyncio.run(go_on(machines, faults, 12, CLIENTS + 1))


def test_servers_restarted_in_turn(machines: Machines) -> None:
    readers = asyncio.run(go_on(machines, (machines.restart(number % 2) for number in count()), 5))
    assert min(reader.lost for reader in readers) > 0


def test_a_redis_that_is_killed_costs_nobody_a_stream(machines: Machines) -> None:
    readers = asyncio.run(go_on(machines, (machines.kill_redis() for _ in count()), 3))
    assert sum(reader.lost for reader in readers) == 0


def test_everything_killed_at_random(machines: Machines) -> None:
    chance = random.Random(3)
    kinds: list[Callable[[], Awaitable[None]]] = [
        lambda: machines.kill(chance.randrange(2)),
        lambda: machines.kill(0, 1),
        machines.kill_redis,
        lambda: machines.kill_redis_and(chance.randrange(2)),
    ]
    asyncio.run(go_on(machines, (chance.choice(kinds)() for _ in count()), 8, CLIENTS + 1))
