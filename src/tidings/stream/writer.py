"""Writes to the connection: one message at a time, from the request's own task, or in its name while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import Message, Send

from tidings.stream.feeder import Feeder
from tidings.stream.stepping import abandon
from tidings.wire.encoder import retry_block

__all__ = ["Owner", "Writer"]


class _InContext:
    """A `send` that goes on, and ends, in the context that it began in: it may have to reset variables that it set."""

    __slots__ = ("_context", "_sending")

    def __init__(self, context: Context, sending: Generator[Any, Any, Any]) -> None:
        self._context = context
        self._sending = sending

    def __next__(self) -> Any:
        return self._context.run(next, self._sending)

    def close(self) -> None:
        self._context.run(abandon, self._sending)


@dataclass(slots=True)
class _Unfinished:
    """A message on its way: its `send` has suspended, or has raised what the stream's task is to see."""

    body: bytes
    sending: Any = None
    waits_for: Any = None
    error: BaseException | None = None


class Owner(Protocol):
    """Whose writes these are."""

    def client_left(self) -> None:
        """The client is gone; never blocks."""

    def client_stalled(self) -> None:
        """The client has taken nothing for too long; never blocks."""


class Writer:
    """The connection's side of a stream.

    `send` is stepped by hand: a source has suspended when its frames are written, maybe inside a timeout of its own,
    and a cancellation that is meant for it must not cut the write. It is passed on, and the write goes on.

    Attributes:
        gone: the client is, so nothing more is sent.
        given_up: a write in progress is abandoned, and so is each later one that the client doesn't take at once.
        cut: one was, or the client is gone. Nothing is sent behind it, as what it held may be missing.
        sent_at: when the last write was done, in the loop's time.
    """

    __slots__ = (
        "_context",
        "_feeder",
        "_head",
        "_loop",
        "_owner",
        "_retry",
        "_send",
        "_task",
        "_timeout",
        "_unfinished",
        "cut",
        "given_up",
        "gone",
        "sent_at",
    )

    def __init__(
        self,
        send: Send,
        head: Message,
        *,
        retry: int | None,
        timeout: float | None,
        feeder: Feeder,
        owner: Owner,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._head: Message | None = head  # until it is sent
        self._retry = retry
        self._timeout = timeout
        self._feeder = feeder
        self._owner = owner
        self.gone = False
        self.given_up = False
        self.cut = False
        self.sent_at = self._loop.time()
        self._task: asyncio.Task[Any] | None = None  # with its context: none before `allow_write_now`
        self._context: Context
        self._unfinished: _Unfinished | None = None

    @property
    def started(self) -> bool:
        """Whether the head of the response is sent."""
        return self._head is None

    async def write(self, body: bytes, *, more: bool = True) -> int:
        """Send a part of the body, behind the head of the response if that is due; `more=False` completes it.

        Returns:
            how many bytes of the body the server took.
        """
        if self._unfinished is not None:
            await self.finish_write()
        if self._head is not None:
            head, self._head = self._head, None
            if not await self._send_message(head):
                return 0
            if self._retry is not None:
                body = retry_block(self._retry) + body
        taken = True
        if body or not more:
            taken = await self._send_message({"type": "http.response.body", "body": body, "more_body": more})
        self.sent_at = self._loop.time()
        return len(body) if taken else 0

    def allow_write_now(self) -> None:
        """To be called by the stream's task, in whose name `write_now` then writes."""
        task = asyncio.current_task()
        if isinstance(task, asyncio.Task):  # some servers run requests in what is none
            self._task = task
            self._context = copy_context()

    def write_now(self, body: bytes) -> bool:
        """Send a part of the body from a callback of the event loop; False if that can't be done.

        It spares waking the stream's task, which costs more than to write. While it runs that task is the current one
        and its context variables are set, so what wraps `send` can't tell the difference. A `send` that suspends is
        left for `finish_write`.
        """
        if self._task is None or self._head is not None or self._unfinished is not None or self.gone:
            return False
        asyncio.tasks._enter_task(self._loop, self._task)  # noqa: SLF001 - "Extending" in asyncio's documentation
        try:
            return self._context.run(self._begin_write, body)
        finally:
            asyncio.tasks._leave_task(self._loop, self._task)  # noqa: SLF001

    def _begin_write(self, body: bytes) -> bool:
        try:
            sending = self._send({"type": "http.response.body", "body": body, "more_body": True}).__await__()
            waits_for = next(sending)
        except StopIteration:
            self.sent_at = self._loop.time()
        except OSError:
            self._owner.client_left()
            return False
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is raised in the task
            self._unfinished = _Unfinished(body, error=error)
            self._feeder.bell.ring()
        else:
            self._unfinished = _Unfinished(body, _InContext(self._context, sending), waits_for)
            self._feeder.bell.ring()
        return True

    @property
    def unfinished(self) -> bool:
        """Whether `finish_write` is to be called."""
        return self._unfinished is not None

    async def finish_write(self) -> None:
        """See to its end what `write_now` began."""
        begun, self._unfinished = self._unfinished, None
        if begun is None:
            return
        if begun.error is not None:
            raise begun.error
        if await self._carry_on(begun.sending, begun.waits_for) is None:
            await self._send_message({"type": "http.response.body", "body": begun.body, "more_body": True})
        self.sent_at = self._loop.time()

    def close(self) -> None:
        """Drop what was not finished."""
        if self._unfinished is not None:
            abandon(self._unfinished.sending)

    async def say_goodbye(self) -> None:
        """Complete the response though nobody reads it: a middleware may insist on having seen one."""
        if self._head is not None:
            head, self._head = self._head, None
            with suppress(OSError):
                await self._send(head)
                await self._send({"type": "http.response.body", "body": b""})

    async def _send_message(self, message: Message) -> bool:
        """Send one; whether the server took it."""
        while not (self.gone or self.cut):
            try:
                sending = self._send(message).__await__()
                waits_for = next(sending)
            except StopIteration:
                return True  # as it is with most servers for a client that reads: no turn of the event loop was needed
            except OSError:
                # ASGI's way of saying that the client is gone, since version 2.4 of its HTTP specification.
                self._owner.client_left()
                return False
            except asyncio.CancelledError as cancelled:
                # A middleware's `send` that looks for cancelled scopes found the source's; nothing was sent.
                await self._pass_on_at_length(cancelled)
                self.cut = self.given_up
                continue
            taken = await self._carry_on(sending, waits_for)
            if taken is not None:
                return taken
        return False

    async def _carry_on(self, sending: Any, waits_for: Any) -> bool | None:
        """See a `send` that suspended to its end; None if a cancellation ended it before it had sent anything."""
        timer = None if self._timeout is None else self._loop.call_later(self._timeout, self._time_out)
        held: asyncio.CancelledError | None = None
        try:
            while not (self.gone or self.given_up):
                if waits_for is None:
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError as cancelled:
                        held = cancelled  # not in between: what scopes `send` has open must close first
                else:
                    await self._until_done(waits_for)
                    if not waits_for.done():
                        continue  # to the end of the loop: somebody gave up
                waits_for = next(sending)
        except StopIteration:
            # A scope of anyio's cancels again and again: it may have ended by another one, which was passed on.
            if held is not None and self._feeder.cancelled:
                self._feeder.pass_on(held)
            return True
        except OSError:
            self._owner.client_left()
        except asyncio.CancelledError as cancelled:
            await self._pass_on_at_length(cancelled)
            return None
        finally:
            abandon(sending)
            if timer is not None:
                timer.cancel()
        self.cut = True
        return False

    async def _until_done(self, future: Any) -> None:
        self._feeder.bell.ring_after(future)
        while not (future.done() or self.gone or self.given_up):
            try:
                if self._feeder.unwinding:
                    await self._feeder.unwind()
                else:
                    await self._feeder.bell.wait()
            except asyncio.CancelledError as cancelled:
                self._feeder.pass_on(cancelled)

    async def _pass_on_at_length(self, cancelled: asyncio.CancelledError) -> None:
        """Pass a cancellation on, and wait until the source is out of the scope that no `send` gets through."""
        self._feeder.pass_on(cancelled)
        while not (self.gone or self.given_up):
            try:
                if self._feeder.unwinding:
                    await self._feeder.unwind()
                else:
                    await asyncio.sleep(0)
                    return
            except asyncio.CancelledError as again:
                self._feeder.pass_on(again)

    def _time_out(self) -> None:
        self.given_up = True
        self._owner.client_stalled()
        self._feeder.bell.ring()
