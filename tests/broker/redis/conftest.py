from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.broker.redis_server import RedisServer

_numbers = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Shared by the tests of a module: each has a namespace of its own, and puts back what it changes."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """One that nobody else uses."""
    return f"test{next(_numbers)}"


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RedisServer]]:
    """Makes servers for one test alone."""
    servers: list[RedisServer] = []

    def make(**settings: object) -> RedisServer:
        servers.append(RedisServer(tmp_path_factory.mktemp("redis"), **settings))  # type: ignore[arg-type]
        return servers[-1]

    yield make
    for server in servers:
        server.__exit__()
