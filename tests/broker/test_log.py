"""The log that the subscribers of a process share: its tails, its views, and in what order who waits is woken."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.contract.reading import until
from tests.wire.strategies import properties
from tidings.broker import log as log_module
from tidings.broker.entry import Entry, Kind
from tidings.broker.log import BEHIND, Batch, Log, View

pytestmark = pytest.mark.anyio

LISTENING = ("listen", "unlisten")


class Feeding:
    """A log, and the entries that it was fed with; it notes when it wanted to be fed."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.slow: set[str] = set()  # channels of which it isn't known at once from where on they are fed
        self.newest = 0
        self.log = Log(self._listen, lambda channel: self.calls.append(f"unlisten {channel}"))

    def _listen(self, channel: str) -> int | None:
        self.calls.append(f"listen {channel}")
        return None if channel in self.slow else self.newest

    @property
    def listened(self) -> set[str]:
        """The channels that it is to be fed with, each of them listened to once."""
        listened: set[str] = set()
        for call, _, channel in (each.partition(" ") for each in self.calls):
            assert (channel in listened) == (call == "unlisten"), self.calls
            listened.symmetric_difference_update({channel})
        return listened

    def feed(self, channel: str = "news", size: int = 10, kind: Kind = Kind.JSON) -> Entry:
        self.newest += 1
        frame = b"" if kind is Kind.FINISH else b"%d." % self.newest + b"x" * size
        entry = Entry(self.newest, channel, kind, 0.0, frame)
        self.log.append((entry,))
        return entry

    def feed_many(self, count: int, channel: str = "news", size: int = 10) -> list[Entry]:
        return [self.feed(channel, size) for _ in range(count)]


@pytest.fixture
async def feeding() -> Feeding:
    return Feeding()


class Sleeper:
    def __init__(self, awake: list[Sleeper], then: Callable[[], Any] = lambda: None) -> None:
        self._awake = awake
        self._then = then

    def wake(self) -> None:
        self._awake.append(self)
        self._then()


def lay_down(view: View, count: int = 1, then: Callable[[], Any] = lambda: None) -> list[Sleeper]:
    """Have so many wait for what is new; returns those who are awake, as they awake."""
    awake: list[Sleeper] = []
    for _ in range(count):
        view.waiting[Sleeper(awake, then)] = None
    return awake


def read(view: View, position: int) -> list[int]:
    """The sequences of everything behind a position."""
    found: list[int] = []
    while (batch := view.after(position)) is not None:
        assert isinstance(batch, Batch)
        assert batch.position > position
        found += [entry.sequence for entry in batch.entries]
        position = batch.position
    return found


# -- tails ------------------------------------------------------------------------------------------------------------


async def test_a_tail_holds_the_newest_thousand_entries(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.feed_many(1_000)
    assert read(view, 0) == list(range(1, 1_001))
    feeding.feed_many(5)
    assert view.after(4) is BEHIND
    assert read(view, 5) == list(range(6, 1_006))


async def test_a_tail_holds_eight_mebibytes(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    entries = feeding.feed_many(20, size=1 << 20)
    held = [position for position in range(20) if view.after(position) is not BEHIND]
    assert held == list(range(held[0], 20))
    assert sum(len(entry.frame) for entry in entries[held[0] :]) <= 8 << 20
    assert sum(len(entry.frame) for entry in entries[held[0] - 1 :]) > 8 << 20


async def test_a_tail_holds_its_newest_entry_whatever_its_size(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.feed()
    huge = feeding.feed(size=9 << 20)
    assert view.after(0) is BEHIND
    batch = view.after(1)
    assert isinstance(batch, Batch)
    assert batch.frame == huge.frame


async def test_a_tail_reaches_back_to_where_its_first_reader_came(feeding: Feeding) -> None:
    feeding.feed_many(3)
    view = feeding.log.join(("news",))
    assert view.after(2) is BEHIND
    assert view.after(3) is None
    feeding.feed()
    assert view.after(2) is BEHIND
    assert read(view, 3) == [4]


async def test_a_position_ahead_of_the_tail_has_nothing_behind_it(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.feed_many(3)
    assert view.after(3) is None
    assert view.after(1_000) is None


async def test_what_was_not_fed_is_behind_for_everybody(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.feed_many(3)
    awake = lay_down(view)
    feeding.log.skip(7)
    assert view.after(6) is BEHIND
    assert view.after(7) is None
    feeding.newest = 7
    feeding.feed()
    assert read(view, 7) == [8]
    await until(lambda: awake, "who waits looks")


async def test_a_tail_does_not_reach_back_over_what_was_not_fed(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.feed_many(3)
    feeding.log.skip(7)
    feeding.newest = 7
    for _ in range(10):
        feeding.feed_many(100)
        assert [view.after(position) for position in range(7)] == [BEHIND] * 7
    assert read(view, 7) == list(range(8, 1_008))


async def test_what_was_not_fed_of_one_channel_is_behind_for_its_readers_alone(feeding: Feeding) -> None:
    views = [feeding.log.join(key) for key in (("a",), ("b",), ("a", "b"), ("c",))]
    for channel in "abab":
        feeding.feed(channel)
    await until(lambda: feeding.log._sleepers is None, "the log is at rest")
    awake = [lay_down(view) for view in views]
    feeding.log.skip(7, "b")
    await until(lambda: awake[1] and awake[2], "who reads it looks")
    assert [len(each) for each in awake] == [0, 1, 1, 0]
    assert read(views[0], 0) == [1, 3]
    assert views[1].after(6) is views[2].after(6) is BEHIND
    assert views[1].after(7) is views[2].after(7) is views[3].after(0) is None
    feeding.newest = 7
    for channel in "ba":
        feeding.feed(channel)
    assert read(views[1], 7) == [8]
    assert read(views[2], 7) == [8, 9]
    assert read(views[0], 1) == [3, 9]


async def test_a_skip_of_a_channel_that_nobody_reads_hurts_nobody(feeding: Feeding) -> None:
    view = feeding.log.join(("a",))
    feeding.feed("a")
    await until(lambda: feeding.log._sleepers is None, "the log is at rest")
    awake = lay_down(view)
    feeding.log.skip(7, "b")
    feeding.log.skip(7, "")
    assert feeding.log._sleepers is None
    assert read(view, 0) == [1]
    assert awake == []


# -- channels that are not fed yet ------------------------------------------------------------------------------------


async def test_a_channel_that_is_not_fed_yet_holds_back_what_the_others_have(feeding: Feeding) -> None:
    # Who was given the newer entry of another channel would never be given the older one of this channel.
    feeding.slow = {"b", "c"}
    views = {key: feeding.log.join(tuple(key)) for key in ("a", "ab", "bc", "abc")}
    for channel in "abcab":
        feeding.feed(channel)
    assert read(views["a"], 0) == [1, 4]
    assert [views[key].after(position) for key in ("ab", "bc", "abc") for position in (0, 3, 9)] == [None] * 9
    feeding.log.skip(5, "c")
    assert [views[key].after(position) for key in ("ab", "bc", "abc") for position in (0, 3, 9)] == [None] * 9
    feeding.log.skip(2, "b")
    assert [views[key].after(1) for key in ("ab", "bc", "abc")] == [BEHIND] * 3
    assert read(views["ab"], 2) == [4]
    assert views["abc"].after(4) is BEHIND
    feeding.feed("b")
    assert read(views["ab"], 2) == [4, 6]
    assert read(views["bc"], 5) == read(views["abc"], 5) == [6]


async def test_who_waits_for_a_channel_that_is_not_fed_yet_looks_when_it_is(feeding: Feeding) -> None:
    feeding.slow = {"b"}
    awake = {key: lay_down(feeding.log.join(tuple(key))) for key in ("a", "ab", "b")}
    feeding.log.skip(0, "b")
    await until(lambda: awake["ab"] and awake["b"], "they look")
    assert not awake["a"]


async def test_a_channel_that_is_listened_to_again_is_not_fed_yet_either(feeding: Feeding) -> None:
    feeding.slow = {"a"}
    view = feeding.log.join(("a",))
    feeding.log.skip(0)
    feeding.feed("a")
    assert read(view, 0) == [1]
    feeding.log.leave(view)
    view = feeding.log.join(("a",))
    assert view.after(0) is view.after(1) is None
    feeding.log.skip(1, "a")
    assert view.after(0) is BEHIND


@pytest.mark.parametrize("count", [1, 999, 1_000, 1_001, 3_000])
async def test_what_is_fed_before_it_is_known_from_where_on_is_given_to_nobody(feeding: Feeding, count: int) -> None:
    # Something may be missing before it and between it.
    feeding.slow = {"a"}
    view = feeding.log.join(("a",))
    feeding.feed_many(count, "a")
    assert {view.after(position) for position in (0, 1, count // 2, count - 1, count)} == {None}
    feeding.log.skip(count, "a")
    assert view.after(count - 1) is BEHIND
    feeding.feed("a")
    assert read(view, count) == [count + 1]


# -- another epoch ----------------------------------------------------------------------------------------------------


async def test_a_log_that_is_lost_wakes_everybody_and_gives_nothing_before_it_is_fed_anew(feeding: Feeding) -> None:
    views = {key: feeding.log.join(tuple(key)) for key in ("a", "b", "ab")}
    for channel in "abba":
        feeding.feed(channel)
    await until(lambda: feeding.log._sleepers is None, "the log is at rest")
    awake = [lay_down(view, 40) for view in views.values()]
    feeding.log.lose()
    await until(lambda: all(len(set(each)) == 40 for each in awake), "everybody looks")
    assert {view.after(position) for view in views.values() for position in (0, 1, 4, 9)} == {None}
    feeding.log.skip(1, "a")
    assert {views[key].after(position) for key in ("b", "ab") for position in (1, 4, 9)} == {None}
    assert views["a"].after(0) is BEHIND
    feeding.newest = 1
    feeding.feed("a")
    assert read(views["a"], 1) == [2]
    assert views["ab"].after(1) is None
    feeding.log.skip(2, "b")
    assert views["ab"].after(1) is BEHIND
    feeding.feed("b")
    assert read(views["ab"], 2) == read(views["b"], 2) == [3]


async def test_who_joins_a_log_that_was_lost_is_given_nothing_either(feeding: Feeding) -> None:
    feeding.log.join(("a",))
    feeding.feed("a")
    feeding.log.lose()
    feeding.slow = {"b"}
    view = feeding.log.join(("a", "b"))
    assert view.after(0) is None
    feeding.log.skip(0)
    assert view.after(0) is None
    feeding.newest = 0
    feeding.feed("b")
    assert read(view, 0) == [1]


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("readers", [1, 2])
async def test_nobody_is_given_joined_bytes_of_the_log_that_was_lost(
    feeding: Feeding, readers: int, ahead: int
) -> None:
    # The new log has the sequences of the old one, and comes to the same newest one.
    view = feeding.log.join(("news",))
    for _ in range(readers - 1):
        feeding.log.join(("news",))
    before = feeding.feed_many(3 + ahead)
    assert [read(view, position) for position in range(3)] == [[*range(n, 4 + ahead)] for n in (1, 2, 3)]
    feeding.log.lose()
    feeding.log.skip(0, "news")
    feeding.newest = 0
    after = feeding.feed_many(3, size=20)
    for position in range(3):
        batch = view.after(position)
        assert isinstance(batch, Batch)
        assert list(batch.entries) == after[position:]
        assert not set(batch.entries) & set(before)


# -- views ------------------------------------------------------------------------------------------------------------


async def test_readers_of_the_same_channels_share_a_view_until_the_last_has_gone(feeding: Feeding) -> None:
    view = feeding.log.join(("a", "b"))
    assert feeding.log.join(("a", "b")) is view
    other = feeding.log.join(("a",))
    assert other is not view
    feeding.feed("a")
    feeding.log.leave(view)
    assert feeding.log.join(("a", "b")) is view
    for each in (view, view):
        feeding.log.leave(each)
    assert feeding.calls == ["listen a", "listen b", "unlisten b"]
    assert read(other, 0) == [1]  # its channel is still read
    again = feeding.log.join(("a", "b"))
    assert again is not view
    assert again.after(0) is BEHIND  # and the other one is not what it was
    feeding.log.leave(again)
    feeding.log.leave(other)
    assert feeding.calls[3:] == ["listen b", "unlisten b", "unlisten a"]
    feeding.log.join(("a",))
    assert feeding.calls[6:] == ["listen a"]


async def test_a_channel_is_listened_to_once_however_many_read_it(feeding: Feeding) -> None:
    views = [feeding.log.join(key) for key in (("a",), ("a",), ("a", "b"), ("a", "b", "c"), ("b",)) for _ in range(3)]
    assert feeding.calls == ["listen a", "listen b", "listen c"]
    for view in views[:-1]:
        feeding.log.leave(view)
    assert feeding.listened == {"b"}
    assert len(feeding.calls) == 5
    feeding.log.leave(views[-1])
    assert feeding.calls[5:] == ["unlisten b"]


@properties
@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1) | st.integers(0, 9), max_size=40))
def test_those_channels_are_listened_to_that_are_read(steps: list[set[str] | int]) -> None:
    async def main() -> None:
        feeding = Feeding()
        feeding.slow = {"c"}
        joined: list[View] = []
        for step in steps:
            if isinstance(step, set):
                joined.append(feeding.log.join(tuple(sorted(step))))
            elif joined:
                feeding.log.leave(joined.pop(step % len(joined)))
            assert feeding.listened == {channel for view in joined for channel in view.key}
        for view in joined:
            feeding.log.leave(view)
        assert feeding.listened == set()

    asyncio.run(main())


async def test_a_closed_log_does_not_unlisten(feeding: Feeding) -> None:
    view = feeding.log.join(("a",))
    feeding.log.close()
    feeding.log.leave(view)
    assert feeding.calls == ["listen a"]


async def test_a_view_of_several_channels_merges_them_and_no_other(feeding: Feeding) -> None:
    view = feeding.log.join(("a", "b"))
    feeding.log.join(("c",))
    for channel in "abcbacab":
        feeding.feed(channel)
    assert read(view, 0) == [1, 2, 4, 5, 7, 8]
    assert read(view, 4) == [5, 7, 8]


async def test_a_view_is_behind_if_one_of_its_channels_is(feeding: Feeding) -> None:
    view = feeding.log.join(("a", "b"))
    feeding.feed("a")
    feeding.feed_many(1_001, "b")
    assert view.after(1) is BEHIND
    assert read(view, 2) == list(range(3, 1_003))


# -- batches ----------------------------------------------------------------------------------------------------------


async def test_readers_at_the_same_position_are_given_the_same_bytes(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.log.join(("news",))
    entries = feeding.feed_many(3)
    batch = view.after(1)
    assert isinstance(batch, Batch)
    assert batch.frame == entries[1].frame + entries[2].frame
    assert batch.events == 2
    assert view.after(1) is batch
    assert view.after(0) is not batch


async def test_readers_with_the_same_entries_before_them_share_the_bytes_though_their_positions_differ(
    feeding: Feeding,
) -> None:
    # Who came while other channels were busy stands at a position of its own.
    view = feeding.log.join(("news", "quiet"))
    feeding.log.join(("news", "quiet"))
    feeding.feed_many(100, "others")
    feeding.feed_many(3, "news")
    batches = {id(view.after(position)) for position in range(101)}
    assert len(batches) == 1
    assert read(view, 50) == read(view, 100) == [101, 102, 103]
    assert read(view, 101) == [102, 103]


async def test_a_batch_is_as_new_as_the_log(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    feeding.log.join(("news",))
    entries = []
    for _ in range(3):
        entries.append(feeding.feed())
        batch = view.after(0)
        assert isinstance(batch, Batch)
        assert list(batch.entries) == entries
        assert (batch.frame, batch.events) == (b"".join(entry.frame for entry in entries), len(entries))


async def test_a_batch_ends_with_the_entry_that_brings_it_to_64_kib_and_says_that_more_follows(
    feeding: Feeding,
) -> None:
    view = feeding.log.join(("news",))
    entries = feeding.feed_many(10, size=20_000)
    batch = view.after(0)
    assert isinstance(batch, Batch)
    assert list(batch.entries) == entries[:4]
    assert batch.position == batch.last == 4
    assert batch.more
    last = view.after(8)
    assert isinstance(last, Batch)
    assert not last.more
    assert read(view, 0) == list(range(1, 11))


async def test_a_batch_that_is_full_with_the_newest_entry_says_that_nothing_follows(feeding: Feeding) -> None:
    view = feeding.log.join(("a", "b"))
    feeding.feed("a", size=60_000)
    feeding.feed("b", size=60_000)
    batch = view.after(0)
    assert isinstance(batch, Batch)
    assert len(batch.entries) == 2
    assert not batch.more


@pytest.mark.parametrize("key", [("a",), ("a", "b")], ids=" ".join)
async def test_a_batch_ends_where_a_channel_is_finished(feeding: Feeding, key: tuple[str, ...]) -> None:
    view = feeding.log.join(key)
    feeding.feed("a")
    feeding.feed("a", kind=Kind.FINISH)
    feeding.feed(key[-1])
    batch = view.after(0)
    assert isinstance(batch, Batch)
    assert batch.finish
    assert ([entry.sequence for entry in batch.entries], batch.last, batch.position) == ([1], 1, 2)
    empty = view.after(1)
    assert isinstance(empty, Batch)
    assert empty.finish
    assert (list(empty.entries), empty.position, empty.frame) == ([], 2, b"")
    behind = view.after(2)
    assert isinstance(behind, Batch)
    assert not behind.finish


async def test_joined_bytes_are_dropped_when_they_have_served(
    feeding: Feeding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_CACHED_SECONDS", 0.02)
    view = feeding.log.join(("news",))
    feeding.log.join(("news",))
    for _ in range(2):  # and again, though nothing is new
        feeding.feed_many(2)
        batch = view.after(0)
        assert view.after(0) is batch
        await asyncio.sleep(0.01)
        await until(lambda kept=batch: view.after(0) is not kept, "the batch is dropped")


async def test_the_bytes_joined_for_a_reader_of_its_own_are_not_kept(feeding: Feeding) -> None:
    view = feeding.log.join(("news", "user 1"))
    feeding.feed_many(2)
    assert view.after(0) is not view.after(0)
    assert not feeding.log._cached


# -- waking -----------------------------------------------------------------------------------------------------------


def ticking(ticks: list[int], awake: list[Sleeper]) -> Iterator[None]:
    """Note at each turn of the event loop how many are awake."""
    loop = asyncio.get_running_loop()
    on = True

    def tick() -> None:
        ticks.append(len(awake))
        if on:
            loop.call_soon(tick)

    loop.call_soon(tick)
    yield
    on = False


async def test_who_waits_is_woken_in_slices_with_others_served_in_between(feeding: Feeding) -> None:
    views = [feeding.log.join(key) for key in (("a",), ("a", "b"))]
    awake = lay_down(views[0], 70)
    for _ in range(50):
        views[1].waiting[Sleeper(awake)] = None
    expected = [*views[0].waiting, *views[1].waiting]
    ticks: list[int] = []
    ticker = ticking(ticks, awake)
    next(ticker)
    feeding.feed("a")
    assert awake == []  # not from the publisher's own call
    await until(lambda: len(awake) == 120, "all are awake")
    next(ticker, None)
    assert awake == expected  # in the order in which they came
    steps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert max(steps) == 16
    assert sorted(set(ticks))[:4] == [0, 16, 32, 48]


async def test_who_waits_is_woken_once_for_all_that_came_and_again_until_it_waits_no_longer(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    awake = lay_down(view)
    for expected in (1, 2):
        feeding.feed_many(3)
        await until(lambda: feeding.log._sleepers is None, "the log is at rest")
        assert len(awake) == expected
    del view.waiting[awake[0]]
    feeding.feed()
    await until(lambda: feeding.log._sleepers is None, "the log is at rest")
    assert len(awake) == 2


async def test_who_waits_for_another_channel_sleeps_on(feeding: Feeding) -> None:
    quiet = lay_down(feeding.log.join(("quiet",)))
    awake = lay_down(feeding.log.join(("news",)))
    feeding.feed()
    await until(lambda: awake, "it is awake")
    assert quiet == []


@pytest.mark.parametrize("count", [15, 16, 17, 32])
async def test_news_while_the_last_are_woken_wake_again(feeding: Feeding, count: int) -> None:
    view = feeding.log.join(("news",))
    again: list[Sleeper] = []
    awake: list[Sleeper] = []

    def publish() -> None:
        if len(awake) == count:
            view.waiting[Sleeper(again)] = None
            feeding.feed()

    for _ in range(count):
        view.waiting[Sleeper(awake, publish)] = None
    feeding.feed()
    await until(lambda: again, "who waited again is awake")


@pytest.mark.parametrize("count", [5, 16, 100])
async def test_one_who_raises_is_reported_and_hurts_no_other(feeding: Feeding, count: int) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    reported: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    try:
        view = feeding.log.join(("news",))

        def fail() -> None:
            raise LookupError

        awake = lay_down(view, count, fail)
        fine: list[Sleeper] = []
        view.waiting[Sleeper(fine)] = None
        feeding.feed()
        await until(lambda: fine, "the one behind them is awake")
        assert len(awake) == len(reported) == count
        assert all(isinstance(error, LookupError) for error in reported)
        later = lay_down(view)
        feeding.feed()
        await until(lambda: later, "the log goes on")
    finally:
        loop.set_exception_handler(before)


async def test_closing_wakes_everybody(feeding: Feeding) -> None:
    awake = [lay_down(feeding.log.join((name,)), 40) for name in "abc"]
    feeding.feed("a")  # who is to be woken for news is woken, too
    feeding.log.close()
    await until(lambda: all(len(each) == 40 for each in awake), "all are awake")


async def test_a_reader_that_leaves_while_others_are_woken_breaks_nothing(feeding: Feeding) -> None:
    views = [feeding.log.join((name, "news")) for name in "abcdefgh"]
    awake: list[Sleeper] = []

    def leave() -> None:
        if views:
            feeding.log.leave(views.pop())

    for view in list(views):
        for _ in range(20):
            view.waiting[Sleeper(awake, leave)] = None
    feeding.feed()
    await until(lambda: feeding.log._sleepers is None, "the log is at rest")
    assert sorted(feeding.calls) == sorted(f"{call} {name}" for name in [*"abcdefgh", "news"] for call in LISTENING)
    assert not feeding.log._channels
    assert len(awake) == 160


# -- publishers give way ----------------------------------------------------------------------------------------------


async def publish(feeding: Feeding, count: int) -> None:
    for _ in range(count):
        feeding.feed()
        await feeding.log.give_way(1)


async def test_publishers_let_the_loop_turn(feeding: Feeding) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await publish(feeding, 160)
    other.cancel()
    assert 9 <= turns <= 11


async def test_publishers_push_nobody_out_of_the_tail_who_waits_for_its_turn(feeding: Feeding) -> None:
    view = feeding.log.join(("news",))
    positions: dict[Any, int] = {}

    class Reading:
        def wake(self) -> None:
            batch = view.after(positions[self])
            assert batch is not BEHIND
            if batch is not None:
                positions[self] = batch.position

    for _ in range(3_000):
        reading = Reading()
        positions[reading] = 0
        view.waiting[reading] = None
    await asyncio.gather(*(publish(feeding, 1_000) for _ in range(3)))
    await until(lambda: set(positions.values()) == {3_000}, "all have read everything")


async def test_a_publisher_does_not_wait_for_what_others_feed(feeding: Feeding) -> None:
    # Another process may publish so much that somebody is always to be woken.
    view = feeding.log.join(("news",))
    on = True

    class Restless:
        def wake(self) -> None:
            if on and self is next(iter(view.waiting)):
                feeding.feed_many(3)

    for _ in range(400):  # so many that publishers have to wait in each round
        view.waiting[Restless()] = None
    try:
        async with asyncio.timeout(10):
            await publish(feeding, 2_000)
    finally:
        on = False


async def test_publishers_wait_for_nobody_if_nobody_waits(feeding: Feeding) -> None:
    feeding.log.join(("news",))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await publish(feeding, 1_600)
    other.cancel()
    assert turns <= 110


# -- comings and goings -----------------------------------------------------------------------------------------------


async def test_ten_thousand_channels_that_come_and_go_leave_nothing(feeding: Feeding) -> None:
    for start in range(0, 10_000, 1_000):
        awake: list[Sleeper] = []
        views = []
        for number in range(start, start + 1_000):
            name = f"channel {number}"
            joined = [feeding.log.join(key) for key in ((name,), (name,), (name, "news"))]
            for view in joined:
                view.waiting[Sleeper(awake)] = None
            position = feeding.newest
            feeding.feed(name)
            assert read(joined[0], position) == read(joined[2], position) == [feeding.newest]
            views += joined
        await until(lambda awake=awake: len(awake) == 3_000, "all are awake")
        for view in views:
            feeding.log.leave(view)
        log = feeding.log
        assert [len(held) for held in (log._channels, log._views, log._cached, log._dirty)] == [0] * 4
    await until(lambda: feeding.log._sleepers is None, "the log is at rest")
    names = [f"channel {number}" for number in range(10_000)] + ["news"] * 10
    assert sorted(feeding.calls) == sorted(f"{call} {name}" for name in names for call in LISTENING)
