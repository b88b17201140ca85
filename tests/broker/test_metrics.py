"""What is counted of brokers through the OpenTelemetry API, and whether their storages answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.asgi import Connection
from tests.broker.contract.reading import until
from tests.broker.redis_server import RedisServer
from tests.metering import Meter
from tidings import Broker, EventSourceResponse
from tidings.broker import metrics
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


def failing() -> Iterable[int]:
    yield 1
    raise LookupError


async def test_what_brokers_do_is_counted_by_the_kind_of_their_storage(meter: Meter, url: str) -> None:
    async with Broker() as one, Broker() as another, Broker(url) as third:
        await one.publish("news", 1)
        await another.publish("news", 1)
        await third.publish("news", 1)
        async with another.subscribe("news", last_event_id="no id") as subscription:
            assert (await anext(subscription)).event == "reset"
            assert meter.changes("tidings.subscription.active") == {"tidings.subscription.active memory": 1}
        await one.start("job", failing())
        assert meter.changes("tidings.background.active") == {"tidings.background.active memory": 1}
        await until(lambda: not one.statistics().background, "it has ended")
    assert meter.changes() == {
        "tidings.publish.events memory": 3,
        "tidings.publish.events sqlite": 1,
        "tidings.subscription.resets malformed memory": 1,
        "tidings.background.endings failed memory": 1,
    }


async def test_the_lag_is_recorded_for_what_is_read(meter: Meter, url: str) -> None:
    async with Broker(url) as broker, Connection(EventSourceResponse(broker.subscribe("read"))) as reading:
        await reading.until(b":\n\n")
        begun = time.time()
        await broker.publish("nobody reads this", 0)
        await broker.publish("read", 1)
        await reading.until(b"data: 1")
        assert meter.changes("tidings.broker.lag") == {"tidings.broker.lag sqlite": 1}
        assert 0 <= broker.statistics().lag <= time.time() - begun


async def test_a_clock_that_is_behind_that_of_the_storage_makes_no_lag(
    meter: Meter, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Behind:
        @staticmethod
        def time() -> float:
            return time.time() - 60

    monkeypatch.setattr(metrics, "time", Behind)
    async with Broker(url) as broker, Connection(EventSourceResponse(broker.subscribe("news"))) as reading:
        await reading.until(b":\n\n")
        await broker.publish("news", 1)
        await reading.until(b"data: 1")
        assert broker.statistics().lag == 0.0
        assert meter.changes("tidings.broker.lag") == {"tidings.broker.lag sqlite": 1}
    # The SDK warns of what is negative.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_may_not_be_stored_is_counted_and_so_is_a_file_that_is_gone(
    meter: Meter, url: str, tmp_path: Path
) -> None:
    async with Broker(url) as broker:
        assert meter.changes("tidings.storage.connected") == {"tidings.storage.connected sqlite": 1}
        await broker.publish("news", 1)
        (tmp_path / "events.db").unlink()
        with pytest.raises(PublishError):
            await broker.publish("news", 2)
        assert not broker.statistics().connected
        assert (broker.statistics().published, broker.statistics().failed) == (1, 1)
        assert meter.changes("tidings.publish.failures", "tidings.storage.connected") == {
            "tidings.publish.failures sqlite": 1  # and `connected` is 0
        }
        with pytest.raises(ValueError, match="channel"):
            await broker.publish("", 3)
        assert broker.statistics().failed == 1, "a mistake of the caller's is none of the storage's"


async def test_a_file_that_can_not_be_read_is_told(url: str, tmp_path: Path) -> None:
    async with Broker(url) as broker:
        assert broker.statistics().connected
        (tmp_path / "events.db").unlink()
        with pytest.raises(StorageError):
            await broker.last_event_id()
        assert not broker.statistics().connected


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterable[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


async def test_a_server_that_is_away_is_told_and_so_is_its_return(own_redis: RedisServer, meter: Meter) -> None:
    def connected(broker: Broker) -> Callable[[], bool]:
        return lambda: broker.statistics().connected

    reading, publishing = (Broker(own_redis.url, publish_timeout=0.5) for _ in range(2))
    async with reading, publishing, Connection(EventSourceResponse(reading.subscribe("news"))) as client:
        await client.until(b":\n\n")
        assert connected(reading)()
        own_redis.kill()
        await until(lambda: not connected(reading)(), "the connection for notifications is lost")
        with pytest.raises(PublishError):
            await publishing.publish("news", 1)
        await until(lambda: not connected(publishing)(), "it is known to be away")
        assert meter.changes("tidings.storage.connected") == {}, "0, as one of two doesn't answer"
        own_redis.start()
        await until(connected(reading), "it is made again")
        while b"data: 2" not in client.body:  # a busy machine may need longer than one timeout
            with suppress(PublishError):
                await publishing.publish("news", 2)
        assert connected(publishing)()


async def test_a_server_that_answers_with_an_error_is_there(own_redis: RedisServer) -> None:
    async with Broker(own_redis.url, publish_timeout=0.5) as broker:
        await broker.publish("news", 1)
        with own_redis.stopped():
            with pytest.raises(PublishError):
                await broker.publish("news", 2)
            await until(lambda: not broker.statistics().connected, "it is known to hang")
        own_redis.client.execute_command("ACL", "SETUSER", "default", "-evalsha")
        with pytest.raises(PublishError, match="permission"):
            await broker.publish("news", 3)
        assert broker.statistics().connected
