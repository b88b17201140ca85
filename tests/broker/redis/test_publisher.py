"""What is appended: in which order, in how many writes, and what a caller is told when it fails."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.broker.redis.helpers import (
    KEEP_ALL,
    PATIENCE,
    Feed,
    draft,
    everything,
    nothing_left_behind,
    opened,
    text_of,
    until,
)
from tests.broker.redis.proxy import Cut, Proxy, passed
from tests.broker.redis_server import RedisServer
from tidings.broker.entry import Draft, Kind
from tidings.broker.redis import RedisStorage
from tidings.errors import PublishError

pytestmark = pytest.mark.anyio


async def texts(storage: RedisStorage) -> list[str]:
    return [text_of(entry) for entry in await everything(storage, "news")]


def calls(server: RedisServer, command: str) -> int:
    found = server.client.info("commandstats").get(f"cmdstat_{command}")
    return 0 if found is None else int(found["calls"])


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


# -- order and batches ------------------------------------------------------------------------------------------------


async def test_what_is_called_first_is_stored_first(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        appends = []
        for number in range(1_000):
            appends.append(asyncio.ensure_future(storage.append("news", draft(str(number)))))
            if number % 100 == 0:
                await asyncio.sleep(0)  # so that not all go in full batches
        ids = await asyncio.gather(*appends)
        entries = await everything(storage, "news")
        assert [text_of(entry) for entry in entries] == numbers(1_000)
        assert ids == [f"{storage.epoch}-{sequence}" for sequence in range(1, 1_001)]


async def test_what_comes_while_an_answer_is_on_its_way_goes_in_one_call(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.append("news", draft("the script is known"))
        before = calls(server, "evalsha")
        await asyncio.gather(*(storage.append(f"channel{n % 7}", draft(str(n))) for n in range(100)))
        assert calls(server, "evalsha") == before + 1
        await asyncio.gather(*(storage.append(f"channel{n % 7}", draft(str(n))) for n in range(300)))
        assert calls(server, "evalsha") == before + 1 + 3


async def test_a_write_is_bounded(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        sizes: list[int] = []
        assert storage._open is not None
        publisher = storage._open.publisher
        send = publisher._execute

        async def note(batch: list[object]) -> list[object]:
            sizes.append(len(batch))
            return await send(batch)  # type: ignore[arg-type]

        publisher._execute = note  # type: ignore[assignment]
        await asyncio.gather(*(storage.append("news", draft("x" * 300_000)) for _ in range(10)))
        assert sizes == [4, 4, 2]
        assert len(await everything(storage, "news")) == 10


async def test_publishers_of_several_processes_share_one_sequence(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as one, opened(server.url, namespace) as other:
        storages = (one, other)
        ids = await asyncio.gather(*(storages[n % 2].append("news", draft(str(n))) for n in range(500)))
        assert sorted(int(id.partition("-")[2]) for id in ids) == list(range(1, 501))
        found = await texts(one)
        for start in (0, 1):
            assert [text for text in found if int(text) % 2 == start] == numbers(500)[start::2]


async def test_bytes_are_stored_as_they_are(server: RedisServer, namespace: str) -> None:
    any_byte = bytes(set(range(256)) - {10, 13})
    async with opened(server.url, namespace) as storage:
        given = Draft(Kind.JSON, b": \0\xff\ndata: " + any_byte + b"\n", b"retry: 5\n\n")
        await storage.append("news", given)
        (entry,) = await everything(storage, "news")
    assert entry.frame == given.frame(storage.epoch, 1)


# -- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_server_that_does_not_answer_is_given_up_in_time(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    async with opened(server.url, namespace, timeout=0.3) as storage:
        await storage.append("news", draft("before"))
        with server.stopped():
            begin = time.monotonic()
            outcomes = await asyncio.gather(
                *(storage.append("news", draft(text)) for text in numbers(300)), return_exceptions=True
            )
            assert 0.25 < time.monotonic() - begin < 5
        assert all(isinstance(outcome, PublishError) for outcome in outcomes)
        (sent, *_, waiting) = map(str, outcomes)
        assert server.url in sent
        assert "may or may not be stored" in sent
        assert "is not stored" in waiting
        # What was said to be not stored isn't, what follows comes last.
        await storage.append("news", draft("after"))
        found = await texts(storage)
        assert found[0] == "before"
        assert found[-1] == "after"
        assert set(found[1:-1]) <= {
            text for text, told in zip(numbers(300), map(str, outcomes), strict=True) if "may" in told
        }


async def test_what_is_appended_while_the_server_is_started_again_waits_for_it(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server(appendonly="yes", appendfsync="always")
    async with opened(server.url, namespace) as storage:
        await storage.append("news", draft("before"))
        await gone(server)
        appends = [asyncio.ensure_future(storage.append("news", draft(text))) for text in numbers(200)]
        assert storage._open is not None
        publisher = storage._open.publisher
        await until(lambda: publisher._failures >= 3)
        late = asyncio.ensure_future(storage.append("news", draft("late")))
        await asyncio.to_thread(server.start)
        ids = await asyncio.gather(*appends, late)
        stored = (await everything(storage, "news"))[1:]
        assert [text_of(entry) for entry in stored] == [*numbers(200), "late"]
        assert [f"{storage.epoch}-{entry.sequence}" for entry in stored] == ids


async def test_who_waits_for_a_server_that_stays_away_is_told_in_time(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server(appendonly="yes", appendfsync="always")
    async with opened(server.url, namespace, timeout=0.5) as storage:
        await storage.append("news", draft("before"))
        await gone(server)
        for _ in range(2):
            begin = time.monotonic()
            outcomes = await asyncio.gather(
                *(storage.append("news", draft(text)) for text in numbers(300)), return_exceptions=True
            )
            assert 0.45 < time.monotonic() - begin < 5
            for outcome in outcomes:
                assert isinstance(outcome, PublishError)
                assert str(outcome).startswith(f"{server.url} didn't answer within 0.5 s (ConnectionError: ")
                assert str(outcome).endswith("Is a server running there?); the event is not stored")
        await asyncio.to_thread(server.start)
        allowed = await append_when_it_is_back(storage)
        found = await texts(storage)
        assert found[0] == "before"
        assert found[-1] == allowed[-1]
        assert set(found[1:]) <= set(allowed)


async def append_when_it_is_back(storage: RedisStorage) -> list[str]:
    """It may take longer than one timeout on a busy machine until it is asked again. Returns what was, or may be,
    stored: a server that was asked and didn't answer in time may have stored it all the same."""
    allowed: list[str] = []
    async with asyncio.timeout(PATIENCE):
        for attempt in itertools.count():
            try:
                await storage.append("news", draft(f"after {attempt}"))
            except PublishError as error:
                if "may or may not be stored" in str(error):
                    allowed.append(f"after {attempt}")
            else:
                break
    return [*allowed, f"after {attempt}"]


async def gone(server: RedisServer) -> None:
    """Kill it, and let the event loop hear of the ends of its connections."""
    server.kill()
    await asyncio.sleep(0.01)


async def test_a_server_that_is_away_is_not_asked_all_the_time(
    own_server: Callable[..., RedisServer], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server()
    async with opened(server.url, namespace, timeout=2) as storage:
        await storage.append("news", draft("before"))
        await gone(server)
        assert storage._open is not None
        pool = storage._open.server._pool
        connect = pool.get_connection
        attempts = 0

        async def count() -> object:
            nonlocal attempts
            attempts += 1
            return await connect()  # type: ignore[no-untyped-call]

        monkeypatch.setattr(pool, "get_connection", count)
        outcomes = await asyncio.gather(
            *(storage.append("news", draft(text)) for text in numbers(300)), return_exceptions=True
        )
        assert all(isinstance(outcome, PublishError) for outcome in outcomes)
        assert 3 <= attempts <= 20


async def test_closing_does_not_wait_for_a_server_that_is_away(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    with nothing_left_behind():
        storage = RedisStorage(server.url, KEEP_ALL, namespace=namespace, timeout=None)
        await storage.open(Feed())
        await storage.append("news", draft("before"))
        await gone(server)
        appends = [asyncio.ensure_future(storage.append("news", draft(text))) for text in numbers(300)]
        assert storage._open is not None
        publisher = storage._open.publisher
        await until(lambda: publisher._failures >= 2)
        async with asyncio.timeout(PATIENCE / 3):
            await storage.close()
        for outcome in await asyncio.gather(*appends, return_exceptions=True):
            assert isinstance(outcome, PublishError)
            assert str(outcome).endswith("; the event is not stored")


async def test_who_may_not_come_in_is_told_at_once(own_server: Callable[..., RedisServer], namespace: str) -> None:
    server = own_server(requirepass="secret")
    async with opened(server.url_as(password="secret"), namespace, timeout=None) as storage:
        await storage.append("news", draft("before"))
        server.client.config_set("requirepass", "other")
        server.client.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.01)  # the loop hears of it
        async with asyncio.timeout(PATIENCE / 3):
            with pytest.raises(PublishError, match=r"AuthenticationError: .*; the event is not stored"):
                await storage.append("news", draft("late"))


async def test_a_replica_is_read_but_takes_nothing(own_server: Callable[..., RedisServer], namespace: str) -> None:
    server = own_server()
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        storage.listen("news")
        await until(lambda: feed.skips)
        await storage.append("news", draft("before"))
        server.client.replicaof("127.0.0.1", server.port + 1)  # where nobody is
        for _ in range(3):
            with pytest.raises(
                PublishError, match=r"can't write against a read only replica.*; the event is not stored"
            ):
                await storage.append("news", draft("refused"))
        assert await texts(storage) == ["before"]
        server.client.replicaof("NO", "ONE")
        await storage.append("news", draft("after"))
        await until(lambda: feed.texts() == ["before", "after"])


async def test_a_cancelled_append_may_be_stored_but_disturbs_no_other(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        with nothing_left_behind():
            for _ in range(20):
                appends = [asyncio.ensure_future(storage.append("news", draft(text))) for text in numbers(200)]
                await asyncio.sleep(0)
                for append in appends[::2]:
                    append.cancel()
                outcomes = await asyncio.gather(*appends, return_exceptions=True)
                assert all(isinstance(outcome, str) for outcome in outcomes[1::2])
                assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
                await until(lambda: storage._open is not None and storage._open.publisher._worker is None)
        found = [int(text) for text in await texts(storage)]
        assert found.count(1) == 20
        rounds = "".join("," if number == 1 else "" for number in found)
        assert len(rounds) == 20
        odd = [number for number in found if number % 2]
        assert odd == list(range(1, 200, 2)) * 20


async def test_what_nobody_waits_for_any_more_is_not_sent(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    async with opened(server.url, namespace) as storage:
        await storage.append("news", draft("first"))
        with server.stopped():
            sent = asyncio.ensure_future(storage.append("news", draft("sent")))
            assert storage._open is not None
            publisher = storage._open.publisher
            await until(lambda: publisher._worker is not None and not publisher._orders)
            waiting = [asyncio.ensure_future(storage.append("news", draft(text))) for text in numbers(10)]
            await asyncio.sleep(0)
            for append in waiting:
                append.cancel()
            await asyncio.wait(waiting)
        await sent
        assert await texts(storage) == ["first", "sent"]


async def test_what_is_given_up_while_a_connection_is_made_is_not_sent(server: RedisServer, namespace: str) -> None:
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace) as storage:
        await storage.append("news", draft("first"))
        answered, going_on = asyncio.Event(), asyncio.Event()

        async def hold(data: bytes) -> AsyncIterator[bytes]:
            answered.set()
            await going_on.wait()
            yield data

        proxy.answer = hold
        reading = asyncio.ensure_future(everything(storage, "news"))
        await answered.wait()  # so the only connection is in use
        appends = [asyncio.ensure_future(storage.append("news", draft(text))) for text in numbers(3)]
        await until(lambda: proxy.connected == 2)
        appends[1].cancel()  # as the timeout does, behind which a caller is told that it is not stored
        await asyncio.wait([appends[1]])
        going_on.set()
        await asyncio.gather(reading, appends[0], appends[2])
        assert await texts(storage) == ["first", "0", "2"]


async def test_a_write_of_nothing_that_is_waited_for_does_no_harm(server: RedisServer, namespace: str) -> None:
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace) as storage:
        server.client.script_flush()
        loading, going_on = asyncio.Event(), asyncio.Event()

        async def hold(data: bytes) -> AsyncIterator[bytes]:
            loading.set()
            await going_on.wait()
            yield data

        proxy.request = hold
        append = asyncio.ensure_future(storage.append("news", draft("given up")))
        await loading.wait()
        append.cancel()
        await asyncio.wait([append])
        going_on.set()
        await storage.append("news", draft("next"))
        assert await texts(storage) == ["next"]


# -- what may be stored isn't sent again ------------------------------------------------------------------------------


async def test_a_write_whose_answer_is_lost_is_not_repeated(server: RedisServer, namespace: str) -> None:
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace) as storage:
        await storage.append("news", draft("before"))

        async def cut_once(_data: bytes) -> AsyncIterator[bytes]:
            proxy.answer = passed  # it would go well the second time
            raise Cut  # the server has done it
            yield

        proxy.answer = cut_once
        outcomes = await asyncio.gather(
            *(storage.append("news", draft(text)) for text in numbers(5)), return_exceptions=True
        )
        for outcome in outcomes:
            assert isinstance(outcome, PublishError)
            assert "may or may not be stored" in str(outcome)
        assert proxy.answer is passed
        await storage.append("news", draft("after"))
        assert await texts(storage) == ["before", *numbers(5), "after"]


async def test_a_connection_that_the_server_closed_while_it_was_idle_costs_nothing(
    server: RedisServer, namespace: str
) -> None:
    async with opened(server.url, namespace) as storage:
        for number in range(5):
            await storage.append("news", draft(str(number)))
            for client in server.client.client_list(_type="normal"):
                if int(client["id"]) != server.client.client_id():
                    server.client.client_kill_filter(_id=client["id"])
            await asyncio.sleep(0.01)  # the loop hears of it
        assert await texts(storage) == numbers(5)


async def test_a_script_that_the_server_forgot_is_given_to_it_again(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        for number in range(5):
            server.client.script_flush()
            await storage.append("news", draft(str(number)))
        assert await texts(storage) == numbers(5)


async def test_a_script_that_is_forgotten_in_the_middle_of_many_neither_loses_nor_doubles(
    server: RedisServer, namespace: str
) -> None:
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace) as storage:
        await storage.append("news", draft("known"))
        writes = 0

        async def forget(data: bytes) -> AsyncIterator[bytes]:
            nonlocal writes
            writes += 1
            if writes in {1, 7, 13, 19}:  # the next ones are to give it back and to use it
                server.client.script_flush()
            yield data

        proxy.request = forget
        ids = await asyncio.gather(*(storage.append("news", draft(text)) for text in numbers(1_000)))
        assert writes > 8 + 2 * 2
        assert [int(id.partition("-")[2]) for id in ids] == list(range(2, 1_002))
        assert await texts(storage) == ["known", *numbers(1_000)]


# -- closing ----------------------------------------------------------------------------------------------------------


async def test_closing_stores_what_was_to_be_appended(server: RedisServer, namespace: str) -> None:
    with nothing_left_behind(server):
        async with opened(server.url, namespace) as storage:
            appends = [asyncio.ensure_future(storage.append("news", draft(text))) for text in numbers(500)]
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert all(isinstance(outcome, str) for outcome in outcomes)
    async with opened(server.url, namespace) as storage:
        assert await texts(storage) == numbers(500)
        assert server.client.zcard(f"{{{namespace}}}:names") == 1


async def test_closing_while_the_server_does_not_answer_is_bounded(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    with nothing_left_behind(server):
        storage = RedisStorage(server.url, KEEP_ALL, namespace=namespace, timeout=0.3)
        await storage.open(Feed())
        await storage.append("news", draft("before"))
        with server.stopped():
            # More than the sockets hold: something is left to be written.
            appends = [asyncio.ensure_future(storage.append("news", draft("x" * 1_000_000))) for _ in range(30)]
            await asyncio.sleep(0.05)
            begin = time.monotonic()
            await storage.close()
            assert time.monotonic() - begin < PATIENCE / 3
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert all(isinstance(outcome, PublishError) for outcome in outcomes)
        assert {"may" in str(outcome) for outcome in outcomes} == {True, False}


async def test_after_closing_nothing_is_stored(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        assert storage._open is not None
        publisher = storage._open.publisher
    for append in (storage.append, publisher.append):
        with pytest.raises(PublishError, match="not open; the event is not stored"):
            await append("news", draft("late"))
    assert server.client.exists(f"{{{namespace}}}:names") == 0
