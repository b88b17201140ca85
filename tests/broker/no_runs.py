"""A storage for tests of what reads: it has no background streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from tidings.broker.entry import Draft
from tidings.broker.run import Lease, State
from tidings.broker.storage import Storage

__all__ = ["WithoutRuns"]


class WithoutRuns(Storage):
    """Nothing is started here, or claimed."""

    async def claim(self, key: str, seconds: float) -> NoReturn:
        raise AssertionError("nothing is claimed here")

    async def begin(self, channel: str, run: str, producer: str, lease: float) -> NoReturn:
        raise AssertionError("nothing is started here")

    async def extend(
        self, channel: str, run: str, after: int | None, drafts: Sequence[Draft], end: State | None = None
    ) -> NoReturn:
        raise AssertionError("nothing runs here")

    async def run_of(self, channel: str) -> None:
        return None

    async def renew(self, producer: str, lease: float) -> bool:
        return False

    async def leases(self) -> Sequence[Lease]:
        return ()

    async def abort(self, lease: Lease, drafts: Sequence[Draft], end: State, most: int) -> NoReturn:
        raise AssertionError("nothing runs here")
