"""Run the demo: check what it is given, then serve it with several workers until it is told to stop."""

import fcntl
import inspect
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import uvicorn
from anyio.from_thread import start_blocking_portal
from uvicorn.supervisors import Multiprocess

from tidings.demo.app import LOOPBACK
from tidings.demo.settings import Settings
from tidings.demo.station import station
from tidings.errors import StorageError

APP = "tidings.demo.app:load"
"""What makes the application of a worker."""

FAILURES = 3
"""Workers that may end by themselves before the demo is given up."""


class CannotStartError(Exception):
    """The demo can't be served as asked; the message says why and what to do, for the one who asked."""


class Supervisor(Multiprocess):
    """uvicorn's own, which starts a worker in place of one that has died; but not for ever."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        # Until 0.53 it wanted to be told what a worker runs.
        takes_target = "target" in inspect.signature(Multiprocess).parameters
        target: dict[str, Any] = {"target": uvicorn.Server(config).run} if takes_target else {}
        super().__init__(config, sockets=[listener], **target)
        self._failures = 0
        self.stopped_by: int | None = None
        """The signal that ended it; None if its workers did."""

    def init_processes(self) -> None:
        with _without_interrupts():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        # Only those that are dead: uvicorn asks the others for a sign of life, and one that dies meanwhile, or has yet
        # to start, holds everything up for seconds, Ctrl-C too.
        alive = [process for process in self.processes if process.process.is_alive()]
        dead = [process for process in self.processes if process not in alive]
        # Who was killed has a negative code, and is replaced as often as somebody likes that.
        self._failures += sum((process.process.exitcode or 0) > 0 for process in dead)
        if self._failures >= FAILURES:
            self.should_exit.set()
            return
        self.processes = dead
        with _without_interrupts():
            super().keep_subprocess_alive()
        self.processes += alive

    def handle_int(self) -> None:
        self._stop(signal.SIGINT)

    def handle_term(self) -> None:
        self._stop(signal.SIGTERM)

    def handle_hup(self) -> None:
        # A terminal that is closed; uvicorn would start its workers anew.
        self._stop(signal.SIGHUP)

    def _stop(self, signum: int) -> None:
        self.stopped_by = signum
        self.should_exit.set()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started in here never see Ctrl-C, which a terminal sends to all: their parent ends them."""
    resource_tracker.ensure_running()  # started in here, it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def default_data_folder() -> Path:
    """Where the demo keeps its files: the user's folder for state, as the XDG base directories say."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification: a relative path is to be ignored.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "tidings"


def serve(
    host: str,
    port: int,
    *,
    follow: Path | None = None,
    data: Path | None = None,
    workers: int = 2,
    broker: str | None = None,
    ready: Callable[[str, Settings], None],
) -> None:
    """Serve the demo until SIGINT, SIGTERM or SIGHUP.

    Args:
        host: Name or address to listen on.
        port: TCP port; 0 for any free one.
        follow: The file to follow; None for the demo's own access log.
        data: The folder for its files; None for the user's.
        workers: How many processes serve.
        broker: URL of a server for the channels; None for files.
        ready: Called with the address of the page and the settings, before the first request.

    Raises:
        CannotStartError: The port is taken, the file can't be read, the folder not written, the broker not reached.
    """
    if broker is not None and broker.startswith(("memory://", "sqlite://")):
        raise CannotStartError("--broker is for a server, such as redis://localhost:6379/0; without it there are files")
    if follow is not None:
        follow = _check_readable(follow.absolute())
    with _listen(host, port) as listener:
        bound_port: int = listener.getsockname()[1]
        # A folder per port: a demo that is started again on its port goes on with what its pages know.
        folder = (data or default_data_folder()).absolute() / str(bound_port)
        with _own(folder):
            settings = Settings(
                folder=folder,
                port=bound_port,
                log=follow or folder / "access.log",
                own_log=follow is None,
                local=host in {name.strip("[]") for name in LOOPBACK},
                broker=broker,
            )
            _serve(settings, listener, workers, lambda: ready(_address(host, bound_port), settings))


def _serve(settings: Settings, listener: socket.socket, workers: int, ready: Callable[[], None]) -> None:
    settings.save()
    config = uvicorn.Config(
        APP,
        factory=True,
        workers=workers,
        lifespan="on",
        log_config=None,  # its own would print each request in the terminal
        # With httptools uvicorn doesn't notice that a client has left which had already sent its next request.
        http="h11",
        timeout_graceful_shutdown=1,
    )
    with _publishing(settings):
        ready()
        supervisor = Supervisor(config, listener)
        supervisor.run()
    if supervisor.stopped_by is None:
        raise CannotStartError("the workers ended by themselves; what they said stands above")
    if supervisor.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


@contextmanager
def _publishing(settings: Settings) -> Iterator[None]:
    """The station, in a thread: the supervisor blocks this one."""
    with start_blocking_portal() as portal, ExitStack() as stack:
        try:
            stack.enter_context(portal.wrap_async_context_manager(station(settings)))
        except (StorageError, ImportError) as error:
            raise CannotStartError(str(error)) from error
        except ValueError as error:
            raise CannotStartError(str(error).replace("'url'", "--broker", 1)) from error
        yield


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


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Make the folder, and have it for this demo alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise CannotStartError(
            f"the folder {folder} can't be written: {error.strerror}. Try another one with --data DIR"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStartError(f"another demo uses the folder {folder}. Try another one with --data DIR") from error
        yield
