"""The traffic every peer carries: price quotes, as a market-data feed sends them.

The generators below are complete endpoints. The typed peers register these very functions, so they differ in
the response class and in nothing else.
"""

import asyncio
import time
from collections.abc import AsyncIterable

from pydantic import BaseModel

SYMBOLS = ("ERIC-B", "VOLV-B", "NOVO-B", "SAP", "ASML", "SHELL", "NESN", "SAN")


class Quote(BaseModel):
    """One change of an instrument's price. `sequence` proves that none is missing; `at` is when it was yielded,
    on CLOCK_MONOTONIC, which all processes of a machine share."""

    sequence: int
    symbol: str
    price: float
    at: int


def quote(sequence: int) -> Quote:
    return Quote(
        sequence=sequence,
        symbol=SYMBOLS[sequence % 8],
        price=100.0 + sequence % 400 * 0.25,
        at=time.monotonic_ns(),
    )


async def quotes(n: int) -> AsyncIterable[Quote]:
    """As fast as the stream takes them: the generator always has the next item ready."""
    for sequence in range(n):
        yield quote(sequence)


async def ticks(n: int, interval: float) -> AsyncIterable[Quote]:
    """Each item comes alone: there is nothing to join it with, and nothing that follows pushes it out."""
    for sequence in range(n):
        await asyncio.sleep(interval)
        yield quote(sequence)


async def idle() -> AsyncIterable[Quote]:
    """A stream on which nothing happens, as most streams do most of the time."""
    await asyncio.Event().wait()
    yield quote(0)


async def tasks() -> dict[str, int]:
    return {"tasks": len(asyncio.all_tasks())}
