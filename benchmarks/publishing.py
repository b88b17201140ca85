"""How a channel gets its events: from inside the server, or over HTTP from a process of its own."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from benchmarks.command import ROOT
from benchmarks.receive import TIMEOUT, get_json, read_json, send_request
from benchmarks.wire import ReceiveError

CHANNEL = "trades"


@dataclass(frozen=True)
class Load:
    """What is published."""

    count: int
    """Events of each channel."""
    rate: float = 0.0
    """Events of each channel a second; 0: as fast as the publisher can."""
    channels: int = 1
    size: int = 0
    """Bytes of an event, if it is to have more than a trade."""

    @property
    def path(self) -> str:
        """Where a server that publishes by itself takes it. Of one usual channel, all peers know how."""
        query: dict[str, float | str] = {"channel": CHANNEL, "n": self.count, "rate": self.rate}
        if self.channels > 1 or self.size:
            query |= {"channels": self.channels, "size": self.size}
        return f"/publish?{urlencode(query)}"


Publishing = Callable[[int, Load], AbstractContextManager[None]]
"""Of a port, and what is published; while the context is open it goes on, at its end it is complete."""


def subscribe_path(channel: str = CHANNEL) -> str:
    return f"/subscribe?channel={channel}"


@contextmanager
def publishing_inside(port: int, load: Load) -> Iterator[None]:
    """One request, in which the server publishes them all."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        send_request(client, "POST", load.path)
        yield
        read_json(client)


def publish_inside(port: int, count: int) -> str:
    """The same, waited for; returns the id of the last event."""
    last: str = get_json(port, Load(count).path, "POST")["last_event_id"]
    return last


@contextmanager
def publishing_over_http(port: int, load: Load) -> Iterator[None]:
    """A request for each of them. The publisher runs on this process's processor, as the events' source would not
    be on the server's either."""
    command = [sys.executable, "-m", "benchmarks.publisher", str(port), json.dumps(asdict(load))]
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
