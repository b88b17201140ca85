"""What is recorded of background streams, and what is appended for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.broker.redis.helpers import PATIENCE, Feed, draft, everything, nothing_left_behind, opened, text_of, until
from tests.broker.redis.proxy import Cut, Proxy, passed
from tests.broker.redis_server import RedisServer
from tidings import Broker
from tidings.broker.entry import FINISH, Draft, Kind
from tidings.broker.redis import RedisStorage, keeper
from tidings.broker.run import Lease, Run, State
from tidings.broker.storage import Retention
from tidings.errors import PublishError, StorageError

pytestmark = pytest.mark.anyio

LEASE = 10.0

LOST = (Draft(Kind.CONTROL, b"data: lost\n", b"\n"), FINISH)
"""How a run ends whose producer is lost."""


def drafts(*texts: str) -> list[Draft]:
    return [draft(text) for text in texts]


def numbers(*places: int) -> list[Draft]:
    return [draft(str(number)) for number in range(*places)]


async def texts(storage: RedisStorage, channel: str = "chat") -> list[str]:
    return [text_of(entry) for entry in await everything(storage, channel)]


async def is_finished(storage: RedisStorage, channel: str = "chat") -> bool:
    return (await storage.read([channel], None)).finished


async def state_of(storage: RedisStorage, channel: str = "chat") -> State | None:
    run = await storage.run_of(channel)
    return None if run is None else run.state


async def lease_of(storage: RedisStorage, producer: str) -> Lease:
    (lease,) = [lease for lease in await storage.leases() if lease.producer == producer]
    return lease


def made(server: RedisServer, namespace: str) -> dict[str, Any]:
    """What is in the hashes and sorted sets of a namespace, by the rest of their keys; not the id of the server."""
    prefix = f"{{{namespace}}}:"
    found: dict[str, Any] = {}
    for key in server.client.scan_iter(f"{prefix}*"):
        name = key.decode().removeprefix(prefix)
        kind = server.client.type(key)
        if kind == b"hash":
            found[name] = server.client.hgetall(key)
            if name == "log":
                found[name].pop(b"run", None)
        elif kind == b"zset":
            found[name] = server.client.zrange(key, 0, -1, withscores=True)
    return found


# -- begin ------------------------------------------------------------------------------------------------------------


async def test_a_run_that_begins_is_recorded_with_its_producers_lease(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        assert await storage.run_of("chat") is None
        assert list(await storage.leases()) == []
        before = time.time()
        assert await storage.begin("chat", "r1", "host:1:ä b", LEASE) is True
        run = await storage.run_of("chat")
        assert run is not None
        assert run == Run("r1", "host:1:ä b", State.RUNNING, run.at, 0)
        assert before - 0.01 <= run.at <= time.time()
        (lease,) = await storage.leases()
        assert lease.producer == "host:1:ä b"
        assert 0 < lease.left <= LEASE
        assert await everything(storage, "chat") == []


async def test_only_one_run_of_a_channel_is_running(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        assert await storage.begin("chat", "r1", "p1", -LEASE) is True  # its lease has run out
        before = made(server, namespace)
        assert await storage.begin("chat", "r2", "p2", LEASE) is False
        assert made(server, namespace) == before
        assert await storage.begin("other", "r2", "p2", LEASE) is True
        # This very run again: the answer was lost. It is what it was, but for the lease.
        await storage.extend("chat", "r1", 0, drafts("a"))
        run = await storage.run_of("chat")
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert await storage.run_of("chat") == run
        assert (await lease_of(storage, "p1")).left > 0


async def test_a_run_that_has_ended_does_not_begin_again(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, LOST, State.ABORTED)
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert await state_of(storage) is State.ABORTED
        assert await is_finished(storage)
        assert await storage.extend("chat", "r1", 0, drafts("a")) is False
        assert await storage.begin("chat", "r2", "p2", LEASE) is True
        run = await storage.run_of("chat")
        assert run is not None
        assert run[:3] == ("r2", "p2", State.RUNNING)
        assert run.events == 0


async def test_of_two_machines_that_begin_at_the_same_moment_one_does(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as one, opened(server.url, namespace) as other:
        for channel in (f"chat {number}" for number in range(50)):
            begun = await asyncio.gather(
                *(storage.begin(channel, f"r{n}", f"p{n}", LEASE) for n, storage in enumerate((one, other, one, other)))
            )
            assert sorted(begun) == [False, False, False, True]
            for storage in (one, other):
                run = await storage.run_of(channel)
                assert run is not None
                assert run.id == f"r{begun.index(True)}"


async def test_a_run_opens_a_finished_channel_without_an_entry(server: RedisServer, namespace: str) -> None:
    feed = Feed()
    async with opened(server.url, namespace, feed=feed) as storage:
        storage.listen("chat")
        await until(lambda: feed.skips)
        await storage.append("chat", draft("a"))
        await storage.finish("chat")
        assert await is_finished(storage)
        await storage.begin("chat", "r1", "p1", LEASE)
        page = await storage.read(["chat"], 0)
        assert (page.finished, page.newest, len(page.entries)) == (False, 2, 1)
        await storage.extend("chat", "r1", 0, [*drafts("b"), FINISH], State.FINISHED)
        assert await is_finished(storage)
        await until(lambda: len(feed.entries) == 4)
        assert [entry.kind for entry in feed.entries] == [Kind.RAW, Kind.FINISH, Kind.RAW, Kind.FINISH]
        assert feed.misses == []
        assert len(feed.skips) == 1


# -- extend -----------------------------------------------------------------------------------------------------------


async def test_what_a_run_gives_is_appended_and_its_events_are_counted(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage, opened(server.url, namespace) as other:
        await storage.append("chat", draft("before"))
        await storage.begin("chat", "r1", "p1", LEASE)
        assert await storage.extend("chat", "r1", 0, drafts("a", "b")) is True
        assert await storage.extend("chat", "r1", 2, []) is True
        assert await storage.extend("chat", "r1", 2, [Draft(Kind.JSON, b"data: 3\n", b"\n"), LOST[0]]) is True
        run = await other.run_of("chat")
        assert run is not None
        assert (run.state, run.events) == (State.RUNNING, 3)
        at = run.at
        await asyncio.sleep(0.005)
        assert await storage.extend("chat", "r1", 3, [*drafts("d"), *LOST], State.FAILED) is True
        run = await other.run_of("chat")
        assert run is not None
        assert (run.state, run.events) == (State.FAILED, 4)
        assert run.at > at
        assert await texts(other) == ["before", "a", "b", "3", "lost", "d", "lost"]
        assert await is_finished(other)
        (info,) = await other.channels("", 10)
        assert (info.published, info.events) == (7, 7)
        assert "running" not in made(server, namespace)


async def test_what_is_stored_already_is_not_stored_again(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for _ in range(3):
            assert await storage.extend("chat", "r1", 0, drafts("a", "b")) is True
        for _ in range(3):
            assert await storage.extend("chat", "r1", 2, drafts("c")) is True
        assert await storage.extend("chat", "r1", 0, drafts("a", "b")) is True  # it came late
        for _ in range(3):
            assert await storage.extend("chat", "r1", 3, [*drafts("d"), FINISH], State.FINISHED) is True
        assert await storage.extend("chat", "r1", None, [FINISH], State.FINISHED) is True
        assert await texts(storage) == ["a", "b", "c", "d"]
        run = await storage.run_of("chat")
        assert run is not None
        assert run.events == 4


async def test_a_run_that_has_ended_is_fenced_off(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage, opened(server.url, namespace) as other:
        assert await storage.extend("chat", "r1", 0, drafts("never begun")) is False
        await storage.begin("chat", "r1", "p1", LEASE)
        assert await storage.extend("chat", "r0", 0, drafts("of another run")) is False
        assert await storage.extend("chat", "r0", None, LOST, State.ABORTED) is False
        await storage.extend("chat", "r1", 0, drafts("a"))
        assert await other.extend("chat", "r1", None, LOST, State.STOPPED) is True
        before = made(server, namespace)
        assert await storage.extend("chat", "r1", 1, drafts("b")) is False
        assert await storage.extend("chat", "r1", 1, []) is False
        assert await storage.extend("chat", "r1", 1, [FINISH], State.FINISHED) is False
        # The same state, but these aren't stored: it was somebody else's end.
        assert await storage.extend("chat", "r1", 1, [*drafts("b"), *LOST], State.STOPPED) is False
        assert made(server, namespace) == before
        await other.begin("chat", "r2", "p2", LEASE)
        assert await storage.extend("chat", "r1", 1, drafts("b")) is False
        assert await texts(storage) == ["a", "lost"]


async def test_events_are_counted_on_though_the_log_has_lost_some(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for _ in range(2):
            await storage.extend("chat", "r1", 5, drafts("f"))  # five were acknowledged before
        assert await texts(storage) == ["f"]
        run = await storage.run_of("chat")
        assert run is not None
        assert run.events == 6


async def test_runs_and_publishers_are_served_in_the_order_in_which_they_come(
    server: RedisServer, namespace: str
) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.begin("other", "r2", "p1", LEASE)
        calls: list[asyncio.Future[object]] = []
        for number in range(0, 600, 3):
            calls.append(asyncio.ensure_future(storage.append("chat", draft(str(number)))))
            calls.append(
                asyncio.ensure_future(storage.extend("chat", "r1", number * 2 // 3, numbers(number + 1, number + 3)))
            )
            calls.append(asyncio.ensure_future(storage.extend("other", "r2", number // 3, numbers(1))))
        outcomes = await asyncio.gather(*calls)
        assert await texts(storage) == [str(number) for number in range(600)]
        assert await texts(storage, "other") == ["0"] * 200
        assert all(outcome is True for outcome in outcomes[1::3] + outcomes[2::3])
        stored = {text_of(entry): entry for entry in await everything(storage, "chat")}
        ids = [f"{storage.epoch}-{stored[str(number)].sequence}" for number in range(0, 600, 3)]
        assert outcomes[::3] == ids


async def test_one_run_that_is_fenced_off_or_fails_keeps_no_other_from_being_stored(
    server: RedisServer, namespace: str
) -> None:
    async with opened(server.url, namespace) as storage:
        for run in ("r1", "r2", "r3"):
            await storage.begin(run, run, "p1", LEASE)
        await storage.extend("r1", "r1", 0, [FINISH], State.FINISHED)
        server.client.set(f"{{{namespace}}}:events:r2", "something else")
        fenced, failed, id, stored, nothing = await asyncio.gather(
            storage.extend("r1", "r1", 0, numbers(3), State.STOPPED),
            storage.extend("r2", "r2", 0, numbers(3)),
            storage.append("r3", draft("a")),
            storage.extend("r3", "r3", 0, drafts("b", "c")),
            storage.extend("r4", "r4", 0, drafts("b", "c")),
            return_exceptions=True,
        )
        assert (fenced, stored, nothing) == (False, True, False)
        assert isinstance(failed, PublishError)
        assert "is not stored" in str(failed)
        assert str(id).startswith(storage.epoch)
        assert await texts(storage, "r3") == ["a", "b", "c"]


async def test_a_write_of_a_run_goes_as_one_call_however_much_it_is(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, [])  # the script is known
        sizes: list[int] = []
        assert storage._open is not None
        publisher = storage._open.publisher
        send = publisher._execute

        async def note(batch: list[Any]) -> Any:
            sizes.append(sum(len(order.drafts) for order in batch))
            return await send(batch)

        publisher._execute = note  # type: ignore[method-assign]
        big = [draft("x" * 300_000)] * 4
        await asyncio.gather(
            storage.extend("chat", "r1", 0, [*numbers(256), *LOST]),
            storage.extend("chat", "r1", 256, numbers(256, 300)),
            *(storage.extend("chat", "r1", 300 + number, numbers(300 + number, 301 + number)) for number in range(100)),
            storage.extend("chat", "r1", 400, big),
            storage.extend("chat", "r1", 404, big),
        )
        assert sizes == [258, 44 + 84, 16 + 4, 4]
        found = await texts(storage)
        assert found[:256] + found[257:401] == [str(number) for number in range(400)]
        assert len(found) == 409


async def test_of_a_run_no_more_is_kept_than_of_others(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace, Retention(10, None, None)) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for start in range(0, 2_500, 500):
            assert await storage.extend("chat", "r1", start, numbers(start, start + 500)) is True
            assert server.client.xlen(f"{{{namespace}}}:events:chat") == 10
        assert await texts(storage) == [str(number) for number in range(2_490, 2_500)]
        (info,) = await storage.channels("", 10)
        assert (info.published, info.events) == (2_500, 10)


async def test_of_what_a_full_server_refuses_nothing_is_stored(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.begin("other", "r2", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a"))
        await storage.extend("other", "r2", 0, drafts("a"))
        mark = (await lease_of(storage, "p1")).mark
        before = made(server, namespace)
        server.client.config_set("maxmemory", 1)
        refused = await asyncio.gather(
            storage.extend("chat", "r1", 1, drafts("b", "c")),
            storage.extend("other", "r2", 1, [], State.FINISHED),
            storage.extend("chat", "r1", 3, [FINISH], State.FINISHED),
            storage.begin("third", "r3", "p2", LEASE),
            storage.abort(await lease_of(storage, "p1"), LOST, State.ABORTED, 10),
            return_exceptions=True,
        )
        for error in refused:
            assert isinstance(error, PublishError), refused
            assert "memory" in str(error)
        assert made(server, namespace) == before
        assert await storage.extend("chat", "r1", 1, []) is True  # it is running
        # Who can't store anything is alive all the same.
        assert await storage.renew("p1", LEASE) is True
        assert (await lease_of(storage, "p1")).mark > mark
        server.client.config_set("maxmemory", 0)
        assert await storage.extend("chat", "r1", 1, drafts("b", "c")) is True
        assert await storage.extend("chat", "r1", 3, [FINISH], State.FINISHED) is True
        assert await storage.extend("other", "r2", 1, [], State.FINISHED) is True
        assert await texts(storage) == ["a", "b", "c"]


@pytest.mark.parametrize("key", ["channel:chat", "events:chat"])
async def test_what_fails_is_stored_in_no_part(server: RedisServer, namespace: str, key: str) -> None:
    name = f"{{{namespace}}}:{key}"
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        if key == "channel:chat":
            server.client.rename(name, "aside")
        server.client.set(name, "something else")
        before = made(server, namespace)
        with pytest.raises(PublishError, match=r"WRONGTYPE.* is not stored"):
            await storage.extend("chat", "r1", 0, [*drafts("a", "b"), FINISH], State.FINISHED)
        assert made(server, namespace) == before
        if key == "channel:chat":
            with pytest.raises(PublishError, match="WRONGTYPE"):
                await storage.begin("chat", "r1", "p1", LEASE)
            with pytest.raises(StorageError, match="WRONGTYPE"):
                await storage.run_of("chat")
            server.client.rename("aside", name)
        else:
            server.client.delete(name)
        assert await storage.extend("chat", "r1", 0, [*drafts("a", "b"), FINISH], State.FINISHED) is True
        assert await texts(storage) == ["a", "b"]


async def test_what_nobody_could_be_told_of_is_stored_and_may_be_repeated(server: RedisServer, namespace: str) -> None:
    server.client.acl_setuser("mute", enabled=True, nopass=True, keys=["*"], categories=["+@all"])
    async with opened(server.url_as("mute", "any"), namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        for drafted, end in ((drafts("a", "b"), None), ([*drafts("c"), FINISH], State.FINISHED)):
            after = len(await texts(storage))
            with pytest.raises(PublishError, match="the event is stored, but nobody was told"):
                await storage.extend("chat", "r1", after, drafted, end)
            assert await storage.extend("chat", "r1", after, drafted, end) is True
        assert await texts(storage) == ["a", "b", "c"]
        assert await state_of(storage) is State.FINISHED


async def test_an_answer_that_is_lost_is_an_error_and_the_write_may_be_repeated(
    server: RedisServer, namespace: str
) -> None:
    async with Proxy(server.port) as proxy, opened(proxy.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a"))
        writes = 0

        async def cut_once(_data: bytes) -> AsyncIterator[bytes]:
            nonlocal writes
            writes += 1
            proxy.answer = passed
            raise Cut  # the server has done it
            yield

        for after, drafted, end in ((1, drafts("b", "c"), None), (3, [*drafts("d"), FINISH], State.FINISHED)):
            proxy.answer = cut_once
            with pytest.raises(PublishError, match="may or may not be stored"):
                await storage.extend("chat", "r1", after, drafted, end)
            assert await storage.extend("chat", "r1", after, drafted, end) is True
        assert writes == 2
        assert await texts(storage) == ["a", "b", "c", "d"]
        for change in (storage.begin("new", "r2", "p2", LEASE), storage.renew("p1", LEASE)):
            proxy.answer = cut_once
            with pytest.raises(PublishError, match="may or may not be recorded"):
                await change
        assert writes == 4
        assert await state_of(storage, "new") is State.RUNNING


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        assert await storage.renew("p1", LEASE) is False
        assert list(await storage.leases()) == []
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.begin("other", "r2", "p2", LEASE)
        marks = {(await lease_of(storage, "p1")).mark}
        for _ in range(20):
            assert await storage.renew("p1", LEASE) is True
            marks.add((await lease_of(storage, "p1")).mark)
        await storage.begin("third", "r3", "p1", LEASE)
        marks.add((await lease_of(storage, "p1")).mark)
        assert len(marks) == 22
        assert await storage.renew("p1", -2.5) is True
        assert -3.5 < (await lease_of(storage, "p1")).left <= -2.5
        assert await storage.renew("p1", LEASE) is True  # though it had run out
        assert LEASE - 1 < (await lease_of(storage, "p1")).left <= LEASE
        assert {lease.producer for lease in await storage.leases()} == {"p1", "p2"}


async def test_the_runs_of_a_lost_producer_are_ended_in_steps(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage, opened(server.url, namespace) as other:
        lost = [f"chat {number}" for number in range(500)]
        await asyncio.gather(*(other.begin(channel, f"r {channel}", "p1", -1.0) for channel in lost))
        for producer in ("p", "p10", "p1:", "P1"):
            await storage.begin(f"of {producer}", producer, producer, LEASE)
        await other.extend(lost[0], f"r {lost[0]}", 0, drafts("a"))
        await other.extend(lost[1], f"r {lost[1]}", 0, [*drafts("a"), FINISH], State.FINISHED)
        lease = await lease_of(storage, "p1")
        ended = []
        while some := await storage.abort(lease, LOST, State.ABORTED, 200):
            ended.append(some)
        assert ended == [200, 200, 99]
        assert {lease.producer for lease in await storage.leases()} == {"p", "p10", "p1:", "P1"}
        for producer in ("p", "p10", "p1:", "P1"):
            assert await state_of(storage, f"of {producer}") is State.RUNNING
        assert len(made(server, namespace)["running"]) == 4
        assert await texts(storage, lost[0]) == ["a", "lost"]
        assert await state_of(storage, lost[1]) is State.FINISHED
        for channel in lost[2:]:
            run = await storage.run_of(channel)
            assert run is not None
            assert run[:3] == (f"r {channel}", "p1", State.ABORTED)
            assert run.events == 0
            assert await texts(storage, channel) == ["lost"]
            assert await is_finished(storage, channel)
        assert await other.extend(lost[0], f"r {lost[0]}", 1, drafts("b")) is False


async def test_a_lease_that_was_renewed_ends_nothing(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage, opened(server.url, namespace) as other:
        await other.begin("chat", "r1", "p1", -1.0)
        lease = await lease_of(storage, "p1")
        await other.renew("p1", LEASE)
        before = made(server, namespace)
        assert await storage.abort(lease, LOST, State.ABORTED, 10) == 0
        assert await storage.abort(Lease("p2", -1.0, lease.mark), LOST, State.ABORTED, 10) == 0
        assert made(server, namespace) == before
        # Renewed between the look at what is to be ended and its end.
        lease = await lease_of(storage, "p1")
        assert storage._open is not None
        runs = storage._open.runs
        look = runs.running

        async def renewed_meanwhile(producer: str, most: int) -> Any:
            found = await look(producer, most)
            await other.renew("p1", LEASE)
            return found

        runs.running = renewed_meanwhile  # type: ignore[method-assign]
        assert await storage.abort(lease, LOST, State.ABORTED, 10) == 0
        assert await state_of(storage) is State.RUNNING
        assert await other.extend("chat", "r1", 0, drafts("a")) is True
        runs.running = look  # type: ignore[method-assign]
        assert await storage.abort(await lease_of(storage, "p1"), LOST, State.ABORTED, 10) == 1


async def test_a_lease_without_runs_is_taken_away(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", -1.0)
        await storage.extend("chat", "r1", 0, [FINISH], State.FINISHED)
        lease = await lease_of(storage, "p1")
        await storage.renew("p1", -1.0)
        assert await storage.abort(lease, LOST, State.ABORTED, 10) == 0
        assert len(await storage.leases()) == 1
        assert await storage.abort(await lease_of(storage, "p1"), LOST, State.ABORTED, 10) == 0
        assert list(await storage.leases()) == []
        assert await state_of(storage) is State.FINISHED


async def test_each_run_of_a_lost_producer_is_ended_by_one_alone(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as one, opened(server.url, namespace) as other:
        channels = [f"chat {number}" for number in range(60)]
        await asyncio.gather(*(one.begin(channel, f"r {channel}", "p1", -1.0) for channel in channels))
        lease = await lease_of(one, "p1")
        ended = 0
        while await one.leases():
            ended += sum(
                await asyncio.gather(*(storage.abort(lease, LOST, State.ABORTED, 20) for storage in (one, other)))
            )
        assert ended == 60
        for channel in channels:
            assert await texts(one, channel) == ["lost"]


async def test_a_run_whose_channel_was_lost_keeps_no_lease(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        for channel in ("a", "b", "c"):
            await storage.begin(channel, f"r {channel}", "p1", -1.0)
        server.client.delete(f"{{{namespace}}}:channel:a")
        await storage.append("b", draft("kept"))
        lease = await lease_of(storage, "p1")
        assert [await storage.abort(lease, LOST, State.ABORTED, 2) for _ in range(3)] == [1, 1, 0]
        assert list(await storage.leases()) == []
        assert await texts(storage, "b") == ["kept", "lost"]


# -- what is forgotten ------------------------------------------------------------------------------------------------


async def test_a_run_is_forgotten_with_its_channel_but_not_while_it_is_running(
    server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_AT_ONCE", 2)  # those that are running are the first
    async with opened(server.url, namespace, Retention(0, None, 0.05)) as storage:
        for channel in ("a", "b", "c", "with an entry", "without"):
            await storage.begin(channel, f"r {channel}", "p1", LEASE)
        for channel in ("a", "b", "c", "with an entry"):
            await storage.extend(channel, f"r {channel}", 0, drafts("x"))
        await storage.append("plain", draft("x"))
        await storage.extend("with an entry", "r with an entry", 1, [FINISH], State.FINISHED)
        await storage.extend("without", "r without", 0, [], State.FINISHED)
        gone = ("plain", "with an entry", "without")
        end = time.monotonic() + PATIENCE
        while server.client.exists(*(f"{{{namespace}}}:channel:{channel}" for channel in gone)):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        for channel in gone:
            assert await storage.run_of(channel) is None
        for channel in ("a", "b", "c"):
            assert await state_of(storage, channel) is State.RUNNING
            assert await storage.extend(channel, f"r {channel}", 1, [FINISH], State.FINISHED) is True
        while any([await storage.run_of(channel) for channel in ("a", "b", "c")]):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        assert set(made(server, namespace)) == {"log", "leases"}


async def test_a_script_is_told_all_keys_that_it_uses(server: RedisServer, namespace: str) -> None:
    prefix = f"{{{namespace}}}:"
    async with opened(server.url, namespace, Retention(3, 0.001, 0.001)) as storage:
        with server.client.monitor() as monitor:
            await storage.begin("a", "r1", "p1", LEASE)
            await storage.begin("b", "r2", "p1", LEASE)
            await asyncio.gather(
                storage.append("a", draft("x")),
                storage.extend("a", "r1", 0, [*numbers(10), FINISH], State.FINISHED),
                storage.extend("c", "r3", 0, []),
                storage.append("c", draft("x")),
            )
            await storage.renew("p1", -1.0)
            assert await storage.abort(await lease_of(storage, "p1"), LOST, State.ABORTED, 10) == 1
            assert await storage.begin("a", "r3", "p2", LEASE) is True
            server.client.echo("the end")
            scripts = 0
            told: set[str] = set()
            for said in monitor.listen():
                words = said["command"].split(" ")
                keys = {word for word in words if word.startswith(prefix)}
                if words[0] in {"EVAL", "EVALSHA"}:
                    scripts += 1
                    told = keys
                elif said["client_type"] == "lua" and words[0].upper() != "PUBLISH":
                    assert keys <= told, said
                elif words[0] == "ECHO":
                    break
    assert scripts >= 8


# -- a server that loses things ---------------------------------------------------------------------------------------


async def test_a_log_that_was_lost_is_known_when_a_run_is_not_found(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server()
    async with opened(server.url, namespace) as storage:
        await storage.begin("chat", "r1", "p1", LEASE)
        await storage.extend("chat", "r1", 0, drafts("a", "b"))
        epoch = storage.epoch
        server.client.flushall()
        assert await storage.renew("p1", LEASE) is False
        assert await storage.extend("chat", "r1", 2, drafts("c")) is False
        assert storage.epoch != epoch
        assert await storage.run_of("chat") is None
        assert await storage.begin("chat", "r1", "p1", LEASE) is True
        assert await storage.extend("chat", "r1", 0, drafts("c")) is True
        assert await texts(storage) == ["c"]


async def test_a_server_that_forgets_its_scripts_is_given_them_again(server: RedisServer, namespace: str) -> None:
    async with opened(server.url, namespace) as storage:
        for _ in range(2):
            server.client.script_flush()
            await storage.begin("chat", "r1", "p1", LEASE)
            server.client.script_flush()
            assert await storage.extend("chat", "r1", 0, drafts("a")) is True
            server.client.script_flush()
            assert await storage.renew("p1", -1.0) is True
        server.client.script_flush()
        assert await storage.abort(await lease_of(storage, "p1"), LOST, State.ABORTED, 10) == 1
        assert await texts(storage) == ["a", "lost"]


async def test_a_server_that_is_away_can_not_be_asked(own_server: Callable[..., RedisServer], namespace: str) -> None:
    server = own_server(appendonly="yes")
    feed = Feed()
    with nothing_left_behind():
        async with opened(server.url, namespace, feed=feed, timeout=1.0) as storage:
            await storage.begin("chat", "r1", "p1", LEASE)
            lease = await lease_of(storage, "p1")
            server.kill()
            for change in (
                lambda: storage.begin("chat", "r2", "p1", LEASE),
                lambda: storage.extend("chat", "r1", 0, drafts("a")),
                lambda: storage.renew("p1", LEASE),
                lambda: storage.abort(lease, LOST, State.ABORTED, 10),
            ):
                with pytest.raises(PublishError, match=server.url):
                    await change()  # type: ignore[no-untyped-call]
            for question in (lambda: storage.run_of("chat"), storage.leases):
                with pytest.raises(StorageError, match=server.url) as failure:
                    await question()
                assert failure.value.temporary
            await asyncio.to_thread(server.start)
            assert await storage.extend("chat", "r1", 0, drafts("a")) is True
        with pytest.raises(PublishError, match="not open"):
            await storage.begin("chat", "r2", "p1", LEASE)
        with pytest.raises(PublishError, match="not open"):
            await storage.extend("chat", "r1", 1, drafts("b"))
        with pytest.raises(StorageError, match="not open"):
            await storage.run_of("chat")


# -- with a broker ----------------------------------------------------------------------------------------------------


class Counting:
    """A source that counts until it is told to end."""

    def __init__(self) -> None:
        self.given = 0
        self.ending = False

    async def items(self) -> AsyncIterator[int]:
        while not self.ending:
            yield self.given
            self.given += 1
            await asyncio.sleep(0.001)

    async def goes_on(self, count: int = 50) -> None:
        given = self.given
        await until(lambda: self.given >= given + count, "the source goes on")


async def received(broker: Broker) -> list[object]:
    """All that the channel holds, when it has been finished."""
    async with broker.subscribe("chat", last_event_id="earliest") as subscription:
        return [event.data async for event in subscription]


async def test_a_server_that_is_killed_loses_and_doubles_nothing_of_a_run(
    own_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = own_server(appendonly="yes", appendfsync="always")
    source = Counting()
    async with Broker(server.url, namespace=namespace, history=None) as broker:
        reading = asyncio.ensure_future(received(broker))
        await broker.start("chat", source.items())
        assert isinstance(broker._storage, RedisStorage)
        assert broker._storage._open is not None
        publisher = broker._storage._open.publisher
        for _ in range(3):
            await source.goes_on()
            server.kill()
            await until(lambda: publisher._failures, "it is tried to reach the server")
            await asyncio.to_thread(server.start)
        await source.goes_on(300)  # more than it may be ahead of what is stored
        source.ending = True
        async with asyncio.timeout(PATIENCE):
            assert await reading == list(range(source.given))
        assert await received(broker) == list(range(source.given))
        status = await broker.status("chat")
        assert (status.state, status.events) == ("finished", source.given)


async def test_a_run_goes_on_in_a_log_that_was_emptied(own_server: Callable[..., RedisServer], namespace: str) -> None:
    server = own_server()
    source = Counting()
    async with Broker(server.url, namespace=namespace, history=None) as broker:
        await broker.start("chat", source.items())
        await source.goes_on()
        server.client.flushall()
        await source.goes_on(300)
        source.ending = True

        async def state() -> str:
            return str((await broker.status("chat")).state)

        while await state() == "running":
            await asyncio.sleep(0.005)
        assert await state() == "finished"
        found = await received(broker)
        first = found[0]
        assert isinstance(first, int)
        assert 0 < first <= source.given - 300
        assert found == list(range(first, source.given))
        assert len(server.client.zrange(f"{{{namespace}}}:leases", 0, -1)) == 1
