"""The contract of a broker, as one suite that every storage runs.

Nothing here knows of a storage: the tests use `tidings.Broker` and what it gives out. A storage's own test file is

    from tests.broker.contract import *

    pytestmark = pytest.mark.anyio

    @pytest.fixture(scope="module")
    def new_log() -> Callable[[], dict[str, Any]]:
        return lambda: {"url": …}   # each time a log that holds nothing yet

and, if several brokers can be open on one of its logs, `from tests.broker.contract.several_brokers import *` and
`from tests.broker.contract.background_elsewhere import *`.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.broker.contract import (
    background,
    claims,
    delivery,
    figures,
    filters,
    finishing,
    guards,
    leftovers,
    lifecycle,
    listing,
    model,
    published,
    resets,
    responses,
    resuming,
    retention,
    seam,
    threads,
)


def _tests_of(*subjects: ModuleType) -> dict[str, Callable[..., Any]]:
    tests: dict[str, Callable[..., Any]] = {}
    for subject in subjects:
        for name, test in vars(subject).items():
            if name.startswith("test_"):
                assert name not in tests, f"two tests are called {name}: one of them would never run"
                tests[name] = test
    return tests


_TESTS = _tests_of(
    delivery,
    published,
    resuming,
    resets,
    responses,
    seam,
    model,
    retention,
    filters,
    finishing,
    lifecycle,
    listing,
    threads,
    leftovers,
    background,
    claims,
    figures,
    guards,
)

globals().update(_TESTS)
__all__ = list(_TESTS)
