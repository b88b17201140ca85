"""The configuration of docs/deployment.md, in a real nginx."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.conftest import Serve
from tests.servers.servers import ROOT, RawClient, Server, free_port, require, wait_until

MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_proxied any;
    {configuration}
}}
"""


def documented(app_port: int, port: int) -> str:
    text = (ROOT / "docs" / "deployment.md").read_text()
    block = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert block
    configuration = block[1]
    for old, new in (("127.0.0.1:8000", f"127.0.0.1:{app_port}"), ("listen 80;", f"listen 127.0.0.1:{port};")):
        assert old in configuration
        configuration = configuration.replace(old, new)
    return configuration


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve()


@pytest.fixture
def port(server: Server, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    path = tmp_path / "nginx.conf"
    path.write_text(MAIN.format(folder=tmp_path, configuration=documented(server.port, port)))
    process = subprocess.Popen([require("nginx", "nginx-light"), "-c", str(path), "-e", str(tmp_path / "error.log")])

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "error.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, what="nginx answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def test_items_pass_one_by_one(port: int) -> None:
    with RawClient(port, "/alone?n=20", headers={"Accept-Encoding": "gzip"}).read_head() as client:
        assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-encoding" not in client.headers
        delays: list[int] = []
        while client.read_some():
            events = client.events
            delays += [time.monotonic_ns() - event.json() for event in events[len(delays) :]]
        assert len(delays) == 20
        assert sorted(delays)[10] < 15_000_000


def test_the_head_of_a_silent_stream_passes_at_once(port: int) -> None:
    begin = time.monotonic()
    with RawClient(port, "/idle").read_head().read_until(b":\n\n") as client:
        assert client.status == 200
        assert time.monotonic() - begin < 2


def test_an_early_error_keeps_its_status(port: int) -> None:
    with RawClient(port, "/missing/attic").read_head() as client:
        assert client.status == 404


def test_pings_pass(port: int) -> None:
    with RawClient(port, "/beating").read_head() as client:
        client.read_until(b": ping\n\n: ping\n\n")


def test_a_client_that_leaves_nginx_ends_the_source_behind_it(server: Server, port: int) -> None:
    with RawClient(port, "/idle").read_head().read_until(b":\n\n"):
        pass
    assert server.wait_for("idle closed") < 1


def test_the_end_of_the_server_ends_the_stream_cleanly(server: Server, port: int) -> None:
    with RawClient(port, "/idle").read_head().read_until(b":\n\n") as client:
        assert server.terminate() < 2
        assert client.read_all().clean
        assert b"retry: " in client.body
