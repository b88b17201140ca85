"""What a subscriber holds: an iterator of events, or of their joined bytes for a response."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from pydantic_core import from_json
from starlette.exceptions import HTTPException

from tidings.broker.entry import Entry, Kind, event_id, split_frame
from tidings.broker.reader import OpenBroker, Reader
from tidings.errors import ChannelForbidden, StorageError
from tidings.wire.encoder import encode
from tidings.wire.event import ServerSentEvent
from tidings.wire.frames import Frames, FrameSource, Listener

__all__ = ["DeliveredEvent", "Filter", "Guard", "GuardedSubscription", "Subscription"]

_RETRY_AFTER_SECONDS = "5"

_NO_ENTRIES: Iterator[Entry] = iter(())
"""For all subscriptions that have none to give: one that was given to its end stays there."""


class DeliveredEvent(Frames):
    """An event of a channel, as a subscriber gets it. Yielded from an endpoint it goes out as it was stored.

    Attributes:
        channel: what it was published to; of a `reset` the first channel of the subscription.
        id: its id, which resumes a subscription behind it.
        event: its name; None if it has none.
        data: the JSON value, decoded; the text, if it was published as `raw_data`.
        control: whether it is the broker's own, and not somebody's who uses its name.
    """

    __slots__ = ("_data", "_entry", "_name", "id")

    def __init__(self, entry: Entry, epoch: str) -> None:
        super().__init__(entry.frame)
        self.id = event_id(epoch, entry.sequence)
        self._entry = entry

    @property
    def channel(self) -> str:
        return self._entry.channel

    @property
    def control(self) -> bool:
        return self._entry.kind == Kind.CONTROL

    @property
    def event(self) -> str | None:
        self._decode()
        return self._name

    @property
    def data(self) -> Any:
        self._decode()
        return self._data

    def _decode(self) -> None:
        # Not before somebody asks: most events go from the log to a socket, and nobody does.
        if not hasattr(self, "_name"):
            name, text = split_frame(self._entry.frame)
            self._data: Any = text if self._entry.kind == Kind.RAW else from_json(text)
            self._name: str | None = name

    def __repr__(self) -> str:
        return f"DeliveredEvent({self.channel!r}, id={self.id!r}, event={self.event!r}, data={self.data!r})"


Filter = Callable[[DeliveredEvent], object]
"""What `where=` takes."""

Guard = Callable[[str], object]
"""What `guard=` takes; it may be an `async def`."""


class _Beginning(NamedTuple):
    """What a subscription begins with, and needs no longer than until then."""

    find_broker: Callable[[], OpenBroker]
    channels: tuple[str, ...]
    last_event_id: str | None


class Subscription(FrameSource):
    """The events of some channels in the order in which they were published; made by `Broker.subscribe`.

    Iterate it, or return `EventSourceResponse(subscription)` from an endpoint: then the bytes go from the log to the
    socket. It is used once. It ends when all of its channels are finished, when the broker is closed, and with
    `aclose()`.

    Raises:
        BrokerClosed: (from the first iteration) the broker is not open.
        StorageError: (while iterating) the log can't be read.
    """

    __slots__ = (
        "__weakref__",
        "_beginning",
        "_entries",
        "_failure",
        "_passed",
        "_reader",
        "_told",
        "_where",
    )

    def __init__(
        self,
        find_broker: Callable[[], OpenBroker],
        channels: tuple[str, ...],
        last_event_id: str | None,
        where: Filter | None,
    ) -> None:
        self._beginning: _Beginning | None = _Beginning(find_broker, channels, last_event_id)  # until it is used
        self._where = where
        self._reader: Reader | None = None  # once it has begun
        self._entries = _NO_ENTRIES  # read, to be given one by one
        self._told: int | None = None  # the position that the subscriber knows of
        self._failure: Exception | None = None  # of the filter, to be raised
        self._passed = 0  # everything up to here was given, or left out by the filter

    # -- one by one ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DeliveredEvent:
        if self._beginning is not None:
            await self._begin(self._beginning)
        reader = self._reader
        if reader is None:
            raise StopAsyncIteration
        left_out = False
        while True:
            for entry in self._entries:
                event = DeliveredEvent(entry, reader.epoch)
                self._passed = entry.sequence
                if self._passes(event):
                    self._told = entry.sequence
                    return event
                left_out = True
            if left_out:
                await asyncio.sleep(0)  # others may run, however much the filter leaves out
            batch = await reader.next()
            if batch is None:
                self._end()
                raise StopAsyncIteration
            self._entries = iter(batch.entries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the subscription, also for whoever waits for its next event. May be called more than once."""
        self._beginning = None
        self._end()

    # -- as a response takes it ---------------------------------------------------------------------------------------

    async def open(self) -> bool:
        """Begin; False if all channels are finished and nothing is left to give.

        Raises:
            BrokerClosed: the broker is not open.
            HTTPException: 503, the log can't be read now.
            RuntimeError: the subscription was used before.
        """
        beginning = self._beginning
        if beginning is None:
            raise RuntimeError("a subscription is used once: call broker.subscribe() for each response")
        try:
            async with asyncio.timeout(beginning.find_broker().timeout):
                await self._begin(beginning)
        except (StorageError, TimeoutError) as error:
            headers = {"retry-after": _RETRY_AFTER_SECONDS}
            raise HTTPException(503, "The log can't be read, try again later.", headers) from error
        return not self.ended

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self._reader is None or self._reader.ended

    async def ready_frames(self) -> Frames | None:
        """What there is, joined; None if there is nothing now."""
        reader = self._reader
        while reader is not None and (batch := await reader.ready()) is not None:
            if self._where is None:
                return batch
            self._passed = batch.last  # its position may be that of the end of a channel, whose id no event has
            passed = self._passing(batch.entries, reader.epoch)
            if passed:
                self._told = passed[-1].sequence
            # Also if nothing passes: so the stream can let others run, however much is left out.
            return Frames(b"".join([entry.frame for entry in passed]), len(passed))
        if self._failure is not None:
            raise self._failure
        return None

    def listen(self, listener: Listener) -> None:
        """Call the listener when there is something after `ready_frames` had nothing."""
        if self._reader is not None:
            self._reader.listener = listener if self._where is None else _OfFiltered(listener)

    def position_frame(self) -> bytes:
        """A block of an `id:` alone, if the client doesn't know how far this subscription has come.

        It sets the client's last event id and dispatches nothing (WHATWG HTML §9.2.6). So a client that was sent
        nothing yet, or nothing lately because of a filter, resumes from here.
        """
        reader = self._reader
        if reader is None:
            return b""
        if self._where is None:
            if self._told is not None or reader.last is not None:
                return b""
            self._passed = reader.position
        elif self._told is not None and self._told >= self._passed:
            return b""
        self._told = self._passed
        return encode(ServerSentEvent(id=event_id(reader.epoch, self._passed)))

    # -- both ---------------------------------------------------------------------------------------------------------

    async def _begin(self, beginning: _Beginning) -> None:
        self._beginning = None
        self._reader = reader = Reader(beginning.find_broker(), beginning.channels, beginning.last_event_id)
        await reader.begin()
        self._told = reader.last
        self._passed = reader.position
        if reader.ended:
            reader.leave()

    def _end(self) -> None:
        self._entries = _NO_ENTRIES
        if self._reader is not None:
            self._reader.leave()

    def _passing(self, entries: Iterable[Entry], epoch: str) -> list[Entry]:
        """Those that the filter lets through; what stands before one at which it raises is sent before it is raised."""
        passed = []
        for entry in entries:
            try:
                if self._passes(DeliveredEvent(entry, epoch)):
                    passed.append(entry)
            except Exception as error:
                if not passed:
                    raise
                self._failure = error
                break
        return passed

    def _passes(self, event: DeliveredEvent) -> bool:
        if self._where is None or event.control:
            return True
        try:
            passes = self._where(event)
            if not isinstance(passes, bool) and inspect.isawaitable(passes):  # which would be true for every event
                raise TypeError("'where' must be a plain function: an awaitable is always true")  # noqa: TRY301
            return bool(passes)
        except BaseException:
            self._end()
            raise


class _OfFiltered:
    """Is told of news, and given none: a filter's function is called nowhere but in the subscriber's own task."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_news(self, _frames: Frames | None) -> bool:
        return self._listener.on_news(None)


class GuardedSubscription(Subscription):
    """One that asks whether it may read its channels before it reads anything of them."""

    __slots__ = ("_guard",)

    def __init__(
        self,
        find_broker: Callable[[], OpenBroker],
        channels: tuple[str, ...],
        last_event_id: str | None,
        where: Filter | None,
        guard: Guard,
    ) -> None:
        super().__init__(find_broker, channels, last_event_id, where)
        self._guard = guard

    async def __anext__(self) -> DeliveredEvent:
        if self._beginning is not None:
            await self._ask(self._beginning.channels)
        return await super().__anext__()

    async def open(self) -> bool:
        """Begin, if the guard allows it.

        Raises:
            HTTPException: 403, it doesn't; which channel it was is not for the client's eyes.
        """
        if self._beginning is not None:  # else this is refused there
            try:
                await self._ask(self._beginning.channels)
            except ChannelForbidden as error:
                raise HTTPException(403, "You may not read this.") from error
        return await super().open()

    async def _begin(self, beginning: _Beginning) -> None:
        del self._guard  # it has served, and may hold more of the request than the subscription is to
        await super()._begin(beginning)

    async def _ask(self, channels: tuple[str, ...]) -> None:
        guard = self._guard
        try:
            for channel in channels:
                allowed = guard(channel)
                while inspect.isawaitable(allowed):  # also one that an `async def` returned: it would count as true
                    allowed = await allowed
                if not allowed:
                    raise ChannelForbidden(channel)  # noqa: TRY301 - what the guard raises goes the same way
        except BaseException:
            await self.aclose()
            raise
