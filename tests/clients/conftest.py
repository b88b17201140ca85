"""A ferry for all of these tests, and names that no two of them share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count
from urllib.parse import quote

import pytest

from tests.servers.servers import Server

APP = "tests.clients.apps:app"

_numbers = count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("uvicorn", APP, tmp_path_factory.mktemp("ferry")) as server:
        yield server
        check_log(server)


@pytest.fixture
def name() -> str:
    """Of a ship or a channel."""
    return f"ship-{next(_numbers)}"


def check_log(server: Server) -> None:
    """What a test breaks off on purpose is an error; nothing else is."""
    log = server.log.replace("ConnectionError: the cable was cut", "")
    assert not re.search(r"CRITICAL|WARNING|\w+(Error|Exception|Warning): ", log), server.log


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def publish(server: Server, channel: str, text: str) -> str:
    """The id of what was published."""
    with server.get(f"/channels/{channel}?text={quote(text)}", "POST").read_head().read_all() as answer:
        assert answer.status == 200, answer.body
        id: str = json.loads(answer.body)
        return id


def finish(server: Server, channel: str) -> None:
    with server.get(f"/channels/{channel}/finish", "POST").read_head().read_all() as answer:
        assert answer.status == 200, answer.body


def asked(server: Server, name: str) -> list[str]:
    """The ids that a ship or a channel was asked for, one for each request."""
    return [line.removeprefix(f"{name} from ") for line in server.journal if line.startswith(f"{name} from ")]
