"""A caller's client that speaks HTTP/2 without encryption to hypercorn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import CALLERS_CLIENTS
from tests.client.reading import Read, Reading
from tests.servers.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("http2")
    with Server("hypercorn", "tests.client.apps:app", folder) as server:
        with server.get("/numbers?to=100", "POST").read_head() as publishing:
            assert publishing.status == 200
        yield server


@CALLERS_CLIENTS
def test_a_stream_over_http2_is_read_and_resumed(server: Server, read: Read) -> None:
    kind: type[Reading] = read.kind  # type: ignore[attr-defined]
    client = kind.make_client(http1=False, http2=True)
    versions: list[str] = []
    url = f"http://127.0.0.1:{server.port}/numbers"
    options = {"client": client, "on_open": lambda response: versions.append(response.http_version)}
    with kind(url, last_event_id="earliest", **options) as reading:
        assert [event.json() for event in reading.take(40)] == list(range(40))
        reading.close()
        reading.source = reading.make_source(url, last_event_id=reading.source.last_event_id, retry=0.001, **options)
        assert [event.json() for event in reading.rest()] == list(range(40, 100))
        reading.close_client()
    assert versions == ["HTTP/2"] * 2
