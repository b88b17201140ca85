"""What storages keep of claims: those that have run out are forgotten, the others never."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.broker.redis_server import RedisServer
from tidings import Broker
from tidings.broker import memory
from tidings.broker.memory import MemoryStorage
from tidings.broker.sqlite import claims
from tidings.broker.storage import Retention
from tidings.errors import PublishError

pytestmark = pytest.mark.anyio


class Clock:
    """In place of the module `time`."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


async def test_memory_forgets_what_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    storage = MemoryStorage(Retention(None, None, None))
    for number in range(1_000):
        assert await storage.claim(f"seat {number}", 10 + number % 7)
    clock.now += 12.5
    assert await storage.claim("another", 1)
    assert len(storage._claims) == len(storage._claimed_until) == 1_000 * 4 // 7 + 1
    clock.now -= 3600  # a clock that is set back makes no claim run out
    assert not await storage.claim("another", 1)


async def test_memory_refuses_rather_than_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST_CLAIMS", 3)
    async with Broker() as broker:
        for seat in ("a", "b", "c"):
            assert await broker.claim(seat, 60)
        with pytest.raises(PublishError, match="3 claims"):
            await broker.claim("d", 60)
        assert not await broker.claim("a", 60)


async def test_sqlite_drops_what_has_run_out_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(claims, "time", clock)
    path = tmp_path / "events.db"

    def stored() -> int:
        with closing(sqlite3.connect(path)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM claims").fetchone()
            return int(count)

    async with Broker(f"sqlite:///{path}") as broker:
        for number in range(150):
            assert await broker.claim(f"seat {number}", 10)
            clock.now += 0.01
        assert await broker.claim("later", 60)
        clock.now += 20
        assert await broker.claim("seat 149", 60)  # though it is still there
        assert not await broker.claim("seat 149", 60)
        assert stored() == 2
        assert not await broker.claim("later", 60)


async def test_redis_lets_a_claim_expire(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with Broker(server.url, namespace="theatre") as broker:
            assert await broker.claim("seat", 60)
            assert 50_000 < server.client.pttl("{theatre}:claim:seat") <= 60_000
        async with Broker(server.url, namespace="other theatre") as broker:
            assert await broker.claim("seat", 60)
