"""The contract of a storage: what keeps the log of a broker.

A log is one sequence of entries over all channels of a namespace. Whoever appends gets the next place in it; whoever
reads some channels sees their entries in that order. A storage keeps the newest entries of each channel, by count and
age, and remembers for each channel up to where it has dropped them (its mark): so it can say of any position whether
something behind it is gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import ClassVar, Final, Protocol

from tidings.broker.entry import Draft, Entry
from tidings.broker.run import Lease, Run, State

__all__ = ["PAGE_BYTES", "PAGE_ENTRIES", "ChannelInfo", "Feed", "Page", "Retention", "Storage", "first_page"]

PAGE_ENTRIES: Final = 500
"""Entries that one page holds at the most."""

PAGE_BYTES: Final = 65_536
"""A page ends with the entry that brings its frames to this size."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of a channel. None lifts a bound."""

    history: int | None
    """The newest events; a storage may keep a few more, and shows none of them."""
    max_age: float | None
    """Seconds; an older event is not shown."""
    forget_after: float | None
    """Seconds without an event after which a channel's marks fold into one of the namespace."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a storage knows of some channels behind a position, at one moment."""

    epoch: str
    """Of the log that was read."""
    entries: Sequence[Entry]
    """The events shown, in order; no entry of the kind `FINISH`. Empty if none was asked for."""
    position: int
    """Up to here nothing is missing from `entries` but what isn't shown any more. `newest`, if the page is complete."""
    newest: int
    """The sequence given out last in the namespace."""
    trimmed: int
    """The newest entry of these channels that isn't shown any more; 0 if there is none."""
    finished: bool
    """Whether all these channels are finished."""

    @property
    def complete(self) -> bool:
        """Whether nothing was left for another page."""
        return self.position == self.newest


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """What there is of one channel.

    Attributes:
        name: its name.
        events: how many events are retained.
        size: the bytes of these, as they are sent.
        published: how many events were published to it since it is known, dropped ones included. What this grows by
            in a while is the channel's rate, however little is retained.
        finished: whether it is finished.
        oldest_id: the id of the oldest event that is retained; None if none is.
        oldest_at: when that was published, in UTC.
        newest_id: the id of the newest.
        newest_at: when that was published.
    """

    name: str
    events: int
    size: int
    published: int
    finished: bool
    oldest_id: str | None = None
    oldest_at: datetime | None = None
    newest_id: str | None = None
    newest_at: datetime | None = None


def first_page(entries: Iterable[Entry]) -> list[Entry]:
    """As many of these as go on a page: one at least, if there is one."""
    page: list[Entry] = []
    size = 0
    for entry in islice(entries, PAGE_ENTRIES):
        page.append(entry)
        size += len(entry.frame)
        if size >= PAGE_BYTES:
            break
    return page


class Feed(Protocol):
    """Takes what is new in a log; a storage calls it on the event loop that it was opened on."""

    def append(self, entries: Sequence[Entry]) -> None:
        """What the channels listened to were given since the last call, in order, `FINISH` included; one at least."""

    def skip(self, position: int, channel: str | None = None) -> None:
        """What was stored up to here, in one channel or in all, is not fed: who needs it has to read it."""

    def miss(self, channel: str, after: int, position: int) -> None:
        """Some of what was stored behind `after` in a channel was not fed; behind `position` everything is again.

        Unlike with `skip`, others were fed meanwhile: who is behind `after` may have passed it by.
        """

    def lose(self) -> None:
        """The log has another epoch now. A `skip` of each channel listened to follows."""


class Storage(ABC):
    """Keeps a log.

    It belongs to one broker and one event loop. `open` comes first, `close` last, and it may be opened again. Between
    them the others may be called at any time, many at once; a call that is cancelled leaves nothing behind but, maybe,
    the entry it was to append.
    """

    kind: ClassVar[str]
    """What it is called in figures."""

    epoch: str
    """`[0-9a-z]{1,32}`: of the log, from `open` on. Another one means that what was before is lost."""

    @abstractmethod
    async def open(self, feed: Feed) -> None:
        """Make the log ready.

        Raises:
            StorageError: it can't be; the message says what is wrong with what, and what would help.
        """

    @abstractmethod
    async def close(self) -> None:
        """Store what `append` was called for, as far as it goes, then release everything. Never raises."""

    @property
    def connected(self) -> bool:
        """Whether it answered when it was last asked for something, or had something to feed. Any thread may ask."""
        return True

    @abstractmethod
    async def append(self, channel: str, draft: Draft) -> str:
        """Append an event, return its id once it is stored. Opens a finished channel again.

        Of two appends to a storage the one that was called first is stored first, though nobody waited for it.

        Raises:
            PublishError: it may or may not be stored. An append whose outcome is unknown isn't repeated.
        """

    @abstractmethod
    async def finish(self, channel: str) -> None:
        """Finish a channel, used before or not, by an entry of kind `FINISH`; nothing happens if it is finished.

        Raises:
            PublishError: it may or may not be finished.
        """

    @abstractmethod
    async def read(self, channels: Sequence[str], after: int | None) -> Page:
        """The next page of some channels behind a position; None: no entries, only where the log stands.

        `after` may lie before everything or ahead of the log. A page holds an entry at least if there is one.

        Raises:
            StorageError: the log can't be read. If that is `temporary`, a `skip` of each channel listened to follows
                when it can be read again.
        """

    @abstractmethod
    async def channels(self, after: str, most: int) -> Sequence[ChannelInfo]:
        """The next channels behind this name, in the order of their names; no more than `most`, none if none follow.

        It holds up nobody else, however many there are: a storage gives fewer at a time, or takes several steps. An
        unfinished channel that shows nothing may be left out. `size` may be an estimate where frames aren't counted.

        Raises:
            StorageError: the log can't be read.
        """

    @abstractmethod
    def listen(self, channel: str) -> int | None:
        """Start to feed what is new in a channel; others may be fed, too.

        Returns:
            The position behind which everything is fed. None: it isn't known yet, and a `skip` follows that says it.
            Then what is stored after a `read` that was called later than this is behind that position, or before it.
        """

    @abstractmethod
    def unlisten(self, channel: str) -> None:
        """Nobody listens to this channel any more."""

    @abstractmethod
    async def claim(self, key: str, seconds: float) -> bool:
        """Claim a key for so many seconds, by the clock on the wall; it has nothing to do with channels.

        Returns:
            False if somebody has claimed it already, here or in another process, and that hasn't run out.

        Raises:
            PublishError: it may or may not be claimed.
        """

    # -- background streams -------------------------------------------------------------------------------------------

    @abstractmethod
    async def begin(self, channel: str, run: str, producer: str, lease: float) -> bool:
        """Record that a run of this channel has begun, and renew its producer's lease, for so many seconds.

        A finished channel is open again, without an entry that says so. What is recorded of a channel's run is
        forgotten with the channel; that of one that is running is not.

        Returns:
            False if another run of it is running, whatever its producer's lease: then nothing has changed. True also
            if this very run was recorded before; if it has ended since, that stays.

        Raises:
            PublishError: it may or may not be recorded.
        """

    @abstractmethod
    async def extend(
        self, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None = None
    ) -> bool:
        """Append what a run gave, all of it or nothing, and record its end if this is the end.

        Args:
            channel: the run's.
            run: its id.
            after: how many events of the run come before these: if they are stored already, because an answer was lost,
                nothing is done. None: however many there are.
            drafts: in order; there may be none. Only those of the kinds `JSON` and `RAW` count as events of the run.
            end: the state that the run has from now on.

        Returns:
            False if the run isn't running any more: then nothing was done. True also if this very end was recorded.

        Raises:
            PublishError: it may or may not be stored. This may be repeated, as `after` is given.
        """

    @abstractmethod
    async def run_of(self, channel: str) -> Run | None:
        """The last run of a channel; None if there was none, or it is forgotten.

        Raises:
            StorageError: the log can't be read.
        """

    @abstractmethod
    async def renew(self, producer: str, lease: float) -> bool:
        """Renew a producer's lease, for so many seconds from now.

        Returns:
            False if there was none: then none is made. True also if it had run out.

        Raises:
            PublishError: it may or may not be renewed.
        """

    @abstractmethod
    async def leases(self) -> Sequence[Lease]:
        """Those of all producers.

        Raises:
            StorageError: the log can't be read.
        """

    @abstractmethod
    async def abort(self, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> int:
        """End some runs of a producer whose lease is still this one, each by these drafts.

        When none is left, the lease is gone.

        Returns:
            How many were ended: `most` at the most.

        Raises:
            PublishError: they may or may not have ended.
        """
