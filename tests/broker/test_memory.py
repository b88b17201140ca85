"""The contract on `memory://`, and what holds there alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.broker.conftest import Log
from tests.broker.contract import *  # noqa: F403 - the tests of the contract run here, on the log below
from tests.broker.contract.reading import data, position, take
from tidings import Broker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def new_log() -> Callable[[], Log]:
    return lambda: {"url": "memory://"}


async def test_each_broker_has_a_log_of_its_own() -> None:
    async with Broker() as one, Broker("memory://") as other:
        ours = await one.publish("news", "ours")
        theirs = await other.publish("news", "theirs")
        assert position(ours)[0] != position(theirs)[0]
        assert position(ours)[1] == position(theirs)[1] == 1
        assert data(await take(one.subscribe("news", last_event_id="earliest"), 1)) == ["ours"]
        assert data(await take(other.subscribe("news", last_event_id="earliest"), 1)) == ["theirs"]
