"""How a channel gets its events: from inside the server, or over HTTP from a process of its own."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.command import ROOT
from benchmarks.receive import TIMEOUT, get_json, read_json, send_request
from benchmarks.wire import ReceiveError

CHANNEL = "trades"

Publishing = Callable[[int, int, float], AbstractContextManager[None]]
"""Of a port, a number of events and a rate; while the context is open it goes on, at its end it is complete."""


def publish_path(count: int, rate: float = 0.0) -> str:
    return f"/publish?channel={CHANNEL}&n={count}&rate={rate}"


def subscribe_path(channel: str = CHANNEL) -> str:
    return f"/subscribe?channel={channel}"


@contextmanager
def publishing_inside(port: int, count: int, rate: float = 0.0) -> Iterator[None]:
    """One request, in which the server publishes them all."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        send_request(client, "POST", publish_path(count, rate))
        yield
        read_json(client)


def publish_inside(port: int, count: int) -> str:
    """The same, waited for; returns the id of the last event."""
    last: str = get_json(port, publish_path(count), "POST")["last_event_id"]
    return last


@contextmanager
def publishing_over_http(port: int, count: int, rate: float = 0.0) -> Iterator[None]:
    """A request for each of them. The publisher runs on this process's processor, as the events' source would not
    be on the server's either."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.publisher",
        str(port),
        publish_path(count, rate),
        str(count),
        str(rate),
    ]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as publisher:
        try:
            yield
            publisher.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ReceiveError("the publisher doesn't come to its end") from None
        except ReceiveError:
            # If the publisher failed, that is why.
            check_publisher(publisher)
            raise
        finally:
            publisher.kill()
        check_publisher(publisher)


def check_publisher(publisher: subprocess.Popen[bytes]) -> None:
    if publisher.poll():
        said = publisher.stderr.read() if publisher.stderr else b""
        raise ReceiveError(f"the publisher failed: {said.decode(errors='replace').strip()}")
