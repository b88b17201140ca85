"""Answers written in the background by two servers on one log: readers come to either, and the servers come and go."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.broker.redis_server import RedisServer
from tests.servers.conftest import Serve
from tests.servers.servers import RawClient, Server, free_port
from tests.servers.test_channels import ask, last_id
from tests.servers.test_redis_servers import Balancer
from tidings.client import AsyncEventSource
from tidings.wire import ReceivedEvent

GRACE = 15
"""Seconds that a server waits for its answers: much longer than one takes, also on a busy machine."""

URL = "http://balancer/answers"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a log."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'answers.db'}"
    else:
        with RedisServer(tmp_path / "redis") as redis:
            yield redis.url


class Servers:
    """Two of them."""

    def __init__(self, serve: Serve, url: str, grace: float = GRACE) -> None:
        self._serve = partial(serve, "uvicorn", "tests.servers.background_apps:app", BROKER=url, GRACE=str(grace))
        self.two = [self._serve(port=free_port()) for _ in range(2)]

    def restart(self, number: int) -> None:
        server = self.two[number]
        assert server.terminate(GRACE + 10) < GRACE
        check_end(server)
        self.two[number] = self._serve(port=server.port)


def check_end(server: Server) -> None:
    assert server.process.returncode in {0, -signal.SIGTERM}
    assert "Traceback" not in server.log, server.log


def read(server: Server, channel: str, last_event_id: str = "") -> RawClient:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    return server.get(f"/answers/{channel}", headers=headers).read_head()


def shown(events: list[ReceivedEvent]) -> list[Any]:
    return [event.json() if event.event == "message" else (event.event, event.json()) for event in events]


# -- a page that is reloaded ------------------------------------------------------------------------------------------


def test_who_reloads_comes_to_the_other_server_and_sees_each_token_once(url: str, serve: Serve) -> None:
    servers = Servers(serve, url).two
    ask(servers[0], "/answers/chat?tokens=60&seconds=1.5")
    with read(servers[1], "chat") as follower:
        seen: list[ReceivedEvent] = []
        position = ""
        for number, server in zip(range(6), cycle(servers), strict=False):
            with read(server, "chat", position) as page:
                while len(page.events) <= 2 * number and page.read_some():
                    pass
                seen += page.events
                position = last_id(page) or position
        with read(servers[1], "chat", position) as page:
            assert page.read_all().clean
            seen += page.events
            position = last_id(page) or position
        assert shown(seen) == list(range(60))
        assert follower.read_all().clean
        assert follower.events == seen
    for server in servers:
        assert ask(server, "/answers/chat/state", "GET") == "finished"
        for last in (seen[-1].id, position):  # that of the last token, and what the stream ended with
            with read(server, "chat", last) as page:
                assert page.status == 204
        with read(server, "chat") as page:  # it can be read again
            assert page.read_all().events == seen


def test_another_server_stops_an_answer(url: str, serve: Serve) -> None:
    one, other = Servers(serve, url).two
    ask(one, "/answers/chat?tokens=6000&seconds=60")
    with one.get("/answers/chat?tokens=1&seconds=1", "POST").read_head() as refused:
        assert refused.status == 409
    with read(one, "chat") as client, read(other, "chat") as follower:
        follower.read_until(b"data: 20\n")
        assert ask(other, "/answers/chat/stop") is True
        assert one.journal == ["left chat"]
        for each in (client, follower):
            assert each.read_all().clean
            tokens = shown(each.events)
            assert tokens == [*range(len(tokens) - 1), ("stopped", {})]
        with read(one, "chat", last_id(follower)) as again:
            assert again.status == 204
    assert ask(one, "/answers/chat/state", "GET") == "stopped"


# -- servers that stop ------------------------------------------------------------------------------------------------


def test_an_answer_that_takes_longer_than_the_grace_is_aborted(url: str, serve: Serve) -> None:
    one, other = Servers(serve, url, grace=1).two
    ask(one, "/answers/long?tokens=6000&seconds=60")
    ask(one, "/answers/short?tokens=20&seconds=0.5")
    with read(other, "long") as client:
        client.read_until(b"data: 20\n")
        assert one.terminate() > 0.9
        check_end(one)
        assert client.read_all().clean
        tokens = shown(client.events)
        assert tokens == [*range(len(tokens) - 1), ("aborted", {"reason": "shutdown"})]
        assert len(tokens) > 50
        with read(other, "long", last_id(client)) as again:
            assert again.status == 204
    assert sorted(one.journal) == ["left long", "left short"]
    assert ask(other, "/answers/long/state", "GET") == "aborted"
    with read(other, "short") as client:
        assert shown(client.read_all().events) == list(range(20))
    assert ask(other, "/answers/short/state", "GET") == "finished"
    ask(other, "/answers/long?tokens=1&seconds=0")
    with read(other, "long", last_id(again)) as client:
        assert client.status == 200


class Answer:
    """An answer that some readers follow, and which server writes it."""

    def __init__(self, client: httpx2.AsyncClient, channel: str, chance: random.Random) -> None:
        self.channel = channel
        self.writer: int | None = None  # the process; None if the start failed
        self.tokens: list[list[Any]] = []  # what each reader has seen
        self.reconnects = 0
        self._client = client
        self._chance = chance

    async def run(self, tokens: int) -> None:
        params = {"tokens": tokens, "seconds": self._chance.uniform(1, 2)}
        try:
            response = await self._client.post(f"{URL}/{self.channel}", params=params, timeout=20)
        except httpx2.TransportError:
            return  # it may run or not
        assert response.status_code in {200, 503}, response.text
        if response.status_code == 200:
            self.writer = response.json()
            await asyncio.gather(*(self._follow(tokens) for _ in range(2)))

    def is_begun(self, most: float) -> bool:
        """Whether some tokens of it have come, and fewer than these."""
        return any(0 < len(tokens) < most for tokens in self.tokens)

    async def _follow(self, tokens: int) -> None:
        """Read it, with a reload in the middle."""
        seen: list[ReceivedEvent] = []
        mine: list[Any] = []
        self.tokens.append(mine)
        reload_at = self._chance.randrange(tokens)
        while True:
            async with self._source(seen[-1].id if seen else "earliest") as source:
                async for event in source:
                    seen.append(event)
                    mine += shown([event])
                    if len(seen) == reload_at:
                        break
                else:
                    return

    def _source(self, last_event_id: str) -> AsyncEventSource:
        return AsyncEventSource(
            f"{URL}/{self.channel}",
            last_event_id=last_event_id,
            client=self._client,
            retry=0.005,
            max_attempts=None,
            on_reconnect=self._on_reconnect,
        )

    def _on_reconnect(self, _error: Exception | None, _delay: float) -> None:
        self.reconnects += 1


async def restart_in_turn(servers: Servers, tokens: int) -> list[Answer]:
    """Have answers started all the time while one server and then the other is restarted."""
    chance = random.Random(1)
    transport = Balancer([server.port for server in servers.two], chance)
    answers: list[Answer] = []
    enough = asyncio.Event()

    async def load(client: httpx2.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        for number in count():
            answer = Answer(client, f"answer-{number}", chance)
            answers.append(answer)
            tasks.create_task(answer.run(tokens))
            await asyncio.sleep(0.2)
            if enough.is_set():
                return

    async with httpx2.AsyncClient(transport=transport) as client, asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        tasks.create_task(load(client, tasks))
        for number, server in enumerate(servers.two):
            await asyncio.sleep(1)
            await until_writing(answers, server, tokens)
            await asyncio.to_thread(servers.restart, number)
        for server in servers.two:
            await until_writing(answers, server, tokens)
        enough.set()
    return answers


async def until_writing(answers: list[Answer], server: Server, tokens: int) -> None:
    """Wait until a server is in the middle of some answers."""
    process = server.process.pid
    async with asyncio.timeout(20):
        while sum(answer.writer == process and answer.is_begun(tokens / 2) for answer in answers) < 2:
            await asyncio.sleep(0.01)


def test_a_rolling_restart_under_load_loses_no_token(url: str, serve: Serve) -> None:
    tokens = 40
    servers = Servers(serve, url)
    answers = asyncio.run(restart_in_turn(servers, tokens))
    started = [answer for answer in answers if answer.writer is not None]
    assert len(started) > len(answers) * 0.8
    assert len({answer.writer for answer in started}) == 4
    for answer in started:
        assert answer.tokens == [list(range(tokens))] * 2, answer.channel
        assert ask(servers.two[0], f"/answers/{answer.channel}/state", "GET") == "finished"
    print(f"{len(started)} answers, {sum(answer.reconnects for answer in started)} reconnects")
