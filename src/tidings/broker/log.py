"""What is new in a log, shared by all subscribers of this process.

There is no queue per subscriber. Each channel that somebody reads has one tail of its newest entries, and a subscriber
is a position in it. To publish is to append once and to note that the channel has something new. Then those who wait
are woken, a slice of them at each turn of the event loop: most find more than one entry when their turn comes, and
whoever reads on from the same position is given the same bytes, joined once.

A subscriber that falls behind the tail reads on from the storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from heapq import merge
from itertools import islice
from typing import Final, Protocol

from tidings.broker.entry import NEVER, Entry, Kind, Run, Window
from tidings.broker.metrics import Figures
from tidings.wire.frames import Frames

__all__ = ["BEHIND", "Batch", "Behind", "Log", "Miss", "Sleeper", "View"]

_TAIL_ENTRIES: Final = 1_000
"""Entries that the tail of a channel holds at the most."""

_TAIL_BYTES: Final = 8 << 20
"""Bytes of frames that it holds at the most; the newest entry is held whatever its size."""

_SLICE: Final = 16
"""Subscribers woken at each turn of the event loop: all at once would hold up everything else, and each would find
little. The fewer there are, the more a publisher that never rests gets done in between, and the more goes into each
write: of a thousand subscribers each write then holds 60 events, and costs hardly more than one of a single event."""

_BATCH_BYTES: Final = 65_536
"""A batch ends with the entry that brings it to this size."""

_CACHED_SECONDS: Final = 1.0
"""After this a channel's joined bytes are dropped: whoever was to be woken has read them."""

_PUBLISHED_A_TURN: Final = 16
"""Entries that publishers may append in a row before the event loop is to turn."""

_PUBLISHED_A_ROUND: Final = 256
"""Entries that they may append while subscribers wait for their turn: more would push them out of the tail."""


class Behind(Enum):
    """See `BEHIND`."""

    BEHIND = "behind"


BEHIND: Final = Behind.BEHIND
"""The tail doesn't reach back to the position: read the storage."""


class Batch(Frames):
    """Entries that follow a position, and the position behind them; shared by all who read on from there."""

    __slots__ = ("entries", "finish", "last", "more", "position")

    def __init__(self, entries: Sequence[Entry], position: int, *, finish: bool = False, more: bool = False) -> None:
        if isinstance(entries, Run):
            frames, last = entries.frames, entries.sequences[-1]
        else:
            frames, last = [entry.frame for entry in entries], entries[-1].sequence if entries else position
        super().__init__(b"".join(frames), len(frames))
        self.entries = entries
        self.last = last
        """The sequence of the last entry; the position, if there is none."""
        self.position = position
        self.finish = finish
        """Whether one of the channels was finished at this position."""
        self.more = more
        """Whether something follows already."""


class _Channel:
    """The tail of one channel, for as long as somebody reads it."""

    __slots__ = ("dirty", "floor", "newest", "views", "window")

    def __init__(self) -> None:
        self.window = Window()
        self.floor: int | None = None
        """What the channel has behind this position is in the window. None: it isn't fed yet."""
        self.newest = NEVER
        self.views: dict[View, None] = {}
        self.dirty = False  # its readers are to be woken

    def append(self, entry: Entry) -> None:
        if self.floor is None:
            return  # behind the `skip` that is to come, or before it
        window = self.window
        window.append(entry)
        self.newest = entry.sequence
        while len(window) > _TAIL_ENTRIES or (window.size > _TAIL_BYTES and len(window) > 1):
            self.floor = window.drop_oldest()

    def skip(self, position: int) -> None:
        self.window = Window()
        self.floor = self.newest = position

    def lose(self) -> None:
        self.window = Window()
        self.floor = None
        for view in self.views:
            view.clear_cache()  # the sequences begin anew, too


class Miss:
    """Something that was not fed in its place. Each knows the next: those that every reader knows of are freed."""

    __slots__ = ("after", "next", "up_to")

    def __init__(self, after: int, up_to: int) -> None:
        self.after = after
        """Up to this position the channel was fed."""
        self.up_to = up_to
        """Behind this position it is fed again."""
        self.next: Miss | None = None


class Sleeper(Protocol):
    """Who waits for what is new."""

    def wake(self) -> None:
        """There may be something new, or the log is closed. Called until it takes itself out of `View.waiting`."""


class View:
    """Some channels, for all subscribers that read just these."""

    __slots__ = ("_cache", "_cached_at", "_channels", "_log", "key", "missed", "readers", "waiting")

    def __init__(self, log: Log, key: tuple[str, ...], channels: list[_Channel]) -> None:
        self.key = key
        self.readers = 0
        self.missed = Miss(NEVER, NEVER)
        """The newest; a reader that doesn't know of it has to read the storage."""
        self.waiting: dict[Sleeper, None] = {}
        self._log = log
        self._channels = channels
        self._cache: dict[int, Batch] = {}
        self._cached_at = 0  # the newest entry when it was read last

    def after(self, position: int) -> Batch | Behind | None:
        """What follows a position: None if there is nothing new."""
        newest = 0
        for channel in self._channels:
            if channel.floor is None:
                return None  # until it is fed: what the other channels have may come behind what this one has
            if position < channel.floor:
                return BEHIND
            newest = max(newest, channel.newest)
        if newest <= position:
            return None
        if newest != self._cached_at:
            self._cache.clear()
            self._cached_at = newest
        batch = self._cache.get(position)
        if batch is None:
            batch = self._share(position) if self.readers > 1 else self._read(position)
        return batch

    def _share(self, position: int) -> Batch:
        # Readers that began at different positions have the same entries before them when their channels were quiet.
        firsts = [channel.window.first_after(position) for channel in self._channels]
        before = min([first for first in firsts if first is not None]) - 1
        batch = self._cache.get(before)
        if batch is None:
            batch = self._cache[before] = self._read(before)
            self._log.cached(self)
        self._cache[position] = batch
        return batch

    def _read(self, position: int) -> Batch:
        runs = [channel.window.after(position, _TAIL_ENTRIES, _BATCH_BYTES) for channel in self._channels]
        if len(runs) == 1 and Kind.FINISH not in runs[0].kinds:
            position = runs[0].sequences[-1]
            return Batch(runs[0], position, more=position < self._cached_at)
        entries: list[Entry] = []
        size = 0
        for entry in merge(*runs):
            position = entry.sequence
            if entry.kind == Kind.FINISH:
                return Batch(entries, position, finish=True)
            entries.append(entry)
            size += len(entry.frame)
            if size >= _BATCH_BYTES:
                break
        return Batch(entries, position, more=position < self._cached_at)

    def miss(self, after: int, up_to: int) -> None:
        miss = Miss(after, up_to)
        self.missed.next = miss
        self.missed = miss

    def clear_cache(self) -> None:
        self._cache.clear()
        self._cached_at = NEVER


class Log:
    """The tails of an open broker, on its event loop; what its storage feeds.

    Args:
        listen: called with a channel when the first of its subscribers comes; see `Storage.listen`.
        unlisten: called with it when the last one has gone.
        figures: where is counted what happens.
    """

    def __init__(
        self,
        listen: Callable[[str], int | None],
        unlisten: Callable[[str], None],
        figures: Figures | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self.figures = figures or Figures()
        self._listen = listen
        self._unlisten = unlisten
        self._channels: dict[str, _Channel] = {}
        self._views: dict[tuple[str, ...], View] = {}
        self._dirty: list[_Channel] = []
        self._sleepers: Iterator[Sleeper] | None = None  # while subscribers are being woken
        self._published = 0  # since the event loop turned last
        self._round = 0  # entries appended since a round of waking began
        self._rounds = 0  # how many have begun
        self._cached: dict[View, None] = {}

    # -- what the storage feeds ---------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Take what is new."""
        channels = self._channels
        for entry in entries:
            channel = channels.get(entry.channel)
            if channel is not None:
                channel.append(entry)
                self._wake_readers(channel)
        if self._dirty:
            self.figures.fed(entries[0].at)

    def skip(self, position: int, channel: str | None = None) -> None:
        """Something was not fed, of one channel or of all: let everybody look in the storage."""
        for found in self._channels.values() if channel is None else self._named(channel):
            found.skip(position)
            self._wake_readers(found)

    def miss(self, channel: str, after: int, position: int) -> None:
        """Something was not fed that others were fed behind: let everybody look in the storage, maybe once more."""
        for found in self._named(channel):
            for view in found.views:
                view.miss(after, position)
            found.skip(position)
            self._wake_readers(found)

    def lose(self) -> None:
        """The log has another epoch: let everybody look in the storage, and wait for a `skip`."""
        for channel in self._channels.values():
            channel.lose()
            self._wake_readers(channel)

    def _named(self, channel: str) -> list[_Channel]:
        found = self._channels.get(channel)
        return [] if found is None else [found]

    # -- who reads ----------------------------------------------------------------------------------------------------

    def join(self, key: tuple[str, ...]) -> View:
        """The view of these channels, for one reader more; `key` holds their names, sorted, each once."""
        view = self._views.get(key)
        if view is None:
            channels = [self._channels.get(name) or self._begin(name) for name in key]
            view = self._views[key] = View(self, key, channels)
            for channel in channels:
                channel.views[view] = None
        view.readers += 1
        if not _is_internal(key):
            self.figures.subscribed(1)
        return view

    def _begin(self, name: str) -> _Channel:
        channel = self._channels[name] = _Channel()
        position = self._listen(name)
        if position is not None:
            channel.skip(position)
        return channel

    def leave(self, view: View) -> None:
        """One reader of this view has gone; with the last one goes what was kept for it."""
        view.readers -= 1
        if not _is_internal(view.key):
            self.figures.subscribed(-1)
        if view.readers:
            return
        del self._views[view.key]
        self._cached.pop(view, None)
        for name in view.key:
            channel = self._channels[name]
            del channel.views[view]
            if not channel.views:
                del self._channels[name]
                if not self.closed:
                    self._unlisten(name)

    def readers(self, name: str) -> int:
        """How many readers a channel has."""
        channel = self._channels.get(name)
        return 0 if channel is None else sum(view.readers for view in channel.views)

    def census(self) -> tuple[int, int, int]:
        """How many channels are read, how many readers there are, and how many of them wait. Any thread may ask."""
        channels = sum(name >= " " for name in list(self._channels))
        readers = waiting = 0
        for view in list(self._views.values()):
            if not _is_internal(view.key):
                readers += view.readers
                waiting += len(view.waiting)
        return channels, readers, waiting

    def close(self) -> None:
        """Tell all readers that nothing follows."""
        self.closed = True
        for channel in self._channels.values():
            self._wake_readers(channel)

    # -- waking them --------------------------------------------------------------------------------------------------

    def _wake_readers(self, channel: _Channel) -> None:
        self._round += 1
        if not channel.dirty:
            channel.dirty = True
            self._dirty.append(channel)
            if self._sleepers is None:
                self._sleepers = self._to_wake()
                self._round = 1
                self.loop.call_soon(self._wake_slice)

    def _to_wake(self) -> Iterator[Sleeper]:
        while self._dirty:
            channels, self._dirty = self._dirty, []
            self._round = 0
            self._rounds += 1
            for channel in channels:
                channel.dirty = False
                for view in list(channel.views):
                    yield from list(view.waiting)

    def _wake_slice(self) -> None:
        assert self._sleepers is not None
        self._published = 0
        woken = 0
        more = True  # also if one raises: the others are to be woken all the same
        try:
            for sleeper in islice(self._sleepers, _SLICE):
                woken += 1
                sleeper.wake()
            more = woken == _SLICE
        finally:
            if more:
                self.loop.call_soon(self._wake_slice)
            else:
                self._sleepers = None

    async def give_way(self, published: int) -> None:
        """Let the event loop turn when publishers have kept it long enough for those who read.

        Args:
            published: how many entries the caller has appended since it was here last.
        """
        self._published += published
        if self._published >= _PUBLISHED_A_TURN:
            self._published = 0
            await asyncio.sleep(0)
        if self._round > _PUBLISHED_A_ROUND:
            rounds = self._rounds
            while self._sleepers is not None and self._rounds == rounds:
                await asyncio.sleep(0)

    # -- what they share ----------------------------------------------------------------------------------------------

    def cached(self, view: View) -> None:
        """A view holds joined bytes; they are dropped when they have served."""
        if not self._cached:
            self.loop.call_later(_CACHED_SECONDS, self._clear_caches)
        self._cached[view] = None

    def _clear_caches(self) -> None:
        for view in self._cached:
            view.clear_cache()
        self._cached.clear()


def _is_internal(key: tuple[str, ...]) -> bool:
    """Whether this is one of the broker's own channels: their names begin with a control character."""
    return key[0] < " "
