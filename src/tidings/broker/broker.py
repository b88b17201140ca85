"""Channels with history: publish once, reach every subscriber, replay what was missed."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tidings.broker import metrics
from tidings.broker.background.producer import Producer
from tidings.broker.background.runner import PATIENCE
from tidings.broker.draft import check_channel, check_size, draft_of
from tidings.broker.entry import event_id
from tidings.broker.log import Log
from tidings.broker.reader import OpenBroker
from tidings.broker.resume import check_last_event_id
from tidings.broker.statistics import BrokerStatistics, statistics_of
from tidings.broker.status import StreamStatus, status_of
from tidings.broker.storage import ChannelInfo, Retention
from tidings.broker.subscription import Filter, Guard, GuardedSubscription, Subscription
from tidings.broker.url import make_storage
from tidings.errors import BrokerClosed, PublishError
from tidings.sources.content import check_content, close_content

__all__ = ["Broker"]

T = TypeVar("T")

_MAX_EVENT_SIZE: Final = 16 << 20

_MAX_BACKGROUND: Final = 10_000

_BEHIND_INTERNAL: Final = "\x1f"
"""Behind the names of the broker's own channels, which begin with a control character, and before all others."""

_LOOP_SECONDS: Final = 5.0
"""How long a busy event loop may keep another thread waiting."""


class Broker:
    """Channels: what is published to one reaches all of its subscribers, in this process and others, once and in order.

    A channel is there as soon as somebody uses its name. It keeps its newest events, so that a subscriber who comes
    back with the id of the last event that it has seen is given what it missed.

    Args:
        url: where the log is: `memory://`, in this object; `sqlite:///events.db`, in a file (`sqlite:////var/lib/…`
            with an absolute path), for all processes of a machine. `?synchronous=FULL` has SQLite wait for the disk at
            each commit, so that a power cut loses nothing either. `redis://host:6379/0` (`rediss://` with TLS,
            `unix:///run/redis.sock`; `valkey://` and `valkeys://` are the same), in a server for many machines.
        history: events kept of each channel.
        max_age: seconds after which an event is not shown any more.
        forget_after: seconds without an event after which a channel's marks are forgotten: who comes back to it later,
            with an id from before, is reset.
        namespace: separates the channels of several brokers in one Redis, whose keys begin with it; with the other
            storages it says nothing.
        publish_timeout: seconds after which a publish, or the opening of a subscription for a response, is given up.
        max_event_size: bytes that an event may have as it is sent; 16 MiB if nothing is said.
        max_background: background streams that run at once in this process.
        background_timeout: seconds that a background stream may take, if `start` doesn't say otherwise.
        background_grace: seconds for which background streams may go on when the broker is closed.
        expose_errors: readers of a background stream that failed are told the exception's text, which may hold what is
            not for their eyes.

    None lifts a bound.

    Raises:
        TypeError, ValueError: an argument can't be used; the message names it.
    """

    def __init__(
        self,
        url: str = "memory://",
        *,
        history: int | None = 1_000,
        max_age: float | None = 3_600.0,
        forget_after: float | None = 86_400.0,
        namespace: str = "tidings",
        publish_timeout: float | None = 5.0,
        max_event_size: int | None = _MAX_EVENT_SIZE,
        max_background: int | None = _MAX_BACKGROUND,
        background_timeout: float | None = 3_600.0,
        background_grace: float | None = 5.0,
        expose_errors: bool = False,
    ) -> None:
        _check_count("history", history, least=0)
        _check_seconds("max_age", max_age)
        _check_seconds("forget_after", forget_after)
        _check_seconds("publish_timeout", publish_timeout)
        _check_count("max_event_size", max_event_size, least=1)
        _check_count("max_background", max_background, least=0)
        _check_seconds("background_timeout", background_timeout)
        if background_grace != 0:
            _check_seconds("background_grace", background_grace)
        if not isinstance(namespace, str):
            raise TypeError(f"'namespace' must be a str, not {type(namespace).__name__}")
        if not namespace:
            raise ValueError("'namespace' must not be empty")
        self._max_event_size = max_event_size
        self._timeout = publish_timeout
        self._max_background = max_background
        self._background_timeout = background_timeout
        self._background_grace = background_grace
        self._expose_errors = expose_errors
        self._storage = make_storage(url, Retention(history, max_age, forget_after), namespace, publish_timeout)
        self._open: OpenBroker | None = None
        self._producer: Producer | None = None  # while it is open
        self._opening = False

    # -- opening ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the broker, on the running event loop.

        Raises:
            RuntimeError: it is open already.
            StorageError: the log can't be opened; the message says why, and what would help.
        """
        if self._open is not None or self._opening:
            raise RuntimeError("the broker is open already")
        self._opening = True
        try:
            log = Log(self._storage.listen, self._storage.unlisten, metrics.Figures(self._storage.kind))
            await self._storage.open(log)
            self._open = OpenBroker(self._storage, log, self._timeout)
            self._producer = Producer(
                self._open,
                self._max_background,
                max_event_size=self._max_event_size,
                expose_errors=self._expose_errors,
            )
            metrics.broker_opened(self._storage)
        finally:
            self._opening = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the broker: its subscriptions end, and with them their responses.

        Background streams may go on for `background_grace` seconds before that, then they are stopped.
        """
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                await producer.close(self._background_grace)  # what it runs may still publish
        finally:
            opened, self._open = self._open, None
            if opened is not None:
                metrics.broker_closed(self._storage)
                opened.log.close()
                await self._storage.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:  # noqa: ARG002 - frameworks pass it
        """The broker is open while an application runs: `FastAPI(lifespan=broker.lifespan)`.

        Within a lifespan of your own: `async with broker.lifespan(app): yield`, or just `async with broker: yield`.
        """
        async with self:
            yield

    def _opened(self) -> OpenBroker:
        if self._open is None:
            raise BrokerClosed(
                "the broker is not open: use it inside of `async with broker`, or give the application its lifespan, "
                "as in FastAPI(lifespan=broker.lifespan)"
            )
        return self._open

    def _opened_here(self) -> OpenBroker:
        opened = self._opened()
        if not _is_running_here(opened.log.loop):
            raise RuntimeError(
                "the broker was opened on another event loop: use broker.publish_sync() or .finish_sync() here"
            )
        return opened

    # -- publishing ---------------------------------------------------------------------------------------------------

    async def publish(
        self, channel: str, data: Any = None, *, event: str | None = None, raw_data: str | None = None
    ) -> str:
        """Publish an event; returns its id once it is stored.

        Args:
            channel: 1 to 255 bytes of UTF-8 without control characters.
            data: what JSON can carry; or a typed `Event` or a `ServerSentEvent`, without an id. None is JSON's null.
            event: the name under which browsers dispatch it; one line.
            raw_data: text in place of `data`, sent as it is.

        Raises:
            BrokerClosed: the broker is not open.
            PublishError: after `publish_timeout` at the latest; the event may or may not be stored.
            TypeError, ValueError: the event or the channel is none; nothing is stored.
        """
        opened = self._opened_here()
        check_channel(channel)
        draft = draft_of(data, event=event, raw_data=raw_data)
        check_size(draft, self._max_event_size)
        try:
            id = await opened.storage.append(channel, draft)
        except PublishError:
            opened.log.figures.publish_failed()
            raise
        opened.log.figures.publish(1)
        await opened.log.give_way(1)
        return id

    async def finish(self, channel: str) -> None:
        """Say that nothing follows in this channel: its subscribers end after the last event.

        A browser that comes back to it with the id of the last event is answered `204`, and comes no more. To publish
        opens the channel again. A channel that is finished, or was never used, may be finished too.

        Raises:
            BrokerClosed: the broker is not open.
            PublishError: after `publish_timeout` at the latest; the channel may or may not be finished.
        """
        opened = self._opened_here()
        check_channel(channel)
        await opened.storage.finish(channel)

    async def last_event_id(self) -> str:
        """The id of the newest event, whatever its channel: who subscribes with it gets what is published from now on.

        Take it before you read the state that a page starts from: then nothing falls between the two.

        Raises:
            BrokerClosed: the broker is not open.
            StorageError: the log can't be read.
        """
        storage = self._opened_here().storage
        page = await storage.read((), None)
        return event_id(page.epoch, page.newest)

    async def channels(self, *, after: str = "", limit: int = 100) -> list[ChannelInfo]:
        """What there is of each channel: how much is retained, since when, whether it is finished.

        They come in the order of their names. If there are as many as `limit`, go on behind the name of the last one.
        A channel without events is listed as long as it is remembered.

        Args:
            after: only channels behind this name.
            limit: how many at the most.

        Raises:
            BrokerClosed: the broker is not open.
            StorageError: the log can't be read.
            TypeError, ValueError: an argument can't be used.
        """
        storage = self._opened_here().storage
        if not isinstance(after, str):
            raise TypeError(f"'after' must be a str, not {type(after).__name__}")
        if limit is None:
            raise TypeError("'limit' must be an int: ask for some channels at a time, there may be very many")
        _check_count("limit", limit, least=1)
        found: list[ChannelInfo] = []
        after = max(after, _BEHIND_INTERNAL)
        while len(found) < limit:
            some = await storage.channels(after, limit - len(found))
            if not some:
                break
            found += some
            after = some[-1].name
        return found

    async def claim(self, key: str, seconds: float) -> bool:
        """Claim something that is to be done or used once, such as a ticket, for so many seconds.

        Args:
            key: what is claimed: 1 to 255 bytes of UTF-8 without control characters. Channels have other names.
            seconds: until anybody may claim it again.

        Returns:
            True for the first, False for all others, in whichever process they are.

        Raises:
            BrokerClosed: the broker is not open.
            PublishError: it may or may not be claimed.
            TypeError, ValueError: an argument can't be used.
        """
        storage = self._opened_here().storage
        check_channel(key, "key")
        if seconds is None:
            raise TypeError("'seconds' must be seconds: what is claimed for ever would be kept for ever")
        _check_seconds("seconds", seconds)
        return await storage.claim(key, seconds)

    def statistics(self) -> BrokerStatistics:
        """What this process knows of the broker without asking the storage, for a health check or a page of figures.

        It takes microseconds, and with 100,000 channels that are read here some 20 ms. Any thread may call it.

        Raises:
            BrokerClosed: the broker is not open.
        """
        opened = self._opened()
        return statistics_of(opened.storage, opened.log)

    # -- background streams -------------------------------------------------------------------------------------------

    async def start(self, channel: str, source: Any, *, timeout: float | None = None) -> None:
        """Run a source in the background: what it yields is published to the channel, its end finishes the channel.

        It goes on when nobody reads. Readers subscribe to the channel, from any process and at any time; one that comes
        back resumes by its last id. If the source doesn't end by itself, the last event is the broker's own: `stopped`,
        `failed` or `aborted`.

        Args:
            channel: as of `publish`. If it is finished, it is opened again.
            source: an async or plain iterable of what `publish` takes as `data`; it is closed at the end, also if it is
                refused. A plain one runs in a thread of its own.
            timeout: seconds that it may take; None: the broker's `background_timeout`.

        Returns:
            When the stream is recorded as running.

        Raises:
            BackgroundLimit: `max_background` of them are running in this process.
            BrokerClosed: the broker is not open, or is being closed.
            ChannelBusy: one is running in this channel, here or in another process.
            PublishError, StorageError: it could not be recorded; it doesn't run.
            TypeError, ValueError: an argument can't be used.
        """
        check_content(source)
        try:
            producer = self._opened_producer()
            check_channel(channel)
            _check_seconds("timeout", timeout)
        except BaseException:
            await close_content(source)
            raise
        await producer.start(channel, source, self._background_timeout if timeout is None else timeout)

    async def stop(self, channel: str) -> bool:
        """Stop the background stream of a channel, whichever process runs it.

        The source gets a `CancelledError` at its `await`, or is closed at its `yield`, so that its `finally` runs. Then
        its readers are sent the event `stopped`, and the channel is finished. If that takes more than 5 seconds, they
        are sent it all the same, and nothing more of the source.

        Returns:
            Whether one was running.

        Raises:
            BrokerClosed: the broker is not open.
            PublishError, StorageError: it may or may not be stopped.
        """
        producer = self._opened_producer()
        return await producer.stop(check_channel(channel))

    async def status(self, channel: str) -> StreamStatus:
        """What there is to know of a channel's background stream.

        Raises:
            BrokerClosed: the broker is not open.
            StorageError: the log can't be read.
        """
        opened = self._opened_here()
        run = await opened.storage.run_of(check_channel(channel))
        return status_of(run, opened.log.readers(channel))

    def _opened_producer(self) -> Producer:
        self._opened_here()
        if self._producer is None:
            raise BrokerClosed("the broker is being closed")
        return self._producer

    # From other threads than that of the event loop, sync endpoints among them.

    def publish_sync(
        self, channel: str, data: Any = None, *, event: str | None = None, raw_data: str | None = None
    ) -> str:
        """`publish`, from a sync endpoint or any other thread than that of the event loop.

        Raises:
            RuntimeError: this is the event loop's own thread, which it would block: `await broker.publish()`.
        """
        return self._call_from_thread(lambda: self.publish(channel, data, event=event, raw_data=raw_data))

    def finish_sync(self, channel: str) -> None:
        """`finish`, from a sync endpoint or any other thread than that of the event loop.

        Raises:
            RuntimeError: this is the event loop's own thread, which it would block: `await broker.finish()`.
        """
        self._call_from_thread(lambda: self.finish(channel))

    def start_sync(self, channel: str, source: Any, *, timeout: float | None = None) -> None:
        """`start`, from a sync endpoint or any other thread than that of the event loop, on which an async source runs.

        Raises:
            RuntimeError: this is the event loop's own thread, which it would block: `await broker.start()`.
        """
        self._call_from_thread(lambda: self.start(channel, source, timeout=timeout))

    def stop_sync(self, channel: str) -> bool:
        """`stop`, from a sync endpoint or any other thread than that of the event loop.

        Raises:
            RuntimeError: this is the event loop's own thread, which it would block: `await broker.stop()`.
        """
        return self._call_from_thread(lambda: self.stop(channel))

    def _call_from_thread(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = self._opened().log.loop
        if _is_running_here(loop):
            raise RuntimeError("this would block the event loop: use `await broker.publish()` and its like here")
        called = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            # The calls keep to their timeouts by themselves, as long as the event loop turns.
            return called.result(None if self._timeout is None else self._timeout + PATIENCE + _LOOP_SECONDS)
        except TimeoutError:
            called.cancel()
            raise PublishError("the event loop didn't answer: it may or may not be done") from None
        except CancelledError:
            raise PublishError("the event loop was closed: it may or may not be done") from None

    # -- subscribing --------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        *channels: str,
        last_event_id: str | None = None,
        where: Filter | None = None,
        guard: Guard | None = None,
    ) -> Subscription:
        """Subscribe to some channels. Nothing happens before the first iteration, or before a response opens it.

        Args:
            channels: their names; the same one twice counts once.
            last_event_id: the id that the subscriber saw last: what was published since comes first. None or "": what
                is published from the first iteration on. `"earliest"`: everything retained comes first.
            where: a plain function of a `DeliveredEvent`; events for which it isn't true are left out. The broker's own
                events are not asked for. What it raises ends the subscription.
            guard: a function of a channel's name, `async` or plain: whether this subscriber may read it. It is asked
                for each channel when the subscription begins, before anything is read. If one is refused, the response
                is `403`, and iterating raises `ChannelForbidden`; what the guard itself raises is raised.

        Raises:
            TypeError: `last_event_id` is no `str`, or `where` or `guard` can't be called.
            ValueError: there is no channel, or a name is none.
        """
        if not channels:
            raise ValueError("'channels' must name one channel at least")
        if where is not None and not callable(where):
            raise TypeError(f"'where' must be a function of an event, not {type(where).__name__}")
        if inspect.iscoroutinefunction(where):
            raise TypeError("'where' must be a plain function: what an `async def` returns is always true")
        if guard is not None and not callable(guard):
            raise TypeError(f"'guard' must be a function of a channel's name, not {type(guard).__name__}")
        names = tuple(dict.fromkeys(check_channel(channel) for channel in channels))
        after = check_last_event_id(last_event_id)
        if guard is None:
            return Subscription(self._opened_here, names, after, where)
        return GuardedSubscription(self._opened_here, names, after, where, guard)


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _check_count(name: str, value: Any, *, least: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"'{name}' must be an int or None, not {value!r}")
    if value < least:
        raise ValueError(f"'{name}' must be at least {least}, not {value!r}")


def _check_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"'{name}' must be seconds or None, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"'{name}' must be a positive number of seconds, not {value!r}")
