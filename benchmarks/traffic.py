"""The traffic every peer carries: price quotes and trades, as a market-data feed sends them.

The generators of quotes are complete endpoints. The typed peers register these very functions, so they differ in
the response class and in nothing else. Trades are what is published to a channel, tokens what a language model answers.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import TypedDict

from pydantic import BaseModel

SYMBOLS = ("ERIC-B", "VOLV-B", "NOVO-B", "SAP", "ASML", "SHELL", "NESN", "SAN")
WORDS = (" the", " tide", " comes", " in", " and", " goes", " out", " again")


class Quote(BaseModel):
    """One change of an instrument's price. `sequence` proves that none is missing; `at` is when it was yielded,
    on CLOCK_MONOTONIC, which all processes of a machine share."""

    sequence: int
    symbol: str
    price: float
    at: int


class Trade(BaseModel):
    """One trade, in about 100 bytes of JSON. `sequence` and `at` as with a quote; `at` is just before its publish."""

    sequence: int
    symbol: str
    price: float
    volume: int
    venue: str
    at: int


class Token(TypedDict):
    """A piece of an answer. `sequence` and `at` as with a quote."""

    sequence: int
    token: str
    at: int


def quote(sequence: int) -> Quote:
    return Quote(
        sequence=sequence,
        symbol=SYMBOLS[sequence % 8],
        price=100.0 + sequence % 400 * 0.25,
        at=time.monotonic_ns(),
    )


def trade(sequence: int) -> Trade:
    return Trade(
        sequence=sequence,
        symbol=SYMBOLS[sequence % 8],
        price=100.0 + sequence % 400 * 0.25,
        volume=100 + sequence % 50,
        venue="XSTO",
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


async def trades(n: int, rate: float) -> AsyncIterable[Trade]:
    """So many a second; 0: as fast as the publisher takes them, with one turn of the event loop in between."""
    start = time.monotonic()
    for sequence in range(n):
        await asyncio.sleep(max(0.0, start + sequence / rate - time.monotonic()) if rate else 0)
        yield trade(sequence)


async def tokens(
    n: int, rate: float, go: asyncio.Event, *, late: float = 0.0, turns: bool = True
) -> AsyncIterator[Token]:
    """An answer, once it is to begin: so many tokens a second, the first one `late` seconds after that; 0: as fast as
    they are taken, with one turn of the event loop before each, or with none."""
    await go.wait()
    start = time.monotonic() + late
    for sequence in range(n):
        if turns:
            await asyncio.sleep(max(0.0, start + sequence / rate - time.monotonic()) if rate else 0)
        yield Token(sequence=sequence, token=WORDS[sequence % 8], at=time.monotonic_ns())
