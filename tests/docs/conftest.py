import logging
from collections.abc import Iterator

import pytest

from tests.docs.serving import Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(autouse=True)
def log_levels_stay() -> Iterator[None]:
    """A page may show how to set one; other tests in this process expect them as they were."""
    loggers = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [(logger, logger.level) for logger in (logging.getLogger(), logging.getLogger("tidings.stream"), *loggers)]
    yield
    for logger, level in before:
        logger.setLevel(level)
