"""Drives one source onto one connection.

Everything happens in the request's own task. The feeder steps the source by hand: as long as items are ready it
collects them, and when the source suspends, what it waits for comes up here. Then the frames go out, and the pump
waits: for that future, or for a ring of its bell, by the heartbeat, the start that is due, or what ends the stream.

A source of frames calls when it has something (`on_news`). If the task waits with nothing else to do, the frames are
written in that call, as if the task had woken.

So whatever ends a stream early only notes a reason and rings, and a cancellation of the task is never the pump's own
doing: it is passed on to the source, which sees what it would see if it were awaited directly.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Send

from tidings.stream.cleanup import Cleanup
from tidings.stream.ending import Ending
from tidings.stream.feeder import Feeder
from tidings.stream.loop import LoopState
from tidings.stream.metrics import Figures
from tidings.stream.stepping import AT_YIELD, IDLE, ONE_TURN
from tidings.stream.writer import Writer
from tidings.wire.encoder import COMMENT, PING, retry_block
from tidings.wire.frames import Frames, FrameSource

__all__ = ["Limits", "Pump"]

logger = logging.getLogger("tidings.stream")

_ORDERLY = frozenset({Ending.EXHAUSTED, Ending.LIMIT, Ending.SHUTDOWN})
"""Endings after which the client has got everything that there was for it."""

_SHUTDOWN_SECONDS = 1.5
"""How long a stream may take to end when the process is to stop."""

_SHUTDOWN_WRITE_SECONDS = 1.0
"""How much of that a write in progress may take: the source wants to be closed, too."""

_SHUTDOWN_RETRY_MS = (1_000, 10_000)
"""Clients come back after a time in this range: all at once they would be a storm."""


@dataclass(frozen=True, slots=True)
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
        "_begun",
        "_bell",
        "_cleanup",
        "_events",
        "_feeder",
        "_figures",
        "_limits",
        "_loop",
        "_parked",
        "_ping_due",
        "_reason",
        "_receive",
        "_shutdown_by",
        "_start_due",
        "_start_timer",
        "_timers",
        "_waited",
        "_writer",
    )

    def __init__(
        self,
        feeder: Feeder,
        head: Message,
        limits: Limits,
        receive: Receive,
        send: Send,
        figures: Figures,
        begun: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._receive = receive
        self._figures = figures
        self._begun = begun  # in the loop's time
        self._feeder = feeder
        self._bell = feeder.bell
        self._writer = Writer(
            send,
            head,
            retry=limits.retry,
            timeout=limits.send_timeout,
            feeder=feeder,
            owner=self,
        )
        self._cleanup: Cleanup | None = None  # while it runs
        self._reason: Ending | None = None  # why the stream ends
        self._shutdown_by: float | None = None
        self._waited = False  # for the source, at least once
        self._start_due = False
        self._ping_due = False
        self._parked = False  # the task waits, and nothing is to be done
        self._events = 0  # with data, sent
        self._start_timer: asyncio.TimerHandle | None = None
        self._timers: tuple[asyncio.TimerHandle, ...] = ()

    @property
    def started(self) -> bool:
        """Whether the head of the response is sent."""
        return self._writer.started

    def listen_to(self, source: FrameSource) -> None:
        """Write at once what the source has later; to be called by the stream's task."""
        self._writer.allow_write_now()
        source.listen(self)

    async def run(self) -> Ending:
        """Run the stream to its end and close the source.

        Where most of many streams are most of the time: what waits for the source is called from here, as each
        coroutine in between would be memory that each of them holds.

        Raises:
            BaseException: what the source raised; what it had yielded before is sent.
        """
        state = LoopState.current()
        ending = Ending.FAILED
        watcher = self._loop.create_task(self._watch(), name="tidings-watch")
        self._after(self._limits.max_duration, self.reach_limit)
        self._figures.active += 1
        try:
            state.shutdown.admit(self)
            try:
                while await self._keep_up():
                    self._parked = True
                    try:
                        await self._bell.wait()
                    except asyncio.CancelledError as cancelled:
                        self._feeder.pass_on(cancelled)
                    finally:
                        self._parked = False
                await self._settle()
            finally:
                state.heartbeat.forget(self)
                await self._close()
            ending = await self._complete()
        finally:
            watcher.cancel()
            state.shutdown.release(self)
            self._let_go(ending)
        return ending

    def _let_go(self, ending: Ending) -> None:
        for timer in (*self._timers, self._start_timer):
            if timer is not None:
                timer.cancel()
        self._figures.ended(ending, self._loop.time() - self._begun, sys.exception())
        logger.debug("stream ended: %s after %d events", ending, self._events)
        self._writer.close()

    def _goes_on(self) -> bool:
        return self._reason is None and not self._feeder.ended

    async def _keep_up(self) -> bool:
        """Do all that there is to do; True when nothing is left but to wait, False when the stream is to end."""
        feeder = self._feeder
        if self._writer.unfinished and self._goes_on():
            await self._attend()  # what `on_news` began is written before the source is asked for more
        while await self._send_what_is_ready():
            if not self._waited:
                self._prepare_to_wait()
            pending = feeder.pending
            await self._attend()
            if pending is AT_YIELD or pending is ONE_TURN:
                await self._give_way()
            elif self._goes_on() and feeder.pending is pending and not feeder.ready and not self._ping_due:
                return True
        return False

    async def _send_what_is_ready(self) -> bool:
        """Let the source run, if it can, and send what it gives; whether the stream goes on."""
        if not self._goes_on():
            return False
        feeder = self._feeder
        if feeder.ready:  # else a cancellation that was passed on has let the source run already
            feeder.advance()
        if feeder.complete:
            self._end(Ending.LIMIT)
        while feeder.frames and self._goes_on():
            await self._flush()
        return self._goes_on()

    async def _settle(self) -> None:
        """Decide how the stream ends, and send what must not wait until the source is closed."""
        feeder = self._feeder
        if self._reason is None:
            self._reason = Ending.EXHAUSTED if feeder.error is None else Ending.FAILED
        if self._reason in _ORDERLY:
            feeder.add(feeder.position_frame())
        if self._client_is_lost():
            return
        if self._reason is Ending.SHUTDOWN:
            await self._flush()
            await self._write(retry_block(random.randint(*_SHUTDOWN_RETRY_MS)))  # noqa: S311 - no secret
        elif feeder.frames and self._reason is not Ending.EXHAUSTED:
            await self._flush()

    async def _complete(self) -> Ending:
        """End the response as the stream ended.

        Not before the source is closed: there are servers that drop what a response does after its last message.
        """
        if self._reason is Ending.FAILED and self._feeder.error is not None:
            raise self._feeder.error
        if self._writer.gone:
            await self._writer.say_goodbye()
        elif not self._client_is_lost():
            await self._flush(more=False)
            if self._writer.cut and not self._client_is_lost():
                self._reason = Ending.SHUTDOWN  # which alone gives up a write of a client that may still take it
        assert self._reason is not None
        return self._reason

    def _client_is_lost(self) -> bool:
        # One that stalled is sent no last message: so the server drops the connection, and not as if it were complete.
        return self._writer.gone or self._reason is Ending.TIMED_OUT

    async def _close(self) -> None:
        self._cleanup = Cleanup(self._feeder, self._limits.cleanup_timeout)
        if self._shutdown_by is not None:
            self._cleanup.shorten(self._shutdown_by - self._loop.time())
        try:
            await self._cleanup.run()
        finally:
            self._cleanup = None

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _prepare_to_wait(self) -> None:
        self._waited = True
        if not self._writer.started:
            if self._limits.start_delay == 0:
                self._start_due = True
            elif self._limits.start_delay is not None:
                self._start_timer = self._loop.call_later(self._limits.start_delay, self._start_is_due)
        if self._limits.ping_interval:
            LoopState.current().heartbeat.watch(self, self._writer.sent_at + self._limits.ping_interval)

    def on_news(self, frames: Frames | None) -> bool:
        """Called by a source of frames that had nothing. If all that is left to do is to write, it is done here."""
        idle = self._parked and self._feeder.pending is IDLE and self._reason is None and not self._ping_due
        if idle and frames is not None and self._writer.write_now(frames.frame):
            self._count(frames.events, len(frames.frame))
            return True
        self._feeder.resume()
        self._bell.ring()
        return False

    async def _give_way(self) -> None:
        """Let the event loop turn once, though the source is ready."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancelled:
            self._feeder.pass_on(cancelled)

    async def _attend(self) -> None:
        """Do what is due while the source has nothing."""
        if self._writer.unfinished:
            await self._writer.finish_write()
            self._ping_due = False
        if self._start_due and not self._writer.started:
            # An empty comment, so that a proxy which holds the head back until it sees a byte lets it go.
            await self._write(COMMENT if self._limits.retry is None else b"")
        if self._ping_due:
            await self._write(PING + self._feeder.position_frame())

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _flush(self, *, more: bool = True) -> None:
        """Send the frames collected so far in one message; `more=False` completes the response."""
        body, events = self._feeder.take()
        await self._write(body, events=events, more=more)

    async def _write(self, body: bytes, *, events: int = 0, more: bool = True) -> None:
        size = await self._writer.write(body, more=more)
        self._ping_due = False
        if size:
            self._count(events, size)

    def _count(self, events: int, size: int) -> None:
        figures = self._figures
        if events and not self._events:
            figures.sent_first(self._loop.time() - self._begun)
        self._events += events
        figures.events += events  # not by a call: this is done for each write
        figures.size += size

    # -- what ends a stream early, and what else rings ----------------------------------------------------------------

    async def _watch(self) -> None:
        """Wait for the client to leave; the only task of a stream beside the request's."""
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except OSError:
            logger.debug("receive failed: the client is gone", exc_info=True)
        except Exception:
            logger.exception("receive failed: the stream ends")
        self.client_left()

    def _end(self, reason: Ending) -> None:
        """Note why the stream ends; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._feeder.stop()
        self._bell.ring()

    def client_left(self) -> None:
        """End: there is nobody to send to."""
        self._writer.gone = True
        self._end(Ending.DISCONNECTED)

    def client_stalled(self) -> None:
        """End without the last message: the client takes none."""
        self._reason = Ending.TIMED_OUT
        self._end(Ending.TIMED_OUT)

    def reach_limit(self) -> None:
        """End in good order: its time is up."""
        self._end(Ending.LIMIT)

    def shut_down(self) -> None:
        """End soon: the process is to stop. A write or a cleanup in progress gets a little time."""
        self._shutdown_by = self._loop.time() + _SHUTDOWN_SECONDS
        self._end(Ending.SHUTDOWN)
        self._after(_SHUTDOWN_WRITE_SECONDS, self._give_up)
        if self._cleanup is not None:
            self._cleanup.shorten(_SHUTDOWN_SECONDS)

    def _give_up(self) -> None:
        self._writer.given_up = True
        self._bell.ring()

    def _start_is_due(self) -> None:
        self._start_timer = None
        self._start_due = True
        self._bell.ring()

    def next_ping(self, now: float) -> float:
        """Called by the heartbeat."""
        assert self._limits.ping_interval
        due = self._writer.sent_at + self._limits.ping_interval
        if due > now:
            return due
        if self._writer.started:  # before, silence holds the status back
            self._ping_due = True
            self._bell.ring()
        return now + self._limits.ping_interval

    def _after(self, delay: float | None, callback: Callable[[], None]) -> None:
        if delay is not None:
            self._timers += (self._loop.call_later(delay, callback),)
