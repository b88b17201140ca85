from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.servers import Server

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers that end with the test."""
    with ExitStack() as stack:

        def start(kind: str = "uvicorn", app: str = "tests.servers.apps:app", port: int = 0, **settings: str) -> Server:
            return stack.enter_context(Server(kind, app, tmp_path, port, **settings))

        yield start
