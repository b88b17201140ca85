"""Whatever happens in whatever order between a storage, the log and its readers: each event once, in order, or a reset.

The storage is one whose log is elsewhere: others append to it and lose it, and what is told of it comes late, over a
connection that is to be asked for each channel and may be lost at any moment, and something that was told with it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.broker.no_runs import WithoutRuns
from tests.broker.test_reader import Called, Waiting
from tidings.broker import log as log_module
from tidings.broker.entry import Draft, Entry, Kind, parse_id, split_frame
from tidings.broker.log import Log
from tidings.broker.reader import OpenBroker, Reader
from tidings.broker.storage import ChannelInfo, Feed, Page
from tidings.errors import StorageError

EVENT = Draft(Kind.JSON, b"data: 1\n", b"\n")
PAGE_ENTRIES = 2


class Elsewhere:
    """One log as it is where it is kept, from its beginning to its loss."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.entries: list[Entry] = []
        self.trimmed: dict[str, int] = {}

    def append(self, channel: str) -> Entry:
        sequence = len(self.entries) + 1
        self.entries.append(Entry(sequence, channel, EVENT.kind, 0.0, EVENT.frame(self.epoch, sequence)))
        return self.entries[-1]

    def trim(self, channel: str, left: int) -> None:
        of_channel = [entry.sequence for entry in self.entries if entry.channel == channel]
        if len(of_channel) > left:
            self.trimmed[channel] = max(self.trimmed.get(channel, 0), of_channel[-left - 1])

    def shows(self, entry: Entry) -> bool:
        return entry.sequence > self.trimmed.get(entry.channel, 0)

    def page(self, channels: Sequence[str], after: int | None) -> Page:
        found: list[Entry] = []
        if after is not None:
            found = [each for each in self.entries if each.channel in channels and each.sequence > after]
        found = [entry for entry in found if self.shows(entry)]
        newest = len(self.entries)
        position = newest if len(found) <= PAGE_ENTRIES else found[PAGE_ENTRIES - 1].sequence
        trimmed = max((self.trimmed.get(channel, 0) for channel in channels), default=0)
        return Page(self.epoch, found[:PAGE_ENTRIES], position, newest, trimmed, finished=False)


class DistantStorage(WithoutRuns):
    """Knows of the log what it is told."""

    def __init__(self) -> None:
        self.logs = [Elsewhere("e0")]
        self.epoch = "e0"
        self.log = Log(self.listen, self.unlisten)
        self.away = False
        self._read: set[str] = set()  # the channels that are read
        self._wanted: set[str] = set()  # and those that were a moment ago
        # Of the connection: what is subscribed to, of that what is not fed yet, the newest that was heard of what is
        # fed, and what is on its way, each with its predecessor in the channel.
        self._subscribed: set[str] = set()
        self._fresh: list[str] = []
        self._last: dict[str, int] = {}
        self._told: deque[tuple[str, Entry, int]] = deque()
        # What was dropped on its way; of each channel the newest of that, until it is noticed.
        self.dropped: set[tuple[str, int]] = set()
        self.unnoticed: dict[str, int] = {}

    # -- as a broker uses it ------------------------------------------------------------------------------------------

    async def open(self, feed: Feed) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def append(self, channel: str, draft: Draft) -> str:
        raise NotImplementedError

    async def finish(self, channel: str) -> None:
        raise NotImplementedError

    async def channels(self, after: str, most: int) -> Sequence[ChannelInfo]:
        raise NotImplementedError

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        await asyncio.sleep(0)
        if self.away and not self.unnoticed:
            self.away = False
            self._cut()
            raise StorageError("away", temporary=True)
        known = self.epoch
        page = self.logs[-1].page(channels, after)
        await asyncio.sleep(0)
        if self.epoch == known:  # else the answer is late: another one has said more meanwhile
            self._learn(page.epoch)
        return page

    def listen(self, channel: str) -> int | None:
        assert channel not in self._read
        self._read.add(channel)
        self._wanted.add(channel)
        return self._last.get(channel)

    def unlisten(self, channel: str) -> None:
        self._read.remove(channel)  # and it is fed for a while longer

    def _learn(self, epoch: str) -> None:
        if epoch != self.epoch:
            self.epoch = epoch
            self.log.lose()
            self._cut()

    # -- what may happen ----------------------------------------------------------------------------------------------

    def publish(self, channel: str) -> None:
        log = self.logs[-1]
        before = max((entry.sequence for entry in log.entries if entry.channel == channel), default=0)
        entry = log.append(channel)
        if channel in self._subscribed:
            self._told.append((log.epoch, entry, before))

    def trim(self, channel: str, left: int) -> None:
        self.logs[-1].trim(channel, left)

    def lose(self) -> None:
        """The log is lost, which nobody here knows yet."""
        self.logs.append(Elsewhere(f"e{len(self.logs)}"))

    def subscribe(self, *channels: str) -> None:
        """Be told from now on of these channels, if somebody reads them."""
        coming = [channel for channel in channels if channel in self._wanted - self._subscribed]
        self._subscribed.update(coming)
        self._fresh += coming

    def unsubscribe(self) -> None:
        """Be told no more of those that nobody reads."""
        for channel in sorted(self._wanted - self._read):
            self._wanted.discard(channel)
            self._subscribed.discard(channel)
            self._last.pop(channel, None)
            self.unnoticed.pop(channel, None)
            if channel in self._fresh:
                self._fresh.remove(channel)

    def confirm(self, count: int) -> None:
        """Ask where the log stands, for some of those that it was subscribed to."""
        if self._fresh:
            self._learn(self.logs[-1].epoch)  # which may forget them
        newest = len(self.logs[-1].entries)
        confirmed, self._fresh = self._fresh[:count], self._fresh[count:]
        for channel in confirmed:
            self._last[channel] = newest
            self.log.skip(newest, channel)

    def hear(self, count: int) -> None:
        """Take what was told."""
        while self._told and count:
            count -= 1
            epoch, entry, before = self._told.popleft()
            if epoch != self.epoch:
                self._learn(epoch)
                return
            last = self._last.get(entry.channel, entry.sequence)
            if entry.sequence <= last:
                continue
            self._last[entry.channel] = entry.sequence
            if before > last:
                if before == self.unnoticed.get(entry.channel):
                    del self.unnoticed[entry.channel]
                self.log.miss(entry.channel, last, before)
            self.log.append([entry])

    def drop(self, channel: str) -> None:
        """Publish something that is lost when it is told of, while the connection goes on."""
        self.publish(channel)
        if channel in self._subscribed:
            epoch, entry, _ = self._told.pop()
            if epoch == self.epoch and entry.sequence > self._last.get(channel, entry.sequence):
                self.dropped.add((epoch, entry.sequence))
                self.unnoticed[channel] = entry.sequence

    def cut(self) -> None:
        """The connection is lost: not one that lost something unnoticed, of which nobody would ever know."""
        if not self.unnoticed:
            self._cut()

    def _cut(self) -> None:
        # What was on its way is lost with it.
        self.unnoticed.clear()
        self._subscribed.clear()
        self._fresh.clear()
        self._last.clear()
        self._told.clear()


class Subscriber:
    """Reads, and holds what it is given against what there was."""

    def __init__(self, storage: DistantStorage, channels: set[str], requested: str | None, *, called: bool) -> None:
        self.channels = tuple(sorted(channels))
        self.requested = requested
        self._storage = storage
        self._reader = Reader(OpenBroker(storage, storage.log, None), self.channels, requested)
        self._way = Called if called else Waiting
        self._reading: Called | Waiting | None = None
        self._before = (storage.logs[-1].epoch, len(storage.logs[-1].entries))
        self._begin = ("", 0)  # where it began, as it says itself
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._reader.begin()
        except StorageError:
            return
        self._begin = (self._reader.epoch, self._reader.position)
        self._reading = self._way(self._reader)

    def leave(self) -> None:
        self._reader.leave()

    @property
    def given(self) -> list[Entry]:
        return [] if self._reading is None else self._reading.entries

    async def end(self) -> None:
        self._reader.leave()
        await self._task
        if self._reading is not None:
            await self._reading._task

    def check(self, *, everything: bool) -> None:
        """Each event once, in order, none missing but behind a reset and dropped; if so, up to the newest."""
        assert self._task.done()
        if self._reading is None:
            return  # the storage was away
        logs = {log.epoch: log for log in self._storage.logs}
        epoch, position, excused = self._start()
        last = None if self.requested == "earliest" else self.requested
        for number, entry in enumerate(self.given):
            id = entry.frame.rpartition(b"id: ")[2].partition(b"\n")[0].decode()
            parsed = parse_id(id)
            assert parsed is not None
            if entry.kind == Kind.CONTROL:
                reset = json.loads(split_frame(entry.frame)[1])
                assert reset["requested"] == last
                if reset["reason"] == "epoch":
                    assert parsed[0] != epoch
                    epoch, position = parsed[0], 0
                assert reset["reason"] in {"epoch", "trimmed", "ahead"}
                excused = True
                missing = self._between(logs[epoch], position, parsed[1])
                assert not any(map(logs[epoch].shows, missing)), (number, missing)
            else:
                assert parsed == (epoch, entry.sequence), (number, epoch)
                assert entry.channel in self.channels
                assert entry.sequence > position, (number, position)
                missing = self._between(logs[epoch], position, entry.sequence - 1)
                missing = [each for each in missing if not self._follows(each, epoch, number)]
                assert not missing or excused, (number, missing)
                assert not any(map(logs[epoch].shows, missing)), (number, missing)
            position = parsed[1]
            last = id
        if everything:
            newest = self._storage.logs[-1]
            assert epoch == newest.epoch
            missing = self._between(newest, position, len(newest.entries))
            assert not missing or excused, missing
            assert not any(map(newest.shows, missing)), missing

    def _follows(self, entry: Entry, epoch: str, number: int) -> bool:
        """Whether an entry was lost on its way, and a reset behind what was given in its place begins before it.

        Or behind it, where it is dropped.
        """
        log = next(each for each in self._storage.logs if each.epoch == epoch)
        if (epoch, entry.sequence) not in self._storage.dropped:
            return False
        resets = [each for each in self.given[number:] if each.kind == Kind.CONTROL]
        ids = [parse_id(each.frame.rpartition(b"id: ")[2].partition(b"\n")[0].decode()) for each in resets]
        return any(id is not None and (id[0] != epoch or id[1] < entry.sequence or not log.shows(entry)) for id in ids)

    def _start(self) -> tuple[str, int, bool]:
        """The log, the position in it, and whether what was dropped may be missing without a reset."""
        epoch, position = self._begin
        if self.requested is None:
            assert epoch != self._before[0] or position >= self._before[1]
            return epoch, position, False
        if self.requested == "earliest":
            return epoch, 0, True
        parsed = parse_id(self.requested)
        assert parsed is not None
        return *parsed, False

    def _between(self, log: Elsewhere, after: int, up_to: int) -> list[Entry]:
        return [entry for entry in log.entries[after:up_to] if entry.channel in self.channels]


channels = st.sampled_from("abc")
starts = st.sampled_from([None, "earliest", "id"])
steps = st.one_of(
    *[st.tuples(st.just("publish"), channels)] * 3,
    *[st.tuples(st.just("hear"), st.integers(1, 5))] * 2,
    *[st.tuples(st.just("subscribe"), channels)] * 2,
    *[st.tuples(st.just("confirm"), st.integers(1, 3))] * 2,
    st.tuples(st.sampled_from(["cut", "lose", "away", "unsubscribe"])),
    st.tuples(st.just("trim"), channels, st.integers(0, 2)),
    st.tuples(st.just("drop"), channels),
    st.tuples(st.just("begin"), st.sets(channels, min_size=1), st.booleans(), starts),
    st.tuples(st.just("leave"), st.integers(0, 9)),
)
histories = st.lists(st.tuples(steps, st.sampled_from([0, 0, 0, 1, 2, 3, 10])), min_size=20, max_size=80)


async def turn(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def id_of(storage: DistantStorage, back: int) -> str:
    """That of an event in the middle of a log, of the present one or of one before."""
    log = storage.logs[max(0, len(storage.logs) - 1 - back)]
    return f"{log.epoch}-{len(log.entries) // 2}"


async def live(history: list[tuple[tuple[Any, ...], int]]) -> None:
    storage = DistantStorage()
    # Some are there from the beginning on, each in its way.
    groups: list[set[str]] = [{"a", "b"}, {"a", "b"}, {"b"}]
    subscribers = [Subscriber(storage, read, None, called=number > 0) for number, read in enumerate(groups)]
    gone: list[Subscriber] = []
    for (step, *arguments), turns in history:
        if step == "begin":
            read, called, requested = arguments
            requested = id_of(storage, turns // 3) if requested == "id" else requested
            subscribers.append(Subscriber(storage, read, requested, called=called))
        elif step == "leave":
            if subscribers and not storage.unnoticed:
                gone.append(subscribers.pop(arguments[0] % len(subscribers)))
                gone[-1].leave()
        elif step == "away":
            storage.away = True
        else:
            getattr(storage, step)(*arguments)
        await turn(turns)
    await at_the_end(storage, subscribers)
    for subscriber in gone:
        await subscriber.end()
        subscriber.check(everything=False)
    assert not storage.log._views
    assert not storage._read


async def at_the_end(storage: DistantStorage, subscribers: list[Subscriber]) -> None:
    """Nothing more happens: what is on its way arrives, and the connection goes on as it should."""
    await settle(storage)
    if not storage.unnoticed and storage.epoch == storage.logs[-1].epoch:  # else the next event says so
        for subscriber in subscribers:
            subscriber.check(everything=True)
    for channel in "abc":
        storage.publish(channel)
    await settle(storage)
    for subscriber in subscribers:
        subscriber.check(everything=True)
        await subscriber.end()


async def settle(storage: DistantStorage) -> None:
    for _ in range(4):
        storage.subscribe(*"abc")
        storage.confirm(3)
        storage.hear(1_000)
        await turn(60)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(histories)
def test_each_event_comes_once_and_in_order_or_a_reset_says_why_not(
    history: list[tuple[tuple[Any, ...], int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "_TAIL_ENTRIES", 4)
        patch.setattr(log_module, "_SLICE", 2)
        asyncio.run(live(history))
