"""A redis-server as a process of the tests' own, which can be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeAlias

from redis import Redis

from tests.servers.servers import PATIENCE, free_port, require, wait_until

__all__ = ["RedisServer"]

Client: TypeAlias = Any
"""A `Redis`; what the types of redis-py say that its methods return is of no use here."""

Setting = str | int | Path


class RedisServer:
    """A redis-server that listens on 127.0.0.1 alone, or on a socket in the file system; it starts at once.

    With a certificate (`tls_cert_file=…`) its port speaks TLS only; with `unixsocket=…` it has no port.

    Args:
        folder: where its files go; made if it is missing.
        port: 0: a free one.
        settings: lines of its configuration, with `_` for `-`; a list makes a line of each. It saves nothing unless
            told to (`appendonly="yes"`).
    """

    def __init__(self, folder: Path, port: int = 0, **settings: Setting | list[Setting]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.settings = settings
        self.port = port or free_port()
        self._program = require("redis-server", "redis-server")
        self._log = folder / "redis.log"
        self._stack = ExitStack()
        self.process: subprocess.Popen[bytes]
        self.start()

    @property
    def url(self) -> str:
        """For a broker or a client, without user or password."""
        return self.url_as()

    def url_as(self, user: str = "", password: str = "", database: int = 0) -> str:
        """For this user."""
        credentials = f"{user}:{password}@" if user or password else ""
        if "unixsocket" in self.settings:
            return f"unix://{credentials}{self.settings['unixsocket']}?db={database}"
        return f"{'rediss' if self._tls else 'redis'}://{credentials}127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        """What it has said since its first start."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    # -- looking inside -----------------------------------------------------------------------------------------------

    @cached_property
    def client(self) -> Client:
        """A client that may do everything; each command holds up the event loop until it is answered."""
        return self.connect()

    def connect(self, **options: Any) -> Client:
        """Another client, closed with the server."""
        if self._tls:
            options.setdefault("ssl_ca_certs", str(self.settings.get("tls_ca_cert_file", "")))
        if "requirepass" in self.settings:
            options.setdefault("password", str(self.settings["requirepass"]))
        client = Redis.from_url(self.url, **options)
        self._stack.callback(client.close)
        return client

    # -- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, again on the same port and folder; returns when it answers. Not on an event loop that must turn."""
        configuration = self.folder / "redis.conf"
        configuration.write_text("".join(f"{line}\n" for line in self._configuration()))
        said = len(self.log)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, str(configuration)], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )

        def is_ready() -> bool:
            assert self.process.poll() is None, self.log
            return "ready to accept connections" in self.log[said:].lower()

        try:
            wait_until(is_ready, 30, "redis-server is ready")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it with no chance to do anything more, also if it is stopped."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """Let it do nothing, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)
        # The signal is sent, but one that runs on another processor may go on for a moment.
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), self.log

    def go_on(self) -> None:
        """Let it go on after `stop`."""
        self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing within this."""
        self.stop()
        try:
            yield
        finally:
            self.go_on()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()
        if self.process.poll() is None:
            self.kill()

    # -- its configuration --------------------------------------------------------------------------------------------

    @property
    def _tls(self) -> bool:
        return "tls_cert_file" in self.settings

    def _configuration(self) -> Iterator[str]:
        yield f"dir {self.folder}"
        yield "bind 127.0.0.1"
        if "unixsocket" in self.settings:
            yield "port 0"
        elif self._tls:
            yield "port 0"
            yield f"tls-port {self.port}"
        else:
            yield f"port {self.port}"
        for name, value in {"save": '""', **self.settings}.items():
            for each in value if isinstance(value, list) else [value]:
                yield f"{name.replace('_', '-')} {each}"
