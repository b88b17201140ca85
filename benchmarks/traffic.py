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
TRADE_SIZE = 105
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


class Text(BaseModel):
    text: str


class Report(Trade, Text):
    """A trade, and so much text that the event has a certain size. The text comes first: all events end alike."""


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


def trade(sequence: int, size: int = 0) -> Trade:
    """In about so many bytes of JSON, if that is more than a trade has."""
    symbol, price, volume = SYMBOLS[sequence % 8], 100.0 + sequence % 400 * 0.25, 100 + sequence % 50
    at = time.monotonic_ns()
    if size <= TRADE_SIZE:
        return Trade(sequence=sequence, symbol=symbol, price=price, volume=volume, venue="XSTO", at=at)
    text = "." * (size - TRADE_SIZE)
    return Report(text=text, sequence=sequence, symbol=symbol, price=price, volume=volume, venue="XSTO", at=at)


def until(moment: float) -> float:
    """Seconds from now."""
    return max(0.0, moment - time.monotonic())


async def quotes(n: int) -> AsyncIterable[Quote]:
    """As fast as the stream takes them: the generator always has the next item ready."""
    for sequence in range(n):
        yield quote(sequence)


async def ticks(n: int, interval: float) -> AsyncIterable[Quote]:
    """Each item comes alone: there is nothing to join it with, and nothing that follows pushes it out. They come at
    moments that don't depend on how long the ones before took: streams that were held up together come apart again."""
    start = time.monotonic()
    for sequence in range(n):
        await asyncio.sleep(until(start + (sequence + 1) * interval))
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
        await asyncio.sleep(until(start + sequence / rate) if rate else 0)
        yield trade(sequence)


async def publications(
    channel: str, n: int, rate: float, channels: int = 1, size: int = 0
) -> AsyncIterable[tuple[str, Trade]]:
    """The channel and the trade of each publish: `n` trades for each of the channels, which take turns, and `rate` of
    them a second in each; 0: as fast as the publisher takes them, with one turn of the event loop in between."""
    names = channel_names(channel, channels)
    start = time.monotonic()
    for number in range(n * channels):
        await asyncio.sleep(until(start + number / channels / rate) if rate else 0)
        yield names[number % channels], trade(number // channels, size)


def channel_names(channel: str, channels: int) -> list[str]:
    return [channel, *(f"{channel}-{number}" for number in range(1, channels))]


async def tokens(
    n: int, rate: float, go: asyncio.Event, *, late: float = 0.0, turns: bool = True
) -> AsyncIterator[Token]:
    """An answer, once it is to begin: so many tokens a second, the first one `late` seconds after that; 0: as fast as
    they are taken, with one turn of the event loop before each, or with none."""
    await go.wait()
    start = time.monotonic() + late
    for sequence in range(n):
        if turns:
            await asyncio.sleep(until(start + sequence / rate) if rate else 0)
        yield Token(sequence=sequence, token=WORDS[sequence % 8], at=time.monotonic_ns())
