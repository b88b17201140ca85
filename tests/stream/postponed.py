"""Endpoints whose annotations are strings, as with the import below they all are."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from decimal import Decimal


class Lamp(BaseModel):
    watts: int


async def lamps(watts: int) -> AsyncIterable[Lamp]:
    yield Lamp(watts=watts)


def lamps_sync(watts: int) -> Iterable[Lamp]:
    yield Lamp(watts=watts)


async def broken_lamps() -> AsyncIterable[Lamp]:
    yield {"watts": "none"}


async def unknown_lamps() -> AsyncIterable[dict[str, Decimal]]:
    yield {"watts": "unchecked"}
