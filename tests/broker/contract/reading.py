"""How these tests read: nothing waits longer than it takes, and what never comes is an error."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from hypothesis import Phase, settings

from tests.asgi import PATIENCE
from tidings import Broker
from tidings.broker import DeliveredEvent

__all__ = ["burst", "data", "examples_of", "fill", "ids", "position", "rest", "sequence", "take", "until", "until_past"]


def examples_of(most: int) -> settings:
    """The settings of a property: so many examples, the same in every run.

    They are not shrunk: one that fails by waiting in vain would do so again and again, and one that depends on threads
    hardly ever fails twice.
    """
    return settings(max_examples=most, deadline=None, derandomize=True, phases=[Phase.generate])


async def take(subscription: AsyncIterator[DeliveredEvent], count: int) -> list[DeliveredEvent]:
    """The next `count` events."""
    events: list[DeliveredEvent] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while len(events) < count:
                events.append(await anext(subscription))
    except TimeoutError:
        raise AssertionError(f"waited in vain for event {len(events) + 1} of {count}, behind {events[-3:]}") from None
    except StopAsyncIteration:
        raise AssertionError(f"the subscription ended after {len(events)} of {count} events") from None
    return events


async def rest(subscription: AsyncIterator[DeliveredEvent]) -> list[DeliveredEvent]:
    """All events up to the end of the subscription."""
    events: list[DeliveredEvent] = []
    try:
        async with asyncio.timeout(PATIENCE):
            async for event in subscription:
                events.append(event)  # noqa: PERF401 - the error below shows them
    except TimeoutError:
        raise AssertionError(f"the subscription goes on after {len(events)} events, behind {events[-3:]}") from None
    return events


def data(events: Iterable[DeliveredEvent]) -> list[Any]:
    return [event.data for event in events]


def ids(events: Iterable[DeliveredEvent]) -> list[str]:
    return [event.id for event in events]


def position(id: str) -> tuple[str, int]:
    """The epoch and the sequence of an id."""
    match = re.fullmatch(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})", id, re.ASCII)
    assert match is not None, f"{id!r} is no id of a broker"
    return match[1], int(match[2])


def sequence(id: str) -> int:
    return position(id)[1]


async def fill(broker: Broker, channel: str, events: Iterable[Any]) -> list[str]:
    """Publish these one after the other; returns their ids."""
    return [await broker.publish(channel, event) for event in events]


async def burst(broker: Broker, channel: str, events: Sequence[Any]) -> list[Any]:
    """Publish these all at once; returns them in the order in which they were stored."""
    published = await asyncio.gather(*(broker.publish(channel, event) for event in events))
    return [event for _, event in sorted(zip(map(sequence, published), events, strict=True), key=itemgetter(0))]


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until this is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.005)


async def until_past(moment: float) -> None:
    """Wait for a moment of the wall clock, which is what ages are measured by."""
    while (left := moment - time.time()) >= 0:
        await asyncio.sleep(left + 0.001)
