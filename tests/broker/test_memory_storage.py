"""The storage in memory, alone: what it keeps, what it remembers of what it has dropped, and what it forgets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.broker.contract.reading import until
from tidings.broker import memory
from tidings.broker.entry import Draft, Entry, Kind, parse_id
from tidings.broker.memory import MemoryStorage
from tidings.broker.storage import PAGE_BYTES, PAGE_ENTRIES, Page, Retention

pytestmark = pytest.mark.anyio


class Clock:
    """In place of the module `time` in that of the storage."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    return clock


class Noting:
    """A feed that notes what it is fed."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.entries: list[Entry] = []

    def append(self, entries: Sequence[Entry]) -> None:
        self.calls.append(("append", entries[-1].sequence))
        self.entries += entries

    def skip(self, position: int, channel: str | None = None) -> None:
        raise AssertionError(f"everything is fed, and nothing of {channel} was skipped up to {position}")

    def miss(self, channel: str, after: int, position: int) -> None:
        raise AssertionError("nothing is ever missed here")

    def lose(self) -> None:
        raise AssertionError("nothing is lost as long as this object lives")


def storage_of(
    history: int | None = 1_000, max_age: float | None = 100.0, forget_after: float | None = 1_000.0
) -> MemoryStorage:
    return MemoryStorage(Retention(history, max_age, forget_after))


@pytest.fixture
def feed() -> Noting:
    return Noting()


@pytest.fixture
async def storage(feed: Noting, clock: Clock) -> AsyncIterator[MemoryStorage]:
    storage = storage_of()
    await storage.open(feed)
    yield storage
    await storage.close()


def draft(size: int = 10) -> Draft:
    return Draft(Kind.RAW, b"data: " + b"x" * size + b"\n", b"\n")


async def fill(storage: MemoryStorage, *channels: str) -> list[int]:
    """Append an event to each; their sequences."""
    parsed = [parse_id(await storage.append(channel, draft())) for channel in channels]
    assert {place[0] for place in parsed if place is not None} <= {storage.epoch}
    return [place[1] for place in parsed if place is not None]


def sequences(page: Page) -> list[int]:
    return [entry.sequence for entry in page.entries]


def sweep(storage: MemoryStorage) -> None:
    """What the timer does."""
    storage._sweep()


# -- appending --------------------------------------------------------------------------------------------------------


async def test_one_sequence_runs_over_all_channels_and_is_fed_at_once(storage: MemoryStorage, feed: Noting) -> None:
    assert await fill(storage, "a", "b", "a") == [1, 2, 3]
    await storage.finish("c")
    assert feed.calls == [("append", 1), ("append", 2), ("append", 3), ("append", 4)]
    assert [(entry.sequence, entry.channel) for entry in feed.entries] == [(1, "a"), (2, "b"), (3, "a"), (4, "c")]
    assert feed.entries[0].frame.endswith(b"\nid: %b-1\n\n" % storage.epoch.encode())
    assert (feed.entries[3].kind, feed.entries[3].frame) == (Kind.FINISH, b"")


async def test_who_listens_is_told_where_the_log_stands(storage: MemoryStorage, feed: Noting) -> None:
    assert storage.listen("a") == 0
    await fill(storage, "a")
    assert storage.listen("b") == 1
    storage.unlisten("a")
    await fill(storage, "b", "a")
    assert storage.listen("a") == 3
    assert feed.calls == [("append", 1), ("append", 2), ("append", 3)]


async def test_each_storage_has_an_epoch_of_its_own_from_its_opening_on(feed: Noting) -> None:
    assert storage_of().epoch == ""  # processes that are forked before it is opened have logs of their own
    epochs = set()
    for _ in range(100):
        storage = storage_of()
        await storage.open(feed)
        epochs.add(storage.epoch)
        await storage.close()
    assert len(epochs) == 100
    assert all(re.fullmatch("[0-9a-z]{1,32}", epoch) for epoch in epochs)


async def test_a_storage_that_is_opened_again_goes_on(storage: MemoryStorage) -> None:
    await fill(storage, "a", "a")
    epoch = storage.epoch
    await storage.close()
    again = Noting()
    await storage.open(again)
    assert storage.epoch == epoch
    assert await fill(storage, "a") == [3]
    assert sequences(await storage.read(["a"], 0)) == [1, 2, 3]
    assert again.calls == [("append", 3)]


# -- pages ------------------------------------------------------------------------------------------------------------


async def test_a_page_without_entries_says_where_the_log_stands(storage: MemoryStorage) -> None:
    await fill(storage, "a", "a")
    assert await storage.read(["a"], None) == Page(storage.epoch, [], 2, 2, 0, finished=False)
    assert await storage.read(["never used"], None) == Page(storage.epoch, [], 2, 2, 0, finished=False)


@pytest.mark.parametrize("after", [0, 2, 3, 8, 9, 10**18])
async def test_a_page_merges_its_channels(storage: MemoryStorage, after: int) -> None:
    await fill(storage, *"abcabcabc")
    page = await storage.read(["a", "c"], after)
    assert sequences(page) == [sequence for sequence in (1, 3, 4, 6, 7, 9) if sequence > after]
    assert (page.position, page.newest, page.complete) == (9, 9, True)


async def test_a_page_has_its_bounds_and_goes_on_where_it_ended(storage: MemoryStorage) -> None:
    for number in range(1_300):
        await storage.append("ab"[number % 3 == 0], draft())
    position = 0
    found: list[int] = []
    for expected in (PAGE_ENTRIES, PAGE_ENTRIES, 300):
        page = await storage.read(["a", "b"], position)
        assert len(page.entries) == expected
        found += sequences(page)
        position = page.position
    assert found == list(range(1, 1_301))
    assert page.complete


async def test_a_page_ends_with_the_entry_that_brings_it_to_its_bytes(storage: MemoryStorage) -> None:
    for size in (30_000, 30_000, 30_000, 200_000, 10):
        await storage.append("a", draft(size))
        await storage.append("b", draft(10))
    pages = [await storage.read(["a", "b"], position) for position in (0, 5, 7)]
    assert [sequences(page) for page in pages] == [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]]
    assert all(sum(len(entry.frame) for entry in page.entries[:-1]) < PAGE_BYTES for page in pages)
    assert [page.complete for page in pages] == [False, False, True]


async def test_a_page_that_ends_with_the_channels_newest_entry_is_complete(storage: MemoryStorage) -> None:
    await fill(storage, *(["a"] * PAGE_ENTRIES), "other", "other")
    page = await storage.read(["a"], 0)
    assert len(page.entries) == PAGE_ENTRIES
    assert page.complete
    assert page.position == PAGE_ENTRIES + 2


# -- by count ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [0, 1, 3])
async def test_the_newest_are_kept_and_the_mark_says_what_was_dropped(history: int, feed: Noting, clock: Clock) -> None:
    storage = storage_of(history=history)
    await storage.open(feed)
    await fill(storage, "quiet", *("a" * 10))
    page = await storage.read(["a"], 0)
    assert sequences(page) == list(range(12 - history, 12))
    assert page.trimmed == 11 - history
    if history:
        assert (await storage.read(["quiet"], 0)).trimmed == 0
    assert (await storage.read(["quiet", "a"], 0)).trimmed == 11 - history
    assert len(feed.entries) == 11  # who listens gets them all
    await storage.close()


async def test_all_are_kept_without_a_bound(feed: Noting, clock: Clock) -> None:
    storage = storage_of(history=None, max_age=None)
    await storage.open(feed)
    await fill(storage, *(["a"] * 3_000))
    clock.now += 1e9
    page = await storage.read(["a"], 2_990)
    assert sequences(page) == list(range(2_991, 3_001))
    assert page.trimmed == 0
    await storage.close()


# -- by age -----------------------------------------------------------------------------------------------------------


async def test_what_is_too_old_is_not_shown_whoever_asks(storage: MemoryStorage, clock: Clock) -> None:
    await fill(storage, "a")
    clock.now += 60
    await fill(storage, "a")
    clock.now += 40
    assert sequences(await storage.read(["a"], 0)) == [1, 2]  # just as old as it may be
    clock.now += 0.001
    page = await storage.read(["a"], 0)
    assert (sequences(page), page.trimmed) == ([2], 1)
    clock.now += 60
    page = await storage.read(["a"], 0)
    assert (sequences(page), page.trimmed, page.complete) == ([], 2, True)
    await fill(storage, "a")
    assert sequences(await storage.read(["a"], 0)) == [3]


async def test_a_clock_that_is_set_back_takes_nothing_back(storage: MemoryStorage, clock: Clock, feed: Noting) -> None:
    await fill(storage, "a")
    clock.now -= 5_000
    await fill(storage, "a")
    assert sequences(await storage.read(["a"], 0)) == [1, 2]
    ats = [entry.at for entry in feed.entries]
    assert ats == sorted(ats)
    sweep(storage)
    assert sequences(await storage.read(["a"], 0)) == [1, 2]
    clock.now += 5_200
    assert sequences(await storage.read(["a"], 0)) == []


# -- finished ---------------------------------------------------------------------------------------------------------


async def test_finished_is_what_was_finished_last(storage: MemoryStorage, feed: Noting) -> None:
    async def finished(*channels: str) -> bool:
        return (await storage.read(channels, 0)).finished

    await fill(storage, "a")
    await storage.finish("a")
    await storage.finish("a")
    assert [entry.kind for entry in feed.entries] == [Kind.RAW, Kind.FINISH]
    assert await finished("a")
    assert not await finished("a", "never used")
    await storage.finish("never used")
    assert await finished("a", "never used")
    assert sequences(await storage.read(["a", "never used"], 0)) == [1]
    await fill(storage, "a")
    assert not await finished("a")
    await storage.finish("a")
    assert [entry.sequence for entry in feed.entries] == [1, 2, 3, 4, 5]


# -- swept and forgotten ----------------------------------------------------------------------------------------------


async def test_what_is_swept_leaves_its_marks(storage: MemoryStorage, clock: Clock) -> None:
    await fill(storage, "a", "b")
    await storage.finish("b")
    clock.now += 101
    sweep(storage)
    assert not storage._channels
    for channel, mark, finished in (("a", 1, False), ("b", 2, True)):
        page = await storage.read([channel], 0)
        assert (sequences(page), page.trimmed, page.finished) == ([], mark, finished)
    assert await fill(storage, "a") == [4]
    page = await storage.read(["a"], 0)
    assert (sequences(page), page.trimmed) == ([4], 1)


async def test_a_channel_that_is_used_is_not_swept(storage: MemoryStorage, clock: Clock) -> None:
    await fill(storage, "a", "b")
    for _ in range(5):
        clock.now += 60
        await fill(storage, "a")
        sweep(storage)
    page = await storage.read(["a"], 0)
    assert (sequences(page), page.trimmed) == ([6, 7], 5)
    assert list(storage._channels) == ["a"]
    assert list(storage._quiet) == ["b"]


async def test_what_is_forgotten_leaves_one_mark_for_all(storage: MemoryStorage, clock: Clock) -> None:
    await fill(storage, "a", "b")
    await storage.finish("b")
    await fill(storage, "c")
    clock.now += 101
    sweep(storage)
    clock.now += 500
    await fill(storage, "c")
    clock.now += 400
    sweep(storage)  # a and b have been silent for longer than `forget_after`
    assert list(storage._quiet) == ["c"]
    for channel in ("a", "b", "never used"):
        page = await storage.read([channel], 0)
        assert (page.trimmed, page.finished) == (2, False)
    assert (await storage.read(["c"], 0)).trimmed == 5
    await fill(storage, "a", "new")
    assert [(await storage.read([channel], 0)).trimmed for channel in ("a", "new")] == [2, 2]


async def test_a_mark_never_goes_back(storage: MemoryStorage, clock: Clock) -> None:
    await fill(storage, "a")
    clock.now += 50
    await fill(storage, "b")
    clock.now += 1
    await storage.finish("a")  # so that it is forgotten last, with the lower mark
    clock.now += 2_000
    for _ in range(2):
        sweep(storage)
    assert storage._forgotten == 2
    await fill(storage, "a")
    clock.now += 2_000
    for _ in range(2):
        sweep(storage)
    assert storage._forgotten == 4
    assert not storage._quiet
    assert not storage._channels


async def test_a_sweep_takes_so_many_at_once(storage: MemoryStorage, clock: Clock) -> None:
    for number in range(2_500):
        await storage.append(f"channel {number}", draft())
    clock.now += 101
    left = []
    for _ in range(3):
        sweep(storage)
        left.append(len(storage._channels))
    assert left == [1_500, 500, 0]


@pytest.mark.parametrize(("max_age", "forget_after"), [(None, 0.01), (0.01, None), (None, None)])
async def test_without_a_bound_nothing_is_lost(
    feed: Noting, max_age: float | None, forget_after: float | None, clock: Clock
) -> None:
    storage = storage_of(max_age=max_age, forget_after=forget_after)
    await storage.open(feed)
    await fill(storage, "a")
    await storage.finish("a")
    clock.now += 1e9
    for _ in range(3):
        sweep(storage)
    page = await storage.read(["a"], 0)
    assert page.finished
    assert sequences(page) == ([1] if max_age is None else [])
    assert (await storage.read(["other"], 0)).trimmed == 0
    await storage.close()


async def test_channels_that_come_and_go_leave_nothing_by_themselves(feed: Noting) -> None:
    storage = storage_of(max_age=0.01, forget_after=0.02)
    await storage.open(feed)
    for number in range(10_000):
        await storage.append(f"channel {number}", draft())
        if number % 2:
            await storage.finish(f"channel {number}")
    await until(lambda: not storage._channels and not storage._quiet, "all are forgotten")
    assert storage._sweeper is None  # and no timer goes on
    assert (await storage.read(["channel 0"], 0)).trimmed > 0
    await fill(storage, "again")
    assert storage._sweeper is not None
    await storage.close()


@pytest.mark.parametrize("history", [0, 10])
async def test_channels_that_show_nothing_are_forgotten_though_nothing_gets_too_old(
    history: int, feed: Noting, clock: Clock
) -> None:
    storage = storage_of(history, max_age=None, forget_after=1_000.0)
    await storage.open(feed)
    if history == 0:
        await storage.append("a", draft(1))
    await storage.finish("b")
    clock.now += 1_001
    sweep(storage)
    assert not storage._channels
    assert not storage._quiet
    await storage.close()


async def test_closing_leaves_no_timer(feed: Noting) -> None:
    storage = storage_of(max_age=0.01, forget_after=0.01)
    await storage.open(feed)
    await fill(storage, "a")
    await storage.close()
    assert storage._sweeper is None
    await storage.open(feed)
    await until(lambda: not storage._channels and not storage._quiet, "it goes on when it is opened again")
    await storage.close()


# -- the list of channels ---------------------------------------------------------------------------------------------


async def test_a_long_list_is_made_in_many_turns_of_the_event_loop(storage: MemoryStorage) -> None:
    names = [f"{number * 7919 % 10_000:04}" for number in range(10_000)]
    await fill(storage, *names)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    found = await storage.channels("0099", 9_000)
    turning.cancel()
    assert [channel.name for channel in found] == [f"{number:04}" for number in range(100, 9_100)]
    assert turns > 40


async def test_a_channel_forgotten_while_it_is_listed_does_not_end_the_list(storage: MemoryStorage) -> None:
    await fill(storage, "a", "b")
    listing = asyncio.create_task(storage.channels("", 1))
    await asyncio.sleep(0)
    del storage._channels["a"]
    assert [channel.name for channel in await listing] == ["b"]
