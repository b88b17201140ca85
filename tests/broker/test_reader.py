"""One subscriber's way from the storage to the log and back, on a storage that does what a test says."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.asgi import PATIENCE
from tests.broker.contract.reading import until
from tests.broker.no_runs import WithoutRuns
from tidings.broker import log as log_module
from tidings.broker.entry import FINISH, Draft, Entry, Kind, split_frame
from tidings.broker.log import Batch, Log
from tidings.broker.reader import OpenBroker, Reader
from tidings.broker.storage import ChannelInfo, Feed, Page
from tidings.broker.subscription import GuardedSubscription, Subscription
from tidings.errors import BrokerClosed, StorageError
from tidings.wire.frames import Frames

pytestmark = pytest.mark.anyio

EVENT = Draft(Kind.JSON, b"data: 1\n", b"\n")


class FakeStorage(WithoutRuns):
    """Keeps everything, feeds when it is told to, and reads in three steps between which anything may happen."""

    epoch = "e"

    def __init__(self) -> None:
        self.stored: list[Entry] = []
        self.trimmed: dict[str, int] = {}
        self.fed = 0
        self.feeds = False  # from the moment on that somebody listens, as the memory does
        self.listened: list[str] = []  # the channels, as often as somebody listens to them
        self.reads: list[int | None] = []
        self.page_entries = 500
        self.error: Exception | None = None
        self.asked: list[Callable[[], object]] = []
        self.answered: list[Callable[[], object]] = []
        self.log = Log(self.listen, self.unlisten)

    @property
    def newest(self) -> int:
        return len(self.stored)

    def store(self, channel: str = "a", draft: Draft = EVENT) -> int:
        sequence = self.newest + 1
        self.stored.append(Entry(sequence, channel, draft.kind, 0.0, draft.frame(self.epoch, sequence)))
        return sequence

    def feed(self) -> None:
        """Feed what is stored and wasn't fed."""
        if self.feeds:
            entries, self.fed = self.stored[self.fed :], self.newest
            if entries:
                self.log.append(entries)

    def put(self, *channels: str, draft: Draft = EVENT) -> None:
        for channel in channels:
            self.store(channel, draft)
        self.feed()

    def skip(self) -> None:
        self.feeds = True
        self.fed = self.newest
        self.log.skip(self.fed)

    def trim(self, channel: str, up_to: int) -> None:
        self.trimmed[channel] = up_to

    def lose(self, epoch: str = "f") -> None:
        """Begin another log, which isn't fed yet."""
        self.epoch = epoch
        self.stored = []
        self.trimmed = {}
        self.fed = 0
        self.feeds = False
        self.log.lose()

    async def open(self, feed: Feed) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def append(self, channel: str, draft: Draft) -> str:
        raise NotImplementedError

    async def finish(self, channel: str) -> None:
        raise NotImplementedError

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        self.reads.append(after)
        await asyncio.sleep(0)
        steps, self.asked = self.asked, []
        for step in steps:
            step()
        if self.error is not None:
            raise self.error
        page = self._page(channels, after)
        await asyncio.sleep(0)
        steps, self.answered = self.answered, []
        for step in steps:
            step()
        return page

    async def channels(self, after: str, most: int) -> Sequence[ChannelInfo]:
        raise NotImplementedError

    def _page(self, channels: Sequence[str], after: int | None) -> Page:
        trimmed = max((self.trimmed.get(name, 0) for name in channels), default=0)
        shown = [
            entry
            for entry in self.stored
            if entry.channel in channels
            and entry.kind != Kind.FINISH
            and entry.sequence > self.trimmed.get(entry.channel, 0)
        ]
        entries = [] if after is None else [entry for entry in shown if entry.sequence > after]
        last = {entry.channel: entry.kind for entry in self.stored}
        position = self.newest
        if len(entries) > self.page_entries:
            entries = entries[: self.page_entries]
            position = entries[-1].sequence
        finished = all(last.get(name) == Kind.FINISH for name in channels)
        return Page(self.epoch, entries, position, self.newest, trimmed, finished)

    def listen(self, channel: str) -> int | None:
        self.listened.append(channel)
        return self.fed if self.feeds else None

    def unlisten(self, channel: str) -> None:
        self.listened.remove(channel)


@pytest.fixture
async def storage() -> FakeStorage:
    storage = FakeStorage()
    storage.feeds = True
    return storage


def reader_of(storage: FakeStorage, *channels: str, requested: str | None = None) -> Reader:
    return Reader(OpenBroker(storage, storage.log, None), channels or ("a",), requested)


async def begun(storage: FakeStorage, *channels: str, requested: str | None = None) -> Reader:
    reader = reader_of(storage, *channels, requested=requested)
    await reader.begin()
    return reader


class Waiting:
    """Reads as an iterator does: it waits for what comes next."""

    def __init__(self, reader: Reader) -> None:
        self.entries: list[Entry] = []
        self._task = asyncio.create_task(self._read(reader))

    async def _read(self, reader: Reader) -> None:
        while (batch := await reader.next()) is not None:
            self.entries += batch.entries

    @property
    def ended(self) -> bool:
        return self._task.done() and self._task.exception() is None

    def stop(self) -> None:
        self._task.cancel()


def batch_of(frames: Frames | None) -> Batch | None:
    """What a reader's listener is given."""
    assert frames is None or isinstance(frames, Batch)
    return frames


class Called:
    """Reads as a response does: it is called when there is something, and takes it or lets a task fetch it."""

    def __init__(self, reader: Reader) -> None:
        self.entries: list[Entry] = []
        self.calls: list[Batch | None] = []
        self.takes = True
        self.reading = False
        self._reader = reader
        self._bell = asyncio.Event()
        reader.listener = self
        self._task = asyncio.create_task(self._read())

    def on_news(self, frames: Frames | None) -> bool:
        assert frames is None or not self.reading
        batch = batch_of(frames)
        self.calls.append(batch)
        if batch is not None and self.takes:
            self.entries += batch.entries
            return True
        self._bell.set()
        return False

    async def _read(self) -> None:
        while not self._reader.ended:
            self.reading = True
            while (batch := await self._reader.ready()) is not None:
                self.entries += batch.entries
            self.reading = False
            if not self._reader.ended:
                await self._bell.wait()
                self._bell.clear()

    @property
    def ended(self) -> bool:
        return self._task.done() and self._task.exception() is None

    def stop(self) -> None:
        self._task.cancel()


BOTH = pytest.mark.parametrize("way", [Waiting, Called])
Way = Callable[[Reader], Waiting | Called]


def sequences(entries: Sequence[Entry]) -> list[int]:
    return [entry.sequence for entry in entries]


def ids(entries: Sequence[Entry]) -> list[str]:
    """As they were sent."""
    return [entry.frame.rpartition(b"id: ")[2].partition(b"\n")[0].decode() for entry in entries]


def resets(entries: Sequence[Entry]) -> list[tuple[str, str | None, str | None]]:
    """Why, the id asked for, and the oldest."""
    found = (json.loads(split_frame(entry.frame)[1]) for entry in entries if entry.kind == Kind.CONTROL)
    return [(reset["reason"], reset["requested"], reset["oldest"]) for reset in found]


async def at_rest(storage: FakeStorage) -> None:
    """Until everybody has read what there is: nothing here takes longer than some turns of the event loop."""
    for _ in range(40):
        await asyncio.sleep(0)
    assert storage.log._sleepers is None


async def reset_in(reading: Waiting | Called, at: int = 0) -> dict[str, Any]:
    await until(lambda: len(reading.entries) > at, "something comes")
    entry = reading.entries[at]
    assert entry.kind == Kind.CONTROL
    name, text = split_frame(entry.frame)
    assert name == "reset"
    found: dict[str, Any] = json.loads(text)
    return found


# -- the seam between the storage's page and the log's tail -----------------------------------------------------------


def schedules() -> Iterator[tuple[tuple[int, ...], int, tuple[int, ...]]]:
    """When each of two events is stored, when the feed starts, and when each event is fed.

    0 is before the subscription begins, 1 while the storage is asked, 2 when it has looked, 3 when it has begun.
    """
    for stored in itertools.combinations_with_replacement(range(4), 2):
        for skipped in range(4):
            for fed in itertools.combinations_with_replacement(range(4), 2):
                if all(store <= feed for store, feed in zip(stored, fed, strict=True)):
                    yield stored, skipped, fed


@BOTH
@pytest.mark.parametrize("requested", [None, "earliest", "e-0", "e-1", "no id"])
@pytest.mark.parametrize("page_entries", [1, 500])
async def test_nothing_is_lost_or_doubled_at_the_seam(requested: str | None, page_entries: int, way: Way) -> None:
    for schedule in schedules():
        stored, skipped, fed = schedule
        storage = FakeStorage()
        storage.page_entries = page_entries

        def act(
            stage: int,
            storage: FakeStorage = storage,
            stored: tuple[int, ...] = stored,
            skipped: int = skipped,
            fed: tuple[int, ...] = fed,
        ) -> None:
            for _ in range(stored.count(stage)):
                storage.store()
            if stage == skipped:
                storage.skip()
            to_feed = sum(at <= stage for at in fed)
            if storage.feeds and to_feed > storage.fed:
                entries = storage.stored[storage.fed : to_feed]
                storage.fed = to_feed
                storage.log.append(entries)

        act(0)
        storage.asked = [lambda: act(1)]
        storage.answered = [lambda: act(2)]
        reader = await begun(storage, requested=requested)
        reading = way(reader)
        act(3)
        last = storage.store()
        storage.feed()
        await at_rest(storage)
        found = sequences([entry for entry in reading.entries if entry.kind != Kind.CONTROL])
        known = {None: sum(at < 2 for at in stored), "e-1": int(stored[0] < 2)}.get(requested, 0)
        assert found == list(range(known + 1, last + 1)), schedule
        resets = [at for at, entry in enumerate(reading.entries) if entry.kind == Kind.CONTROL]
        assert resets == ([0] if requested == "no id" or (requested == "e-1" and not known) else []), schedule
        reading.stop()
        reader.leave()
        assert storage.listened == []


# -- history ----------------------------------------------------------------------------------------------------------


async def test_history_is_read_page_by_page_and_then_the_log(storage: FakeStorage) -> None:
    storage.page_entries = 2
    storage.put(*"aabab")
    reader = await begun(storage, requested="earliest")
    reading = Called(reader)
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 4]
    assert storage.reads == [0, 2]
    storage.put("a")
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 4, 6]
    assert storage.reads == [0, 2]
    reading.stop()


async def test_a_position_is_that_of_what_was_given(storage: FakeStorage) -> None:
    storage.put(*"bbaab")
    reader = await begun(storage, requested="earliest")
    assert (reader.position, reader.last) == (2, None)  # the third is the next
    assert (await reader.ready()) is not None
    assert (reader.position, reader.last) == (5, 4)
    assert (await begun(storage)).position == 5
    resumed = await begun(storage, requested="e-3")
    assert resumed.last == 3


@BOTH
async def test_a_laggard_reads_on_from_the_storage(
    storage: FakeStorage, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_TAIL_ENTRIES", 4)
    storage.page_entries = 3
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put(*"a" * 20)
    # More comes while it reads: it is never done with the storage before it has caught up with the tail.
    storage.asked = [lambda: storage.put(*"a" * 5)]
    storage.answered = [lambda: storage.put(*"a" * 3)]
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    assert sequences(reading.entries) == list(range(1, 30))
    assert len(storage.reads) > 3
    reading.stop()


@BOTH
async def test_history_is_read_to_its_end_though_the_channel_is_not_fed_yet(storage: FakeStorage, way: Way) -> None:
    storage.page_entries = 2
    storage.put(*"aaaaa")
    storage.feeds = False
    reading = way(await begun(storage, requested="earliest"))
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3, 4, 5]
    assert storage.reads == [0, 2, 4]
    storage.skip()
    storage.put("a")
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3, 4, 5, 6]
    assert storage.reads == [0, 2, 4]
    reading.stop()


# -- losses -----------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_loss_while_connected_puts_a_reset_into_the_stream(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    for _ in range(3):
        storage.store()
    storage.trim("a", 3)
    storage.skip()
    assert await reset_in(reading, 1) == {"reason": "trimmed", "requested": "e-1", "oldest": "e-4"}
    storage.put("a")
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 3, 4, 5]
    reading.stop()


@BOTH
async def test_a_loss_before_the_first_event_names_no_id(storage: FakeStorage, way: Way) -> None:
    storage.put("a")
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.store()
    storage.trim("a", 2)
    storage.skip()
    assert await reset_in(reading) == {"reason": "trimmed", "requested": None, "oldest": None}
    assert sequences(reading.entries) == [2]
    reading.stop()


@BOTH
async def test_what_was_dropped_after_it_was_given_is_no_loss(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a", "a")
    await at_rest(storage)
    storage.store()
    storage.trim("a", 2)
    storage.skip()
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3]
    assert all(entry.kind == Kind.JSON for entry in reading.entries)
    reading.stop()


@pytest.mark.parametrize(
    ("requested", "trimmed", "expected"),
    [
        (None, 3, None),
        ("earliest", 3, None),
        ("e-3", 3, None),
        ("e-4", 3, None),
        ("e-2", 3, {"reason": "trimmed", "requested": "e-2", "oldest": "e-4"}),
        ("e-0", 3, {"reason": "trimmed", "requested": "e-0", "oldest": "e-4"}),
        ("e-0", 0, None),
        ("e-5", 5, None),
        ("e-4", 5, {"reason": "trimmed", "requested": "e-4", "oldest": None}),
        ("e-6", 3, {"reason": "ahead", "requested": "e-6", "oldest": "e-4"}),
        ("f-4", 3, {"reason": "epoch", "requested": "f-4", "oldest": "e-4"}),
        ("x", 5, {"reason": "malformed", "requested": "x", "oldest": None}),
    ],
)
async def test_how_a_subscription_begins(
    storage: FakeStorage, requested: str | None, trimmed: int, expected: dict[str, Any] | None
) -> None:
    storage.put(*"aaaaa")
    storage.trim("a", trimmed)
    reading = Waiting(await begun(storage, requested=requested))
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    given = sequences([entry for entry in reading.entries if entry.kind != Kind.CONTROL])
    if expected is None:
        assert len(given) == len(reading.entries)
        start = {None: 5, "earliest": trimmed}.get(requested) if requested in {None, "earliest"} else int(requested[2:])
        assert given == list(range(start + 1, 7))
    else:
        assert await reset_in(reading) == expected
        assert reading.entries[0].sequence == trimmed
        assert given == list(range(trimmed + 1, 7))
    reading.stop()


async def test_no_id_is_known_before_the_reset_was_given(storage: FakeStorage) -> None:
    # Else a stream that ends at once would tell its client to go on behind what it doesn't know that it missed.
    storage.put(*"aaa")
    reader = await begun(storage, requested="no id")
    assert reader.last is not None
    assert reader.last >= reader.position


# -- another epoch ----------------------------------------------------------------------------------------------------


@BOTH
async def test_a_log_that_is_lost_while_somebody_waits_is_reset_and_read_from_its_beginning(
    storage: FakeStorage, way: Way
) -> None:
    reader = await begun(storage)
    reading = way(reader)
    await at_rest(storage)
    storage.put("a", "a")
    await at_rest(storage)
    assert (reader.epoch, reader.last) == ("e", 2)
    storage.lose()
    storage.put("b", "a", "a", "a")
    await at_rest(storage)
    assert ids(reading.entries) == ["e-1", "e-2", "f-1", "f-2", "f-3", "f-4"]
    assert resets(reading.entries) == [("epoch", "e-2", "f-2")]
    assert (reader.epoch, reader.last, reader.position) == ("f", 4, 4)
    storage.put("a")  # behind what was read, before it is known from where on the log is fed
    await at_rest(storage)
    storage.skip()
    await at_rest(storage)
    storage.put("b", "a")
    await at_rest(storage)
    assert ids(reading.entries)[6:] == ["f-5", "f-7"]
    assert reader.position == 7
    reading.stop()


@BOTH
async def test_a_log_that_is_lost_and_holds_nothing_is_reset_at_its_beginning(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a", "a")
    await at_rest(storage)
    storage.lose()
    await at_rest(storage)
    assert resets(reading.entries) == [("epoch", "e-2", None)]
    assert ids(reading.entries)[2:] == ["f-0"]
    storage.skip()
    storage.put("a")
    await at_rest(storage)
    assert ids(reading.entries)[3:] == ["f-1"]
    reading.stop()


@BOTH
@pytest.mark.parametrize("stored", [0, 3])
async def test_a_log_that_is_lost_before_the_first_event_names_the_id_that_the_subscriber_came_with(
    storage: FakeStorage, way: Way, stored: int
) -> None:
    storage.put("a", "a")
    readers = [await begun(storage, requested=id) for id in (None, "e-2")]
    readings = [way(reader) for reader in readers]
    await at_rest(storage)
    storage.lose()
    storage.put(*("a" * stored))
    await at_rest(storage)
    oldest = "f-1" if stored else None
    assert [resets(reading.entries) for reading in readings] == [[("epoch", id, oldest)] for id in (None, "e-2")]
    for reading in readings:
        assert ids(reading.entries) == ["f-0", "f-1", "f-2", "f-3"][: stored + 1]
        reading.stop()


@BOTH
async def test_a_log_that_is_lost_twice_names_the_id_that_was_given_last(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    storage.lose("f")
    await at_rest(storage)
    storage.lose("g")
    storage.put("a", "a")
    await at_rest(storage)
    storage.skip()
    await at_rest(storage)
    storage.lose("h")
    await at_rest(storage)
    storage.skip()
    storage.put("a")
    await at_rest(storage)
    assert ids(reading.entries) == ["e-1", "f-0", "g-0", "g-1", "g-2", "h-0", "h-1"]
    assert resets(reading.entries) == [("epoch", "e-1", None), ("epoch", "f-0", "g-1"), ("epoch", "g-2", None)]
    reading.stop()


@BOTH
@pytest.mark.parametrize("step", ["asked", "answered"])
@pytest.mark.parametrize("again", ["asked", "answered"])
async def test_a_log_that_is_lost_again_while_the_new_one_is_read_is_reset_once(
    storage: FakeStorage, way: Way, step: str, again: str
) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)

    def lose(epoch: str) -> None:
        storage.lose(epoch)
        storage.put(*"aa")

    def lose_twice() -> None:
        lose("g")
        setattr(storage, again, [lambda: lose("h")])

    setattr(storage, step, [lose_twice])
    lose("f")
    await at_rest(storage)
    storage.skip()
    storage.put("a")
    await at_rest(storage)
    given = ids(reading.entries)
    # What was read before it was lost may be given; then each log begins with its reset.
    assert given[0] == "e-1"
    assert given[-4:] == ["h-0", "h-1", "h-2", "h-3"]
    found = resets(reading.entries)
    assert [reason for reason, _, _ in found] == ["epoch"] * len(found)
    at = [number for number, entry in enumerate(reading.entries) if entry.kind == Kind.CONTROL]
    assert [requested for _, requested, _ in found] == [given[number - 1] for number in at]
    assert [oldest for _, _, oldest in found] == [given[number + 1] for number in at]
    assert len(given) == 1 + 3 * len(at) + 1
    reading.stop()


@BOTH
@pytest.mark.parametrize("requested", ["earliest", "e-0", "x-1"])
async def test_a_log_that_is_lost_while_its_pages_are_read_goes_on_with_the_new_one(
    storage: FakeStorage, way: Way, requested: str
) -> None:
    storage.page_entries = 2
    storage.put(*"aaaaaa")
    reader = await begun(storage, requested=requested)  # the first page is read
    lost_at_once = [] if requested == "earliest" else [("epoch", "x-1", "e-1")] * (requested == "x-1")

    def lose() -> None:
        storage.lose()
        storage.put(*"aaa")

    storage.answered = [lose]  # and the second, just before
    reading = way(reader)
    await at_rest(storage)
    storage.skip()
    storage.put("a")
    await at_rest(storage)
    old = ["e-0"] * len(lost_at_once) + ["e-1", "e-2", "e-3", "e-4"]
    assert ids(reading.entries) == [*old, "f-0", "f-1", "f-2", "f-3", "f-4"]
    assert resets(reading.entries) == [*lost_at_once, ("epoch", "e-4", "f-1")]
    reading.stop()


@BOTH
async def test_a_log_that_is_lost_before_the_next_page_is_read_gives_no_more_of_the_old_one(
    storage: FakeStorage, way: Way
) -> None:
    storage.page_entries = 2
    storage.put(*"aaaaaa")
    reader = await begun(storage, requested="earliest")
    assert ids((await reader.ready() or Batch((), 0)).entries) == ["e-1", "e-2"]
    storage.lose()
    storage.put(*"aaaaa")
    storage.skip()
    reading = way(reader)
    await at_rest(storage)
    assert ids(reading.entries) == ["f-0", "f-1", "f-2", "f-3", "f-4", "f-5"]
    assert resets(reading.entries) == [("epoch", "e-2", "f-1")]
    reading.stop()


@BOTH
async def test_a_laggard_is_given_nothing_of_the_tail_of_a_log_that_was_lost(
    storage: FakeStorage, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tail holds the new log already, and the reader's position is one of the old log.
    monkeypatch.setattr(log_module, "_TAIL_ENTRIES", 3)
    reader = await begun(storage)
    reading = way(reader)
    await at_rest(storage)
    storage.put(*"aa")
    await at_rest(storage)
    storage.put(*"aaaaaa")
    storage.lose()
    storage.skip()
    storage.put(*"aaaaaaaaaaaa")
    await at_rest(storage)
    assert ids(reading.entries) == ["e-1", "e-2", "f-0", *(f"f-{number}" for number in range(1, 13))]
    reading.stop()


@BOTH
async def test_many_readers_of_a_log_that_is_lost_are_all_reset(storage: FakeStorage, way: Way) -> None:
    readings = [way(await begun(storage)) for _ in range(20)]
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    storage.lose()
    storage.skip()
    storage.put("a")  # as many as before: nothing joined for the old log is for this one
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    for reading in readings:
        assert ids(reading.entries) == ["e-1", "f-0", "f-1", "f-2"]
        assert resets(reading.entries) == [("epoch", "e-1", "f-1")]
        reading.stop()


@BOTH
async def test_channels_of_a_new_log_that_are_fed_one_after_the_other_are_given_in_order(
    storage: FakeStorage, way: Way
) -> None:
    reading = way(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a", "b")
    await at_rest(storage)
    storage.lose()
    storage.put("b", "a")
    await at_rest(storage)
    expected = ["e-1", "e-2", "f-0", "f-1", "f-2"]
    assert ids(reading.entries) == expected
    storage.log.skip(2, "a")
    storage.store("b")
    storage.store("a")
    storage.log.append(storage.stored[3:])
    await at_rest(storage)
    assert ids(reading.entries) == expected  # f-3, of the other channel, comes before it
    storage.log.skip(3, "b")
    await at_rest(storage)
    assert ids(reading.entries) == [*expected, "f-3", "f-4"]
    storage.store("b")
    storage.store("a")
    storage.log.append(storage.stored[4:])
    await at_rest(storage)
    assert ids(reading.entries) == [*expected, "f-3", "f-4", "f-5", "f-6"]
    assert resets(reading.entries) == [("epoch", "e-2", "f-1")]
    reading.stop()


@BOTH
async def test_a_channel_that_was_finished_in_a_log_that_is_lost_goes_on_in_the_new_one(
    storage: FakeStorage, way: Way
) -> None:
    reading = way(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a", draft=FINISH)
    await at_rest(storage)
    storage.lose()
    storage.skip()
    storage.put("b", draft=FINISH)
    await at_rest(storage)
    assert not reading.ended
    storage.put("a")
    storage.put("a", draft=FINISH)
    await until(lambda: reading.ended, "it ends")
    assert ids(reading.entries) == ["f-1", "f-2"]
    assert resets(reading.entries) == [("epoch", None, None)]


@BOTH
async def test_a_page_of_another_log_that_is_followed_by_one_of_the_own_repeats_nothing(
    storage: FakeStorage, way: Way
) -> None:
    # Two servers answer while one takes over; the one that is heard of last is right.
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put(*"aaa")
    await at_rest(storage)
    mine = storage.stored

    def take_over() -> None:
        storage.epoch, storage.stored = "f", []
        storage.asked = [take_back]

    def take_back() -> None:
        storage.epoch, storage.stored = "e", mine

    storage.asked = [take_over]
    storage.store()
    storage.skip()
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    assert ids(reading.entries) == ["e-1", "e-2", "e-3", "e-4", "e-5"]
    reading.stop()


# What a subscription begins with, and what it is given, if the log has another epoch once the storage has been asked.
BEGINNINGS: list[tuple[str | None, list[tuple[str, str | None, str | None]], list[str]]] = [
    (None, [], ["f-4"]),
    ("earliest", [], ["f-1", "f-2", "f-3", "f-4"]),
    ("e-1", [("epoch", "e-1", "f-1")], ["f-0", "f-1", "f-2", "f-3", "f-4"]),
    ("e-3", [("epoch", "e-3", "f-1")], ["f-0", "f-1", "f-2", "f-3", "f-4"]),
    ("e-9", [("epoch", "e-9", "f-1")], ["f-0", "f-1", "f-2", "f-3", "f-4"]),
    ("f-2", [], ["f-3", "f-4"]),
    ("f-9", [("ahead", "f-9", "f-1")], ["f-0", "f-1", "f-2", "f-3", "f-4"]),
    ("no id", [("malformed", "no id", "f-1")], ["f-0", "f-1", "f-2", "f-3", "f-4"]),
]


@BOTH
@pytest.mark.parametrize(("requested", "reset", "given"), BEGINNINGS)
async def test_a_log_that_is_lost_while_a_subscription_begins_is_as_if_it_had_begun_later(
    storage: FakeStorage,
    way: Way,
    requested: str | None,
    reset: list[tuple[str, str | None, str | None]],
    given: list[str],
) -> None:
    storage.put(*"aaa")

    def lose() -> None:
        storage.lose()
        storage.put(*"aaa")

    storage.asked = [lose]
    reader = await begun(storage, requested=requested)
    assert reader.epoch == "f"
    reading = way(reader)
    storage.skip()
    storage.put("a")
    await at_rest(storage)
    assert ids(reading.entries) == given
    assert resets(reading.entries) == reset
    reading.stop()


@BOTH
@pytest.mark.parametrize("step", ["asked", "answered"])
async def test_a_log_that_is_lost_while_an_id_ahead_of_it_is_looked_into(
    storage: FakeStorage, way: Way, step: str
) -> None:
    storage.put(*"aaa")

    def lose() -> None:
        storage.lose()
        storage.put(*"aa")

    # With the second look, which is for what is retained.
    storage.answered = [lambda: setattr(storage, step, [lose])]
    reader = await begun(storage, requested="e-9")
    reading = way(reader)
    storage.skip()
    await at_rest(storage)
    if step == "asked":
        assert resets(reading.entries) == [("epoch", "e-9", "f-1")]
    else:
        assert resets(reading.entries) == [("ahead", "e-9", "e-1"), ("epoch", "e-3", "f-1")]
    assert ids(reading.entries)[-3:] == ["f-0", "f-1", "f-2"]
    reading.stop()


@BOTH
async def test_a_log_that_is_lost_after_the_first_page_was_read_resets_who_has_just_begun(
    storage: FakeStorage, way: Way
) -> None:
    storage.put(*"aaa")
    storage.answered = [storage.lose]
    reader = await begun(storage, requested="e-1")
    assert (reader.epoch, reader.last) == ("e", 1)
    reading = way(reader)
    storage.put("a")
    storage.skip()
    await at_rest(storage)
    assert ids(reading.entries) == ["e-2", "e-3", "f-0", "f-1"]
    assert resets(reading.entries) == [("epoch", "e-3", "f-1")]
    reading.stop()


def subscription_of(storage: FakeStorage, last_event_id: str | None, *left_out: int) -> Subscription:
    """Without the events of these sequences."""
    return Subscription(
        lambda: OpenBroker(storage, storage.log, None),
        ("a",),
        last_event_id,
        lambda event: int(event.id.partition("-")[2]) not in left_out,
    )


async def test_a_filter_lets_the_reset_of_a_lost_log_pass_and_counts_in_the_new_one(storage: FakeStorage) -> None:
    subscription = subscription_of(storage, None, 0, 2, 3, 4, 6)
    assert await subscription.open()
    storage.put(*"aaa")
    frames = await subscription.ready_frames()
    assert frames is not None
    assert (frames.events, subscription.position_frame()) == (1, b"id: e-3\n\n")
    storage.lose()
    storage.put(*"aaaa")
    assert subscription.position_frame() == b""
    frames = await subscription.ready_frames()
    assert frames is not None
    assert b'"requested":"e-1"' in frames.frame or b'"requested":"e-3"' in frames.frame
    assert frames.frame.endswith(b"\nid: f-0\n\n")
    assert subscription.position_frame() == b""
    frames = await subscription.ready_frames()
    assert frames is not None
    assert frames.frame == storage.stored[0].frame
    assert subscription.position_frame() == b"id: f-4\n\n"
    storage.skip()
    storage.put(*"aa")
    frames = await subscription.ready_frames()
    assert frames is not None
    assert frames.frame == storage.stored[4].frame
    assert subscription.position_frame() == b"id: f-6\n\n"
    await subscription.aclose()


async def test_a_filter_that_lets_nothing_pass_has_its_position_in_the_new_log(storage: FakeStorage) -> None:
    storage.put(*"aaa")
    subscription = subscription_of(storage, "e-1", *range(10))
    assert await subscription.open()
    await subscription.ready_frames()
    storage.lose()
    storage.put(*"aa")
    for _ in range(2):
        assert await subscription.ready_frames() is not None
    assert subscription.position_frame() == b"id: f-2\n\n"
    assert subscription.position_frame() == b""
    await subscription.aclose()


@pytest.mark.parametrize("step", ["asked", "answered"])
async def test_events_one_by_one_have_the_ids_of_their_own_log(storage: FakeStorage, step: str) -> None:
    storage.page_entries = 2
    storage.put(*"aaaa")

    def lose() -> None:
        storage.lose()
        storage.put(*"aaa")
        storage.skip()

    subscription = subscription_of(storage, "earliest", 2)
    old = ["e-1"] if step == "asked" else ["e-1", "e-3", "e-4"]
    async with asyncio.timeout(PATIENCE):
        for id in (*old, "f-0", "f-1", "f-3"):
            event = await anext(subscription)
            assert event.id == id
            assert b"\nid: %b\n" % id.encode() in event.frame
            if id == "e-1":
                setattr(storage, step, [lose])
    await subscription.aclose()


# -- a storage that is away -------------------------------------------------------------------------------------------


AWAY = StorageError("the server is away", temporary=True)


@BOTH
async def test_who_can_not_read_a_storage_that_is_away_reads_it_when_it_is_back(storage: FakeStorage, way: Way) -> None:
    storage.page_entries = 2
    storage.put(*"aaaa")
    reader = await begun(storage, requested="earliest")
    storage.error = AWAY
    reading = way(reader)
    await at_rest(storage)
    reads = len(storage.reads)
    storage.store()
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2]
    assert len(storage.reads) == reads  # it isn't asked again and again
    storage.error = None
    storage.skip()
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3, 4, 5, 6]
    reading.stop()


@BOTH
async def test_a_storage_that_was_away_and_is_lost_resets_its_readers(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a")
    await at_rest(storage)
    storage.error = AWAY
    storage.lose()
    await at_rest(storage)
    storage.error = None
    storage.put("a")
    storage.skip()
    await at_rest(storage)
    assert ids(reading.entries) == ["e-1", "f-0", "f-1"]
    assert resets(reading.entries) == [("epoch", "e-1", "f-1")]
    reading.stop()


@BOTH
async def test_a_storage_that_was_away_when_all_channels_were_finished_ends_its_readers(
    storage: FakeStorage, way: Way
) -> None:
    reading = way(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a", draft=FINISH)
    await at_rest(storage)
    storage.error = AWAY
    storage.put("b", draft=FINISH)
    await at_rest(storage)
    assert not reading.ended
    storage.error = None
    storage.skip()
    await until(lambda: reading.ended, "it ends")
    assert reading.entries == []


@BOTH
async def test_closing_ends_who_waits_for_a_storage_that_is_away(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.error = AWAY
    storage.store()
    storage.skip()
    await at_rest(storage)
    assert not reading.ended
    storage.log.close()
    await until(lambda: reading.ended, "it ends")


async def test_a_storage_that_is_away_lets_nobody_begin(storage: FakeStorage) -> None:
    storage.error = AWAY
    with pytest.raises(StorageError, match="the server is away"):
        await reader_of(storage).begin()
    assert storage.listened == []


@BOTH
async def test_leaving_while_a_storage_that_is_away_is_read_ends_the_reader(storage: FakeStorage, way: Way) -> None:
    reader = await begun(storage)
    reading = way(reader)
    await at_rest(storage)
    storage.error = AWAY
    storage.asked = [reader.leave]
    storage.store()
    storage.skip()
    await until(lambda: reading.ended, "it ends")
    assert storage.listened == []


# -- finished channels ------------------------------------------------------------------------------------------------


@BOTH
async def test_a_channel_that_is_finished_ends_behind_its_last_event(storage: FakeStorage, way: Way) -> None:
    reader = await begun(storage)
    reading = way(reader)
    await at_rest(storage)
    storage.put("a", "a")
    storage.put("a", draft=FINISH)
    await until(lambda: reading.ended, "it ends")
    assert sequences(reading.entries) == [1, 2]
    assert reader.ended


@BOTH
async def test_several_channels_end_when_all_are_finished(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a")
    storage.put("a", draft=FINISH)
    await at_rest(storage)
    storage.put("b", "b")
    storage.put("c", draft=FINISH)
    await at_rest(storage)
    assert not reading.ended
    storage.put("b", draft=FINISH)
    await until(lambda: reading.ended, "it ends")
    assert sequences(reading.entries) == [1, 3, 4]


@BOTH
async def test_a_channel_that_is_opened_again_meanwhile_goes_on(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a", draft=FINISH)
    storage.put("b", draft=FINISH)
    # The storage is asked whether all of them are finished; before it has looked one isn't any more.
    storage.asked = [lambda: storage.put("a")]
    await at_rest(storage)
    assert sequences(reading.entries) == [3]
    assert not reading.ended
    storage.put("a", draft=FINISH)
    await until(lambda: reading.ended, "it ends")


@BOTH
async def test_a_channel_that_is_opened_again_after_the_storage_has_looked_has_ended(
    storage: FakeStorage, way: Way
) -> None:
    reading = way(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a", draft=FINISH)
    await at_rest(storage)
    storage.put("b", draft=FINISH)
    storage.answered = [lambda: storage.put("a")]
    await until(lambda: reading.ended, "it ends")
    assert reading.entries == []


@BOTH
async def test_what_the_log_holds_behind_a_finished_channel_is_read_there(storage: FakeStorage, way: Way) -> None:
    # The storage may have dropped it by then, as more is in the tail than is retained.
    reader = await begun(storage, "a", "b")
    storage.put("a", draft=FINISH)
    storage.put(*"bbbbb")
    storage.trim("b", 5)
    reading = way(reader)
    await at_rest(storage)
    assert sequences(reading.entries) == [2, 3, 4, 5, 6]
    assert all(entry.kind == Kind.JSON for entry in reading.entries)
    storage.put("b", draft=FINISH)
    await until(lambda: reading.ended, "it ends")


@BOTH
async def test_a_history_that_is_finished_ends_behind_its_last_event(storage: FakeStorage, way: Way) -> None:
    storage.page_entries = 2
    storage.put(*"aaa")
    storage.put("a", draft=FINISH)
    reader = await begun(storage, requested="earliest")
    assert not reader.ended
    reading = way(reader)
    await until(lambda: reading.ended, "it ends")
    assert sequences(reading.entries) == [1, 2, 3]


@pytest.mark.parametrize("requested", [None, "e-2", "e-1"])
async def test_where_nothing_follows_nothing_begins(storage: FakeStorage, requested: str | None) -> None:
    storage.put("a")
    storage.put("a", draft=FINISH)
    assert (await begun(storage, requested=requested)).ended


@BOTH
async def test_a_history_that_is_opened_again_while_it_is_read_goes_on(storage: FakeStorage, way: Way) -> None:
    storage.put("a")
    storage.put("a", draft=FINISH)
    reader = await begun(storage, requested="earliest")
    storage.put("a")
    reading = way(reader)
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 3]
    assert not reading.ended
    reading.stop()


# -- being called -----------------------------------------------------------------------------------------------------


async def test_who_is_called_is_given_the_batch_that_all_share(storage: FakeStorage) -> None:
    readings = [Called(await begun(storage)) for _ in range(3)]
    await at_rest(storage)
    storage.put("a", "a")
    await at_rest(storage)
    batches = [reading.calls for reading in readings]
    assert [len(calls) for calls in batches] == [1, 1, 1]
    assert batches[0][0] is batches[1][0] is batches[2][0]
    for reading in readings:
        reading.stop()


async def test_who_does_not_take_a_batch_fetches_it(storage: FakeStorage) -> None:
    reading = Called(await begun(storage))
    reading.takes = False
    await at_rest(storage)
    for _ in range(3):
        storage.put("a", "a")
        await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3, 4, 5, 6]
    reading.stop()


async def test_what_is_too_much_for_one_batch_follows_it(storage: FakeStorage) -> None:
    reading = Called(await begun(storage))
    await at_rest(storage)
    big = Draft(Kind.RAW, b"data: " + b"x" * 30_000 + b"\n", b"\n")
    storage.put(*"aaaaa", draft=big)
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3, 4, 5]
    assert [call is None for call in reading.calls] == [False, True]
    storage.put("a")
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3, 4, 5, 6]
    reading.stop()


async def test_news_of_two_channels_at_once_are_one_call(storage: FakeStorage) -> None:
    reading = Called(await begun(storage, "a", "b"))
    await at_rest(storage)
    storage.put("a", "b")
    await at_rest(storage)
    assert len(reading.calls) == 1
    assert sequences(reading.entries) == [1, 2]
    storage.put("b")
    await at_rest(storage)
    assert sequences(reading.entries) == [1, 2, 3]
    reading.stop()


async def test_who_leaves_while_it_is_called_is_called_no_more(storage: FakeStorage) -> None:
    reader = await begun(storage)
    view = storage.log.join(("a",))
    calls: list[Frames | None] = []

    class Leaving:
        def on_news(self, frames: Frames | None) -> bool:
            calls.append(frames)
            reader.leave()
            return True

    reader.listener = Leaving()
    assert await reader.ready() is None
    storage.put("a")
    await at_rest(storage)
    assert view.readers == 1
    assert not view.waiting
    count = len(calls)
    storage.put("a")
    await at_rest(storage)
    assert len(calls) == count


async def test_a_subscription_that_has_begun_does_not_hold_its_guard_nor_the_id_that_it_resumed_from(
    storage: FakeStorage,
) -> None:
    class Id(str):
        """One that can be referred to weakly."""

    def guard(_channel: str) -> bool:
        return True

    last_event_id = Id("e-0")
    held = [weakref.ref(guard), weakref.ref(last_event_id)]
    subscription = GuardedSubscription(
        lambda: OpenBroker(storage, storage.log, None), ("a",), last_event_id, None, guard
    )
    del guard, last_event_id
    assert await subscription.open()
    assert [each() for each in held] == [None, None]
    await subscription.aclose()


# -- ends -------------------------------------------------------------------------------------------------------------


@BOTH
async def test_closing_the_log_ends_who_waits(storage: FakeStorage, way: Way) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.log.close()
    await until(lambda: reading.ended, "it ends")


@BOTH
@pytest.mark.parametrize("turns", range(4))
async def test_closing_the_log_ends_who_is_to_be_woken_behind_the_news(
    storage: FakeStorage, way: Way, turns: int
) -> None:
    reading = way(await begun(storage))
    await at_rest(storage)
    storage.put("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    storage.log.close()
    await until(lambda: reading.ended, "it ends")
    assert sequences(reading.entries) == [1]


@BOTH
async def test_closing_the_log_ends_who_reads_the_storage(storage: FakeStorage, way: Way) -> None:
    storage.page_entries = 1
    storage.put(*"aaa")
    reader = await begun(storage, requested="earliest")
    storage.error = StorageError("closed")
    storage.asked = [storage.log.close]
    reading = way(reader)
    await until(lambda: reading.ended, "it ends")
    assert sequences(reading.entries) == [1]


async def test_closing_the_log_refuses_who_was_about_to_begin(storage: FakeStorage) -> None:
    storage.asked = [storage.log.close]
    storage.error = StorageError("closed")
    reader = reader_of(storage)
    with pytest.raises(BrokerClosed):
        await reader.begin()
    assert not storage.log._views


@BOTH
async def test_leaving_ends_who_waits_and_keeps_nothing(storage: FakeStorage, way: Way) -> None:
    reader = await begun(storage)
    reading = way(reader)
    await at_rest(storage)
    assert storage.listened == ["a"]
    reader.leave()
    reader.leave()
    await until(lambda: reading.ended, "it ends")
    assert storage.listened == []


@BOTH
async def test_who_has_left_is_not_kept_by_those_who_read_the_same(storage: FakeStorage, way: Way) -> None:
    kept, gone, cancelled = [await begun(storage) for _ in range(3)]
    readings = [way(reader) for reader in (kept, gone)] + [Waiting(cancelled)]
    await at_rest(storage)
    view = storage.log.join(("a",))
    assert list(view.waiting) == [kept, gone, cancelled]
    gone.leave()
    readings[2].stop()
    await at_rest(storage)
    assert list(view.waiting) == [kept]
    readings[0].stop()


@pytest.mark.parametrize("step", ["asked", "answered"])
@BOTH
async def test_leaving_while_the_storage_is_read_ends_the_reader(storage: FakeStorage, step: str, way: Way) -> None:
    storage.page_entries = 1
    storage.put(*"aaa")
    reader = await begun(storage, requested="earliest")
    setattr(storage, step, [reader.leave])
    reading = way(reader)
    await until(lambda: reading.ended, "it ends")
    assert sequences(reading.entries) == [1]
    assert storage.listened == []


async def test_leaving_while_it_begins_ends_the_reader(storage: FakeStorage) -> None:
    storage.put("a")
    reader = reader_of(storage, requested="earliest")
    storage.asked = [reader.leave]
    await reader.begin()
    assert reader.ended
    assert await reader.next() is None
    assert storage.listened == []


async def test_a_storage_that_cannot_be_read_is_an_error(storage: FakeStorage) -> None:
    reader = await begun(storage)
    storage.error = StorageError("the disk is gone")
    with pytest.raises(StorageError, match="the disk is gone"):
        await reader_of(storage).begin()
    assert storage.listened == ["a"]
    storage.store()
    storage.skip()
    with pytest.raises(StorageError, match="the disk is gone"):
        await reader.next()
    storage.error = None
    batch = await reader.next()  # the reader stands where it stood
    assert batch is not None
    assert sequences(batch.entries) == [1]
    reader.leave()
    assert storage.listened == []


@pytest.mark.parametrize("turns", range(5))
async def test_who_is_cancelled_while_it_begins_leaves(storage: FakeStorage, turns: int) -> None:
    reader = reader_of(storage)
    beginning = asyncio.create_task(reader.begin())
    for _ in range(turns):
        await asyncio.sleep(0)
    beginning.cancel()
    await asyncio.wait([beginning])
    assert storage.listened == ([] if beginning.cancelled() else ["a"])
    reader.leave()
    assert storage.listened == []


async def test_who_was_cancelled_while_it_waited_may_wait_again(storage: FakeStorage) -> None:
    reader = await begun(storage)
    for turns in range(6):
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        storage.put("a")
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        if waiting.cancelled():
            async with asyncio.timeout(PATIENCE):
                batch = await reader.next()
        else:
            batch = waiting.result()
        assert batch is not None
        assert sequences(batch.entries) == [turns + 1]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another thread"])
async def test_a_reader_that_was_dropped_leaves(storage: FakeStorage, elsewhere: bool) -> None:
    kept = await begun(storage, "a", "b")
    dropped = [await begun(storage, *channels) for channels in (("a",), ("a", "b"), ("c",))]
    if elsewhere:
        thread = threading.Thread(target=dropped.clear)
        thread.start()
        thread.join()
    else:
        dropped.clear()
    gc.collect()
    await until(lambda: len(storage.log._views) == 1, "they have left")
    assert storage.listened == ["a", "b"]
    storage.put("b")
    batch = await kept.next()
    assert batch is not None
    assert sequences(batch.entries) == [1]


def test_a_reader_that_is_dropped_after_its_loop_was_closed_says_nothing() -> None:
    async def main() -> Reader:
        return await begun(FakeStorage())

    reader = asyncio.run(main())
    del reader
    gc.collect()  # a warning would be an error


async def test_a_reader_that_is_dropped_leaves_on_the_loop_and_not_where_it_is_dropped(storage: FakeStorage) -> None:
    # The garbage collector may run anywhere, and the log is in the middle of something.
    reader = await begun(storage)
    del reader
    gc.collect()
    assert storage.log.census() == (1, 1, 0)
    await until(lambda: storage.log.census() == (0, 0, 0), "it leaves on the loop")
