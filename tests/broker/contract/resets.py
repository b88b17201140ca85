"""Who may have missed something is told so, with an event `reset`; and then given what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import pytest

from tests.asgi import Connection
from tests.broker.conftest import Log
from tests.broker.contract.reading import burst, data, fill, ids, position, rest, sequence, take
from tidings import Broker, EventSourceResponse
from tidings.broker import DeliveredEvent

MORE_THAN_A_TAIL = 1_200
"""Events that push all that came before out of a process's memory."""

MALFORMED = [
    *(
        "abc",
        "abc-",
        "-1",
        "-",
        "0",
        "5",
        "abc-1-",
        "abc--1",
        "ab-c-1",
        "abc_1",
        "abc-1_0",
        "abc-x",
        "abc-1.0",
        "abc-0x1",
    ),
    *(
        "abc-01",
        "abc-00",
        "abc-+1",
        "abc--0",
        "abc-1e3",
        "abc-\u0661",
        "abc-1\u0662",
        "abc-\xb2",
        "abc-\uff11",
        "ab\xe9-1",
    ),
    *("abc-12345678901234567890", "abc-10000000000000000000", "ABC-1", "aBc-1", "a" * 33 + "-1", "abc-1" + "0" * 5_000),
    *(" abc-1", "abc-1 ", "abc -1", "abc- 1", "abc-1\n", "\nabc-1", "abc-1\0", "abc\0-1", "\ufeffabc-1", "abc\u20101"),
    *(
        "Earliest",
        "EARLIEST",
        "earliest ",
        "latest",
        "null",
        "None",
        "*",
        "%",
        "'; --",
        "{}",
        "x" * 100_000,
        "🐟" * 300,
    ),
]


def is_reset(event: DeliveredEvent, reason: str, requested: str | None, oldest: str | None) -> bool:
    """Whether it is this reset and nothing else."""
    assert (event.event, event.control) == ("reset", True)
    assert event.data == {"reason": reason, "requested": requested, "oldest": oldest}
    return True


async def resumes(broker: Broker, reset: DeliveredEvent, following: list[str], *channels: str) -> None:
    """From the id of a reset come the events that followed it, and no other reset."""
    async with broker.subscribe(*channels, last_event_id=reset.id) as subscription:
        assert ids(await take(subscription, len(following))) == following
        later = await broker.publish(channels[0], "after a reset")
        assert ids(await take(subscription, 1)) == [later]


async def test_an_id_of_another_log_is_reset_by_epoch_and_given_everything(new_log: Callable[[], Log]) -> None:
    async with Broker(**new_log()) as other:
        (*_, foreign) = await fill(other, "news", range(20))
    async with Broker(**new_log()) as broker:
        published = await fill(broker, "news", range(5))
        events = await take(broker.subscribe("news", last_event_id=foreign), 6)
        assert is_reset(events[0], "epoch", foreign, published[0])
        assert position(events[0].id) == (position(published[0])[0], sequence(published[0]) - 1)
        assert ids(events[1:]) == published
        await resumes(broker, events[0], published, "news")


@pytest.mark.parametrize("foreign", ["0-0", "zz-1", "0" * 32 + "-5", "earliest-1", "abc-9999999999999999999"])
async def test_any_other_epoch_is_reset(broker: Broker, foreign: str) -> None:
    published = await broker.publish("news", 1)
    events = await take(broker.subscribe("news", last_event_id=foreign), 2)
    assert is_reset(events[0], "epoch", foreign, published)
    assert ids(events[1:]) == [published]


async def test_who_missed_what_was_trimmed_is_reset_and_given_what_is_retained(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        published = await fill(broker, "news", range(10))
        before_all = f"{position(published[0])[0]}-0"
        for seen in (before_all, published[0], published[5]):
            events = await take(broker.subscribe("news", last_event_id=seen), 4)
            assert is_reset(events[0], "trimmed", seen, published[7])
            assert sequence(events[0].id) == sequence(published[7]) - 1
            assert ids(events[1:]) == published[7:]
        await resumes(broker, events[0], published[7:], "news")


async def test_a_reset_by_trimming_repeats_nothing_of_other_channels(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        quiet = await fill(broker, "quiet", ["seen", "seen too"])
        seen = await broker.publish("busy", "seen")
        quiet += await fill(broker, "quiet", ["missed"])
        busy = await fill(broker, "busy", range(10))
        events = await take(broker.subscribe("busy", "quiet", last_event_id=seen), 5)
        assert is_reset(events[0], "trimmed", seen, quiet[-1])
        assert ids(events[1:]) == [quiet[-1], *busy[-3:]]


async def test_after_a_reset_on_several_channels_nothing_is_lost(log: Log) -> None:
    async with Broker(**log, history=3) as broker:
        seen = await broker.publish("busy", "seen")
        quiet = await broker.publish("quiet", "missed")
        busy = await fill(broker, "busy", range(10))
        (reset,) = await take(broker.subscribe("busy", "quiet", last_event_id=seen), 1)
        events = await take(broker.subscribe("busy", "quiet", last_event_id=reset.id), 4)
        if events[0].control:  # there may be another one: the position is behind one channel's mark, not the other's
            events = events[1:] + await take(broker.subscribe("busy", last_event_id=busy[-2]), 1)
        assert ids(events) == [quiet, *busy[-3:]]


@pytest.mark.parametrize("ahead", [1, 2, 1_000_000, None])
async def test_an_id_never_given_out_is_reset_as_ahead_and_given_everything(broker: Broker, ahead: int | None) -> None:
    published = await fill(broker, "news", range(5))
    await broker.publish("other", "the newest")
    epoch, newest = position(published[-1])
    requested = f"{epoch}-{'9' * 19 if ahead is None else newest + 1 + ahead}"
    events = await take(broker.subscribe("news", last_event_id=requested), 6)
    assert is_reset(events[0], "ahead", requested, published[0])
    assert ids(events[1:]) == published
    await resumes(broker, events[0], published, "news")


async def test_a_malformed_id_is_reset_and_given_everything(broker: Broker) -> None:
    published = await fill(broker, "news", range(3))
    for id in MALFORMED:
        async with broker.subscribe("news", last_event_id=id) as subscription:
            events = await take(subscription, 4)
        assert is_reset(events[0], "malformed", id[:256], published[0])
        assert ids(events[1:]) == published


async def test_an_id_of_half_characters_is_malformed_and_can_be_answered(broker: Broker) -> None:
    await broker.publish("news", 1)
    response = EventSourceResponse(broker.subscribe("news", last_event_id="\ud83d-1"))
    async with Connection(response) as client:
        await client.until(b"data: 1\n")
        reset, event = client.events
        assert reset.json()["reason"] == "malformed"
        assert event.json() == 1


@pytest.mark.parametrize(("requested", "reason"), [("no id", "malformed"), ("zz-7", "epoch")])
async def test_a_reset_on_a_channel_never_used_has_no_oldest(broker: Broker, requested: str, reason: str) -> None:
    newest = await broker.publish("other", 1)
    subscription = broker.subscribe("never used", last_event_id=requested)
    (reset,) = await take(subscription, 1)
    assert is_reset(reset, reason, requested, None)
    assert reset.id == newest
    published = await broker.publish("never used", "first")
    assert ids(await take(subscription, 1)) == [published]
    await resumes(broker, reset, [published], "never used")


async def test_a_reset_of_a_log_that_holds_nothing_is_before_everything(broker: Broker) -> None:
    subscription = broker.subscribe("news", last_event_id="no id")
    (reset,) = await take(subscription, 1)
    epoch, number = position(reset.id)
    assert number == 0
    published = await broker.publish("news", "first")
    assert position(published)[0] == epoch
    assert ids(await take(subscription, 1)) == [published]
    await resumes(broker, reset, [published], "news")
    ahead = await take(broker.subscribe("never used", last_event_id=f"{epoch}-99"), 1)
    assert is_reset(ahead[0], "ahead", f"{epoch}-99", None)


async def test_the_id_before_everything_of_a_log_that_holds_nothing_is_no_reset(broker: Broker) -> None:
    (reset,) = await take(broker.subscribe("news", last_event_id="no id"), 1)
    subscription = broker.subscribe("news", last_event_id=reset.id)
    await broker.publish("news", "first")
    assert data(await take(subscription, 1)) == ["first"]


async def test_a_reset_passes_a_filter_by(broker: Broker) -> None:
    asked: list[Any] = []
    await broker.publish("news", 1)
    subscription = broker.subscribe("news", last_event_id="no id", where=lambda event: asked.append(event.data))
    assert [event.event for event in await take(subscription, 1)] == ["reset"]
    await broker.finish("news")
    assert await rest(subscription) == []
    assert asked == [1]


async def test_a_response_sends_a_reset_with_its_id_before_what_is_retained(log: Log) -> None:
    async with Broker(**log, history=2) as broker:
        published = await fill(broker, "news", range(5))
        epoch, first = position(published[3])
        async with Connection(EventSourceResponse(broker.subscribe("news", last_event_id=published[0]))) as client:
            await client.until(f"data: 4\nid: {published[4]}\n\n".encode())
            reset, *events = client.events
            assert reset.event == "reset"
            assert reset.json() == {"reason": "trimmed", "requested": published[0], "oldest": published[3]}
            assert reset.id == f"{epoch}-{first - 1}"
            assert [event.id for event in events] == published[3:]


# -- a loss while connected -------------------------------------------------------------------------------------------


async def flood(publisher: Broker, reader: Broker) -> list[Any]:
    """Publish so much that the reader's process has forgotten what was before; returns it in order.

    That is so when an event reaches somebody who waits for it: what a process is told, it is told in order.
    """
    stored = await burst(publisher, "news", range(MORE_THAN_A_TAIL))
    before = await publisher.publish("news", "nearly all")
    await publisher.publish("news", "all")
    async with reader.subscribe("news", last_event_id=before) as waiting:
        await take(waiting, 1)
        await publisher.publish("news", "arrived")
        await take(waiting, 1)
    return [*stored, "nearly all", "all", "arrived"]


async def test_who_stalls_until_history_is_gone_is_reset_in_the_running_stream(log: Log) -> None:
    async with Broker(**log, history=10) as broker:
        start = await broker.publish("news", "start")
        subscription = broker.subscribe("news", last_event_id=start)
        seen = await broker.publish("news", "seen")
        assert ids(await take(subscription, 1)) == [seen]
        for _ in range(2):  # it may happen again
            stored = await flood(broker, broker)
            events = await take(subscription, 11)
            assert is_reset(events[0], "trimmed", seen, events[1].id)
            assert sequence(seen) < sequence(events[0].id) < sequence(events[1].id)
            assert data(events[1:]) == stored[-10:]
            seen = await broker.publish("news", "seen")
            assert ids(await take(subscription, 1)) == [seen]


@pytest.mark.parametrize("with_id", [True, False])
async def test_who_stalls_before_the_first_event_is_reset_with_what_it_came_with(log: Log, *, with_id: bool) -> None:
    async with Broker(**log, history=10) as broker:
        requested = await broker.publish("news", "start") if with_id else None
        async with stalled(broker, requested) as client:
            stored = await flood(broker, broker)
            client.read_on()
            await client.until(lambda: len(client.events) == 11)
            reset, *events = client.events
            assert reset.json() == {"reason": "trimmed", "requested": requested, "oldest": events[0].id}
            assert [event.json() for event in events] == stored[-10:]


async def test_a_response_that_stalls_is_reset_with_the_id_that_it_sent_last(log: Log) -> None:
    async with Broker(**log, history=10) as broker:
        start = await broker.publish("news", "start")
        response = EventSourceResponse(broker.subscribe("news", last_event_id=start), send_timeout=None)
        async with Connection(response) as client:
            await client.until(lambda: client.messages)
            client.stop_reading()
            last = await broker.publish("news", "last")
            await client.until_blocked()
            assert last.encode() in client.body
            stored = await flood(broker, broker)
            client.read_on()
            await client.until(lambda: len(client.events) == 12)
            _, reset, *events = client.events
            assert reset.json() == {"reason": "trimmed", "requested": last, "oldest": events[0].id}
            assert [event.json() for event in events] == stored[-10:]


def stalled(broker: Broker, last_event_id: str | None) -> _Stalled:
    """A response that is begun, to a client that does not read on."""
    return _Stalled(EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id), send_timeout=None))


class _Stalled(Connection):
    async def __aenter__(self) -> Self:
        self.stop_reading()
        await super().__aenter__()
        await self.until_blocked()
        return self
