"""What the tests of the contract share: a log of their own, and a broker that is open on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tidings import Broker

pytest.register_assert_rewrite("tests.broker.contract")

Log = dict[str, Any]
"""Where a log is, as keyword arguments of `Broker`."""


@pytest.fixture(scope="module")
def new_log() -> Callable[[], Log]:
    """Makes logs that hold nothing yet. Each storage's test file says how: there it replaces this one."""
    raise NotImplementedError("define a fixture new_log() beside the contract's tests")


@pytest.fixture
def log(new_log: Callable[[], Log]) -> Log:
    """A log that holds nothing yet."""
    return new_log()


@pytest.fixture
async def broker(log: Log) -> AsyncIterator[Broker]:
    """A broker with the usual options, open on `log`."""
    async with Broker(**log) as broker:
        yield broker
