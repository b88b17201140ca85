"""The contract on `sqlite:///`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.broker.conftest import Log
from tests.broker.contract import *  # noqa: F403 - the tests of the contract run here, on the log below
from tests.broker.contract.background_elsewhere import *  # noqa: F403 - these too
from tests.broker.contract.several_brokers import *  # noqa: F403 - these too

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def new_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Log]:
    return lambda: {"url": f"sqlite:///{tmp_path_factory.mktemp('log') / 'events.db'}"}
