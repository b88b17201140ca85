"""Drives one source onto one connection.

Everything happens in the request's own task. The pump steps the source by hand, with a coroutine of its own between them
(`_feed`): as long as items are ready they are collected, and when the source suspends, what it waits for comes up here. Then the
frames go out, and the pump waits: for that future, or to be woken for a ping, the start, or the end. So whatever ends a stream
early only sets a reason and wakes the pump, and a cancellation of the task is never the pump's own doing: it is passed on to the
source, which sees what it would see if it were awaited directly.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from types import coroutine
from typing import Any, Final

from tidings.events import ItemEncoder, has_data
from tidings.stream import metrics
from tidings.stream.ending import Ending
from tidings.stream.loop import LoopState
from tidings.wire.encoder import COMMENT, PING, retry_block
from tidings.wire.event import ServerSentEvent

__all__ = ["Limits", "Pump"]

logger = logging.getLogger("tidings.stream")

_BATCH_BYTES = 65_536
_BATCH_SECONDS = 0.001
_BARE_YIELDS = 16
"""How often in a row `sleep(0)` without an item counts as ready: a source that polls with it must let others run."""

_SHUTDOWN_SECONDS = 1.5
"""How long a write in progress, and the source's cleanup, may take when the process is to stop."""

_SHUTDOWN_RETRY_MS = (1_000, 10_000)
"""Clients come back after a time in this range: all at once they would be a storm."""

_CUTS = 3
"""How often a cleanup that is over its time is cancelled, before it is left to itself."""

_Send = Callable[[dict[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[dict[str, Any]]]


class _Marker:
    """What a suspended source waits for, when that is no future."""


_AT_YIELD: Final = _Marker()
"""Nothing: it stands at its `yield`, the batch is full."""

_BARE: Final = _Marker()
"""One turn of the event loop, as in `sleep(0)`."""


@dataclass(slots=True)
class Limits:
    """The options of a stream that the pump keeps to; `EventSourceResponse` says what they mean."""

    ping_interval: float | None
    retry: int | None
    start_delay: float | None
    send_timeout: float | None
    cleanup_timeout: float | None
    max_events: int | None
    max_duration: float | None


class Pump:
    """One stream, from its first item to its end."""

    __slots__ = (
        "__weakref__",
        "_cancels",
        "_closing",
        "_cuts",
        "_deadline",
        "_encode",
        "_ended",
        "_error",
        "_events",
        "_feeder",
        "_frames",
        "_gone",
        "_limits",
        "_loop",
        "_max_events",
        "_pending",
        "_ping_due",
        "_reason",
        "_receive",
        "_room",
        "_send_message",
        "_sent_at",
        "_shutdown_at",
        "_source",
        "_start_due",
        "_start_message",
        "_task",
        "_timers",
        "_uncounted",
        "_waiter",
        "_waited",
        "started",
    )

    def __init__(
        self,
        source: AsyncIterator[Any],
        encode: ItemEncoder,
        start_message: dict[str, Any],
        limits: Limits,
        receive: _Receive,
        send: _Send,
    ) -> None:
        self.started = False
        self._source = source
        self._encode = encode
        self._start_message = start_message
        self._limits = limits
        self._receive = receive
        self._send_message = send
        self._max_events = limits.max_events
        self._feeder: Coroutine[Any, None, None] = self._feed()
        self._pending: Any = None  # what the suspended source waits for: a future or a marker
        self._ended = False  # the source has ended, by itself or because of an error
        self._error: BaseException | None = None
        self._frames: list[bytes] = []
        self._events = 0  # events with data, collected so far
        self._uncounted = 0  # of them, not in the metrics yet
        self._room = 0
        self._deadline = 0.0
        self._reason: Ending | None = None  # why the stream ends
        self._gone = False  # the client is: nothing more can be sent
        self._closing = False
        self._shutdown_at: float | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waited = False  # at least once, for the source
        self._start_due = False
        self._ping_due = False
        self._sent_at = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._cancels = 0  # cancellations of the task that are the pump's own
        self._cuts = 0

    # -- the whole of it ----------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Run the stream to its end and close the source.

        Raises:
            BaseException: what the source raised; what it had yielded before is sent.
        """
        self._loop = asyncio.get_running_loop()
        self._task: Any = asyncio.current_task()
        state = LoopState.current()
        watcher = self._loop.create_task(self._watch())
        self._sent_at = self._loop.time()
        self._after(self._limits.max_duration, self._on_max_duration)
        metrics.stream_opened()
        try:
            state.shutdown.admit(self)
            await self._stream(state)
        except BaseException as error:
            self._error = error
            raise
        finally:
            watcher.cancel()
            state.heartbeat.forget(self)
            try:
                await self._close()
            finally:
                state.shutdown.release(self)
                for timer in self._timers:
                    timer.cancel()
                for _ in range(self._cancels):
                    self._task.uncancel()
                ending = self._reason if self._reason is not None and self._error is None else Ending.FAILED
                metrics.stream_ended(ending)
                logger.debug("stream ended: %s after %d events", ending, self._events)
        return ending

    async def _stream(self, state: LoopState) -> None:
        """Deliver items until there is a reason to end, then end the response as that reason wants it."""
        while self._reason is None and not self._ended:
            self._advance()
            while self._frames and self._reason is None and not self._ended:
                await self._flush()
            if self._reason is not None or self._ended:
                break
            if not self._waited:
                self._first_wait(state)
            if self._pending is _AT_YIELD or self._pending is _BARE:
                await self._attend()
                await self._give_way()
            else:
                await self._wait_for_source()
        if self._error is not None:
            if self.started:
                await self._flush()
            raise self._error
        if self._reason is None:
            self._reason = Ending.EXHAUSTED
        if self._reason is Ending.SHUTDOWN:
            self._frames.append(retry_block(random.randint(*_SHUTDOWN_RETRY_MS)))  # noqa: S311 - no secret
        if self._gone:
            await self._say_goodbye()
        elif self._reason is not Ending.TIMED_OUT:
            await self._finish()

    # -- stepping the source ------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Collect frames; suspends where the source does, and at a full batch."""
        frames = self._frames
        encode = self._encode
        clock = time.perf_counter
        async for item in self._source:
            frame = encode(item)
            frames.append(frame)
            if isinstance(item, ServerSentEvent) and not has_data(item):
                self._events -= 1
            self._events += 1
            if self._events == self._max_events:
                self._end(Ending.LIMIT)
            self._room -= len(frame)
            if self._room <= 0 or clock() >= self._deadline:
                await _batch_is_full()

    def _advance(self, error: BaseException | None = None) -> None:
        """Let the source run, or raise `error` where it waits, until it suspends, fills a batch or ends."""
        self._deadline = time.perf_counter() + _BATCH_SECONDS
        if self._reason is None:
            self._room = _BATCH_BYTES
        bare = 0
        while True:
            try:
                waits_for = self._feeder.send(None) if error is None else self._feeder.throw(error)
            except StopIteration:
                self._ended = True
                self._pending = None
                return
            except (Exception, asyncio.CancelledError) as raised:
                self._ended = True
                self._pending = None
                self._error = raised
                return
            error = None
            if waits_for is None:
                bare += 1
                if bare < _BARE_YIELDS and time.perf_counter() < self._deadline:
                    continue
                waits_for = _BARE
            elif waits_for is not _AT_YIELD and getattr(waits_for, "_asyncio_future_blocking", None) is None:
                error = RuntimeError(f"the source awaited what is no asyncio future: {waits_for!r}")
                continue
            self._pending = waits_for
            return

    async def _give_way(self) -> None:
        """Let the event loop turn once, though the source is ready."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancelled:
            self._pass_on(cancelled)

    def _first_wait(self, state: LoopState) -> None:
        self._waited = True
        if not self.started:
            if self._limits.start_delay == 0:
                self._start_due = True
            else:
                self._after(self._limits.start_delay, self._on_start_due)
        if self._limits.ping_interval:
            state.heartbeat.watch(self, self._sent_at + self._limits.ping_interval)

    async def _wait_for_source(self) -> None:
        """Wait until what the source waits for is there, or there is a reason to end."""
        future = self._pending
        _observe(future, self._wake)
        while self._reason is None:
            await self._attend()
            if self._pending is not future or future.done():
                return
            if self._reason is None and not self._ping_due:
                try:
                    await self._park()
                except asyncio.CancelledError as cancelled:
                    self._pass_on(cancelled)

    async def _attend(self) -> None:
        """Do what is due while the source has nothing."""
        if self._start_due and not self.started:
            await self._open()
        if self._ping_due:
            await self._write(PING)

    def _pass_on(self, cancelled: asyncio.CancelledError) -> None:
        """Somebody cancelled the task: a timeout or a scope of the source's own, one around the request, or the server.

        The source gets it at its `await`, as if it were awaited directly. Where it isn't suspended in an `await`, it goes up.
        """
        if self._ended or self._pending is _AT_YIELD:
            raise cancelled
        # As Task.cancel() does it: the awaited future first, and if that is done already, the coroutine.
        if self._pending is _BARE or not self._pending.cancel(*cancelled.args):
            self._advance(cancelled)
        elif self._pending.done():
            self._advance()

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Start the response without an item."""
        # An empty comment, so that a proxy which holds back headers until it sees a byte lets them go.
        self._frames.append(COMMENT if self._limits.retry is None else b"")
        await self._flush()

    async def _flush(self) -> None:
        """Send the frames collected so far in one message."""
        body = b"".join(self._frames)
        self._frames.clear()
        if not self.started:
            body = await self._start() + body
        if body:
            await self._write(body)

    async def _finish(self) -> None:
        """Send what is left and complete the response."""
        body = b"".join(self._frames)
        self._frames.clear()
        if not self.started:
            body = await self._start() + body
        await self._write(body, more=False)

    async def _say_goodbye(self) -> None:
        """Complete the response though nobody reads it: a middleware may insist on having seen one."""
        if not self.started:
            self.started = True
            with suppress(OSError):
                await self._send_message(self._start_message)
                await self._send_message({"type": "http.response.body", "body": b""})

    async def _start(self) -> bytes:
        """Send the head of the response; return the bytes that its body begins with."""
        self.started = True
        await self._send(self._start_message)
        return b"" if self._limits.retry is None else retry_block(self._limits.retry)

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self._sent_at = self._loop.time()
        self._ping_due = False
        metrics.stream_sent(self._events - self._uncounted, len(body))
        self._uncounted = self._events

    async def _send(self, message: dict[str, Any]) -> None:
        """Send a message, stepped by hand: a cancellation meant for the source must not cut it.

        A server's `send` that isn't blocked returns without suspending, and this costs no turn of the event loop.
        """
        while not self._gone:
            try:
                sending = self._send_message(message).__await__()
                waits_for = next(sending)
            except StopIteration:
                return
            except OSError:
                # ASGI's way of saying that the client is gone, since version 2.4 of its HTTP specification.
                self._client_left()
                return
            except asyncio.CancelledError as cancelled:
                # A middleware's `send` that looks for cancelled scopes found the source's: nothing was sent yet.
                self._pass_on(cancelled)
                continue
            if await self._sent(sending, waits_for):
                return

    async def _sent(self, sending: Generator[Any, Any, Any], waits_for: Any) -> bool:
        """Wait for a `send` that suspended; False if it was cancelled before it had sent anything."""
        cancelled: asyncio.CancelledError | None = None
        timeout = self._after(self._limits.send_timeout, self._on_send_timeout)
        try:
            while True:
                if waits_for is None:
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError as error:
                        cancelled = error  # for the source, but only after this step: scopes inside it must close in order
                else:
                    _observe(waits_for, self._wake)
                    while not waits_for.done():
                        if self._must_abort():
                            return True
                        try:
                            await self._park()
                        except asyncio.CancelledError as error:
                            self._pass_on(error)
                waits_for = next(sending)
        except StopIteration:
            if cancelled is not None:
                self._pass_on(cancelled)
            return True
        except OSError:
            self._client_left()
            return True
        except asyncio.CancelledError as error:
            self._pass_on(error)
            return False
        finally:
            if timeout is not None:
                timeout.cancel()
                self._timers.remove(timeout)
            _abandon(sending)

    def _must_abort(self) -> bool:
        return (
            self._gone
            or self._reason is Ending.TIMED_OUT
            or (self._shutdown_at is not None and self._loop.time() >= self._shutdown_at + _SHUTDOWN_SECONDS)
        )

    # -- what ends a stream early, and what else wakes it -------------------------------------------------------------

    async def _watch(self) -> None:
        """Runs in a task of its own, the only one beside the request's."""
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except OSError:
            logger.debug("receive failed: the client is gone", exc_info=True)
        except Exception:
            logger.exception("receive failed: the stream ends")
        self._client_left()

    def _client_left(self) -> None:
        if not self._closing:
            self._gone = True
            self._end(Ending.DISCONNECTED)

    def shut_down(self) -> None:
        """End soon: the process is to stop."""
        self._shutdown_at = self._loop.time()
        self._end(Ending.SHUTDOWN)
        # A write or a cleanup in progress gets this long.
        self._after(_SHUTDOWN_SECONDS, self._on_shutdown_over)

    def next_ping(self, now: float) -> float:
        """Called by the heartbeat."""
        assert self._limits.ping_interval
        due = self._sent_at + self._limits.ping_interval
        if due > now:
            return due
        self._ping_due = True
        self._wake()
        return now + self._limits.ping_interval

    def _end(self, reason: Ending) -> None:
        """Note why the stream ends; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._room = 0
        self._wake()

    def _on_max_duration(self) -> None:
        self._end(Ending.LIMIT)

    def _on_send_timeout(self) -> None:
        self._reason = Ending.TIMED_OUT
        self._end(Ending.TIMED_OUT)

    def _on_start_due(self) -> None:
        self._start_due = True
        self._wake()

    def _on_shutdown_over(self) -> None:
        if self._closing:
            self._cut()
        else:
            self._wake()

    def _after(self, delay: float | None, callback: Callable[[], None]) -> asyncio.TimerHandle | None:
        if delay is None:
            return None
        timer = self._loop.call_later(delay, callback)
        self._timers.append(timer)
        return timer

    async def _park(self) -> None:
        """Suspend the task until something wakes it."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self, _done: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- closing the source -------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Close the source where it stands: `CancelledError` at its `await`, or closed at its `yield`."""
        self._closing = True
        cancelled_before = self._task.cancelling()
        limit = self._limits.cleanup_timeout
        if self._shutdown_at is not None:
            limit = _SHUTDOWN_SECONDS if limit is None else min(limit, _SHUTDOWN_SECONDS)
        self._after(limit, self._cut)
        try:
            if not self._ended and self._pending is not None and self._pending is not _AT_YIELD:
                with suppress(asyncio.CancelledError):
                    await self._cancel_source()
            if not self._ended:
                self._feeder.close()
            aclose = getattr(self._source, "aclose", None)
            if aclose is not None:
                with suppress(asyncio.CancelledError):
                    await self._carry_out(aclose().__await__())
        except Exception:
            # The stream's own ending stands: there is nobody left to tell but the log.
            logger.warning("a source raised while it was closed", exc_info=True)
        finally:
            self._closing = False
        if self._task.cancelling() - self._cancels > cancelled_before:
            raise asyncio.CancelledError  # somebody else's, which the source got in its cleanup
        if self._cuts:
            logger.warning("a source was not closed within %s seconds: its cleanup was cut", limit)

    async def _cancel_source(self) -> None:
        pending = self._pending
        error: asyncio.CancelledError | None = None
        if self._task.cancel():
            self._cancels += 1  # from here the event loop does it all: at the next suspension it cancels what is awaited
        else:
            error = asyncio.CancelledError()  # a server that runs requests in no real task
        await self._carry_out(self._feeder.__await__(), pending, error)

    @coroutine
    def _carry_out(
        self, steps: Generator[Any, Any, Any], pending: Any = None, error: BaseException | None = None
    ) -> Generator[Any, Any, None]:
        """Await the rest of something that was stepped by hand, suspended on `pending`; give up when it was cut too often."""
        try:
            if pending is None:
                pending = next(steps)
            elif error is not None:
                pending = steps.throw(error)
            while pending is not _AT_YIELD and self._cuts < _CUTS:
                try:
                    if pending is None or pending is _BARE:
                        yield
                    else:
                        pending._asyncio_future_blocking = True  # noqa: SLF001 - the mark of an awaited future
                        yield pending
                except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the source's
                    pending = steps.throw(raised)
                else:
                    pending = next(steps)
        except StopIteration:
            return

    def _cut(self) -> None:
        """The cleanup takes too long: cancel it."""
        if self._closing and self._cuts < _CUTS:
            self._cuts += 1
            if self._task.cancel():
                self._cancels += 1
            self._after(0.05, self._cut)


@coroutine
def _batch_is_full() -> Generator[Any, None, None]:
    yield _AT_YIELD


def _observe(future: Any, callback: Callable[[Any], None]) -> None:
    """Have `callback` called when the future is done. The mark that it is awaited is for the task, which never sees it."""
    future._asyncio_future_blocking = False  # noqa: SLF001
    future.add_done_callback(callback)


def _abandon(steps: Generator[Any, Any, Any]) -> None:
    """Close something that was stepped by hand; nothing happens if it has ended."""
    close = getattr(steps, "close", None)
    if close is not None:
        with suppress(asyncio.CancelledError, RuntimeError):
            close()
