from collections.abc import Iterator

import pytest

from tests.docs.serving import Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage
