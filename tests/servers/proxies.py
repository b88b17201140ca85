"""Proxies in front of servers, with the configurations of docs/proxies.md."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers.servers import PATIENCE, ROOT, free_port, require, wait_until

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

CADDY = """
{{
    admin off
}}
{configuration}
"""

UNCHANGED: Mapping[str, str] = {}


def documented(language: str, replacements: Mapping[str, str]) -> str:
    """A configuration as docs/proxies.md has it, at ports of ours."""
    text = (ROOT / "docs" / "proxies.md").read_text()
    block = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert block
    configuration = block[1]
    for old, new in replacements.items():
        assert old in configuration, old
        configuration = configuration.replace(old, new)
    return configuration


def nginx(folder: Path, app_port: int, port: int, changes: Mapping[str, str] = UNCHANGED) -> list[str]:
    places = {"127.0.0.1:8000": f"127.0.0.1:{app_port}", "listen 80;": f"listen 127.0.0.1:{port};"}
    path = folder / "nginx.conf"
    path.write_text(MAIN.format(folder=folder, configuration=documented("nginx", {**places, **changes})))
    return [require("nginx", "nginx-light"), "-c", str(path), "-e", str(folder / "error.log")]


def haproxy(folder: Path, app_port: int, port: int, changes: Mapping[str, str] = UNCHANGED) -> list[str]:
    places = {"127.0.0.1:8000": f"127.0.0.1:{app_port}", "bind :80": f"bind 127.0.0.1:{port}"}
    path = folder / "haproxy.cfg"
    path.write_text(documented("haproxy", {**places, **changes}))
    return [require("haproxy", "haproxy"), "-db", "-f", str(path)]


def caddy(folder: Path, app_port: int, port: int, changes: Mapping[str, str] = UNCHANGED) -> list[str]:
    site = f"http://:{port} {{\n\tbind 127.0.0.1"
    places = {"127.0.0.1:8000": f"127.0.0.1:{app_port}", "example.com {": site}
    path = folder / "Caddyfile"
    path.write_text(CADDY.format(configuration=documented("caddy", {**places, **changes})))
    return [require("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", str(path)]


PROXIES: dict[str, Callable[[Path, int, int, Mapping[str, str]], list[str]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "caddy": caddy,
}


@contextmanager
def proxy(kind: str, folder: Path, app_port: int, changes: Mapping[str, str] = UNCHANGED) -> Iterator[int]:
    """A proxy in front of a port; its own port. `changes` of its configuration: old text, new text."""
    port = free_port()
    command = PROXIES[kind](folder, app_port, port, changes)
    with running(command, folder, port):
        yield port


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """A proxy from when it listens; all that it writes goes to the folder."""
    log = folder / "proxy.log"
    homes = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}  # where Caddy keeps certificates
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env={**os.environ, **homes}, stdout=sink, stderr=sink)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, what=f"{command[0]} answers")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
