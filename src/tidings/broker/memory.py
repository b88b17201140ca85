"""The log in this process's memory: for one process, and gone with it."""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import heappop, heappush, merge
from itertools import islice
from typing import Final

from tidings.broker.entry import FINISH, Draft, Entry, Kind, Window, event_id
from tidings.broker.run import Lease, Run, State
from tidings.broker.storage import PAGE_BYTES, PAGE_ENTRIES, ChannelInfo, Feed, Page, Retention, Storage, first_page
from tidings.errors import PublishError

__all__ = ["MemoryStorage"]

_SWEPT_AT_ONCE: Final = 1_000
"""Channels that one turn of the event loop sweeps."""

_BETWEEN_SWEEPS: Final = 0.05
"""Seconds: channels that are due one after the other are swept together."""

_SORTED_AT_ONCE: Final = 2_000
"""Names of channels that one turn of the event loop sorts, when they are listed."""

_LISTED_AT_ONCE: Final = 200
"""Channels that it lists."""

_MOST_CLAIMS: Final = 100_000
"""Claims that haven't run out. To forget one of them would be to grant it twice."""


class _Channel:
    """What is kept of one channel."""

    __slots__ = ("at", "finished", "published", "trimmed", "window")

    def __init__(self, trimmed: int) -> None:
        self.window = Window()
        self.trimmed = trimmed
        self.finished = False
        self.published = 0
        self.at = 0.0  # of its newest entry


class _Run:
    """What is recorded of a channel's last run."""

    __slots__ = ("at", "events", "id", "producer", "state")

    def __init__(self, id: str, producer: str, at: float) -> None:
        self.id = id
        self.producer = producer
        self.state = State.RUNNING
        self.at = at
        self.events = 0


class MemoryStorage(Storage):
    """A log that lives as long as this object.

    Everything happens at once, on the event loop, so nothing here waits and nothing can fail.
    """

    kind = "memory"

    def __init__(self, retention: Retention) -> None:
        self.epoch = ""  # drawn when it is opened first: processes that fork before have logs of their own
        self._retention = retention
        self._newest = 0
        self._forgotten = 0  # the mark of all channels that have none of their own
        self._at = 0.0  # of the newest entry: clocks may be set back, the log's time isn't
        # Both by the time of their newest entries, oldest first. Those in `_quiet` show nothing: only marks are left.
        self._channels: OrderedDict[str, _Channel] = OrderedDict()
        self._quiet: OrderedDict[str, _Channel] = OrderedDict()
        self._runs: dict[str, _Run] = {}
        self._producers: set[str] = set()  # of this opening
        self._claims: set[str] = set()
        self._claimed_until: list[tuple[float, str]] = []  # a heap: what runs out first is in front
        self._feed: Feed | None = None  # while it is open
        self._sweeper: asyncio.TimerHandle | None = None

    async def open(self, feed: Feed) -> None:
        self.epoch = self.epoch or "".join(secrets.choice(string.digits + string.ascii_lowercase) for _ in range(10))
        self._feed = feed
        self._plan_sweep()

    async def close(self) -> None:
        self._feed = None
        self._producers.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    async def append(self, channel: str, draft: Draft) -> str:
        return event_id(self.epoch, self._append(channel, (draft,)))

    def _append(self, channel: str, drafts: Sequence[Draft]) -> int:
        """Append events; the sequence of the last one."""
        state = self._touch(channel)
        state.finished = False
        entries = []
        for draft in drafts:
            entry = self._entry(channel, draft)
            state.window.append(entry)
            entries.append(entry)
        self._feed_all(entries)
        state.published += len(drafts)
        if self._retention.history is not None:
            while len(state.window) > self._retention.history:
                state.trimmed = state.window.drop_oldest()
        self._expire(state)
        self._settle(channel, state)
        return self._newest

    async def finish(self, channel: str) -> None:
        self._finish(channel)

    def _finish(self, channel: str) -> None:
        state = self._find(channel)
        if state is None or not state.finished:
            state = self._touch(channel)
            state.finished = True
            self._feed_all((self._entry(channel, FINISH),))
            self._settle(channel, state)

    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        states = [self._find(name) for name in channels]
        trimmed = 0
        for state in states:
            if state is not None:
                self._expire(state)
            trimmed = max(trimmed, self._forgotten if state is None else state.trimmed)
        entries: list[Entry] = []
        position = self._newest
        if after is not None:
            windows = [state.window for state in states if state is not None and len(state.window)]
            entries = first_page(merge(*(window.after(after, PAGE_ENTRIES, PAGE_BYTES) for window in windows)))
            if entries and entries[-1].sequence < max(window.newest.sequence for window in windows):
                position = entries[-1].sequence
        finished = all(state is not None and state.finished for state in states)
        return Page(self.epoch, entries, position, self._newest, trimmed, finished)

    async def channels(self, after: str, most: int) -> Sequence[ChannelInfo]:
        first = await self._first_names(after, most)
        found = []
        for count, name in enumerate(first, 1):
            if count % _LISTED_AT_ONCE == 0:
                await asyncio.sleep(0)
            state = self._find(name)
            if state is not None:  # else it was forgotten meanwhile
                found.append(self._info(name, state))
        return found if found or not first else await self.channels(first[-1], most)

    async def _first_names(self, after: str, most: int) -> list[str]:
        names = [*self._channels, *self._quiet]
        first: list[str] = []
        for start in range(0, len(names), _SORTED_AT_ONCE):
            some = names[start : start + _SORTED_AT_ONCE]
            if len(first) == most:
                last = first[-1]
                some = [name for name in some if after < name < last]
            else:
                some = [name for name in some if after < name]
            first = sorted(first + some)[:most]
            await asyncio.sleep(0)
        return first

    def _info(self, name: str, state: _Channel) -> ChannelInfo:
        self._expire(state)
        window = state.window
        if not len(window):
            return ChannelInfo(name, 0, 0, state.published, state.finished)
        return ChannelInfo(
            name,
            len(window),
            window.size,
            state.published,
            state.finished,
            event_id(self.epoch, window.oldest.sequence),
            datetime.fromtimestamp(window.oldest.at, UTC),
            event_id(self.epoch, window.newest.sequence),
            datetime.fromtimestamp(window.newest.at, UTC),
        )

    def listen(self, channel: str) -> int:  # noqa: ARG002 - every channel is fed: that costs nothing here
        return self._newest

    def unlisten(self, channel: str) -> None:
        pass

    async def claim(self, key: str, seconds: float) -> bool:
        now = time.time()
        while self._claimed_until and self._claimed_until[0][0] <= now:
            self._claims.remove(heappop(self._claimed_until)[1])
        if key in self._claims:
            return False
        if len(self._claims) >= _MOST_CLAIMS:
            raise PublishError(f"{_MOST_CLAIMS:,} claims are remembered, and none of them has run out")
        self._claims.add(key)
        heappush(self._claimed_until, (now + seconds, key))
        return True

    # -- background streams -------------------------------------------------------------------------------------------

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:  # noqa: ARG002 - see leases()
        self._producers.add(producer)
        last = self._runs.get(channel)
        if last is not None and (last.state is State.RUNNING or last.id == run):
            return last.id == run
        self._runs[channel] = _Run(run, producer, time.time())
        state = self._find(channel)
        if state is not None:
            state.finished = False
        return True

    async def extend(
        self, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None = None
    ) -> bool:
        last = self._runs.get(channel)
        if last is None or last.id != run:
            return False
        if last.state is not State.RUNNING:
            return last.state is end
        if after is not None and after < last.events:
            return True
        finishes = bool(drafts) and drafts[-1].kind == Kind.FINISH
        events = drafts[:-1] if finishes else drafts
        if events:
            self._append(channel, events)
            last.events += len(events) - [draft.kind for draft in events].count(Kind.CONTROL)
        if finishes:
            self._finish(channel)
        if end is not None:
            last.state = end
            last.at = time.time()
        return True

    async def run_of(self, channel: str) -> Run | None:
        last = self._runs.get(channel)
        return None if last is None else Run(last.id, last.producer, last.state, last.at, last.events)

    async def renew(self, producer: str, lease: float) -> bool:  # noqa: ARG002 - see leases()
        return True

    async def leases(self) -> Sequence[Lease]:
        # All producers are this process. One that was closed in a hurry may have left runs behind.
        lost = {run.producer for run in self._runs.values() if run.state is State.RUNNING} - self._producers
        return [Lease(producer, -1.0, "") for producer in lost]

    async def abort(self, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
        lost = [
            (channel, run.id)
            for channel, run in self._runs.items()
            if run.producer == lease.producer and run.state is State.RUNNING
        ]
        for channel, id in lost[:most]:
            await self.extend(channel, id, None, drafts, end)
        return len(lost[:most])

    # -- channels -----------------------------------------------------------------------------------------------------

    def _find(self, channel: str) -> _Channel | None:
        return self._channels.get(channel) or self._quiet.get(channel)

    def _touch(self, channel: str) -> _Channel:
        """The channel's state, made if there is none, as that of the channel used last."""
        self._at = max(self._at, time.time())
        state = self._channels.pop(channel, None) or self._quiet.pop(channel, None) or _Channel(self._forgotten)
        self._channels[channel] = state
        state.at = self._at
        return state

    def _entry(self, channel: str, draft: Draft) -> Entry:
        """Give the draft its place in the log."""
        self._newest += 1
        return Entry(self._newest, channel, draft.kind, self._at, draft.frame(self.epoch, self._newest))

    def _feed_all(self, entries: Sequence[Entry]) -> None:
        assert self._feed is not None
        self._feed.append(entries)

    def _settle(self, channel: str, state: _Channel) -> None:
        """See that the channel is swept in time; one that shows nothing is only to be forgotten."""
        if not len(state.window):
            self._quiet[channel] = self._channels.pop(channel)
        if self._sweeper is None:
            self._plan_sweep()

    # -- what is too old ----------------------------------------------------------------------------------------------

    def _expire(self, state: _Channel) -> None:
        if self._retention.max_age is not None:
            limit = time.time() - self._retention.max_age
            while len(state.window) and state.window.oldest_at < limit:
                state.trimmed = state.window.drop_oldest()

    def _plan_sweep(self) -> None:
        """Set the timer for the channel that is due first, if there is one."""
        self._sweeper = None
        due = [
            next(iter(states.values())).at + age
            for states, age in ((self._channels, self._retention.max_age), (self._quiet, self._retention.forget_after))
            if states and age is not None
        ]
        if due:
            delay = max(min(due) - time.time(), _BETWEEN_SWEEPS)
            self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        """Drop what is too old of channels that nobody uses: first their events, later their marks."""
        now = time.time()
        if self._retention.max_age is not None:
            for name in _due(self._channels, now - self._retention.max_age):
                state = self._channels.pop(name)
                self._expire(state)
                state.window = Window()
                self._quiet[name] = state
        if self._retention.forget_after is not None:
            for name in _due(self._quiet, now - self._retention.forget_after):
                self._forgotten = max(self._forgotten, self._quiet.pop(name).trimmed)
                run = self._runs.get(name)
                if run is not None and run.state is not State.RUNNING:
                    del self._runs[name]
        self._plan_sweep()


def _due(states: OrderedDict[str, _Channel], limit: float) -> list[str]:
    """The channels that were used last before `limit`."""
    due = []
    for name, state in islice(states.items(), _SWEPT_AT_ONCE):
        if state.at >= limit:
            break
        due.append(name)
    return due
