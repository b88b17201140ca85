import gc

import pytest


def pytest_collection_finish() -> None:
    """Take what is there before the first test out of every garbage collection: with thousands of tests it is much, and
    to look through it again and again takes longer than most of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
