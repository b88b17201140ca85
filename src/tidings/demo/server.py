"""Run the demo: check what it is given, then serve until it is told to stop."""

import logging
import logging.handlers
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tidings.demo.app import create_app

LOG_BYTES = 2 * 1024 * 1024
"""Size at which the access log is rotated; one older file is kept."""

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


class CannotStartError(Exception):
    """The demo can't be served as asked; the message says why and what to do, for the one who asked."""


def default_data_folder() -> Path:
    """Where the access log goes: the user's folder for state, as the XDG base directories say."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a relative path is to be ignored.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "tidings"


def serve(host: str, port: int, *, follow: Path | None, data: Path | None, ready: Callable[[str, Path], None]) -> None:
    """Serve the demo until SIGINT or SIGTERM.

    Args:
        host: Name or address to listen on.
        port: TCP port; 0 for any free one.
        follow: The file to follow; None for the demo's own access log.
        data: The folder of that access log; None for the user's.
        ready: Called with the address of the page and the file that is followed, before the first request.

    Raises:
        CannotStartError: The port is taken, the file can't be read or the folder not written.
    """
    if follow is not None:
        log = _check_readable(follow.absolute())
    listener = _listen(host, port)
    with listener:
        bound_port: int = listener.getsockname()[1]
        if follow is None:
            # A file per port: a demo that is started again on its port goes on with the log that its pages know.
            log = _write_access_log((data or default_data_folder()).absolute() / f"access-{bound_port}.log")
        app = create_app(log, own_log=follow is None)
        if host in {name.strip("[]") for name in LOOPBACK}:
            # Otherwise any web page could read the log here, by having its own name resolve to this machine.
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)
        ready(_address(host, bound_port), log)
        # Its own logging configuration would print each request in the terminal.
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise CannotStartError(f"the host {host!r} is unknown: {error.strerror}. Try --host 127.0.0.1") from error
    except PermissionError as error:
        raise CannotStartError(f"port {port} needs more rights than you have. Try --port 8000") from error
    except OSError as error:
        raise CannotStartError(
            f"port {port} on {host} can't be used: {os.strerror(error.errno or 0)}. Try --port {_another(port)}"
        ) from error


def _another(port: int) -> int:
    return port + 1 if port < 65535 else 8000


def _address(host: str, port: int) -> str:
    # A browser on this machine reaches "all interfaces" by the loopback.
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 -- no bind
    return f"http://{name}:{port}"


def _check_readable(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise CannotStartError(
                f"can't follow {path}: it is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}"
            )
        path.open("rb").close()
    except OSError as error:
        raise CannotStartError(f"can't follow {path}: {error.strerror}") from error
    return path


def _write_access_log(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as error:
        raise CannotStartError(
            f"the access log {path} can't be written: {error.strerror}. Try another folder with --data DIR"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return path
