"""Everybody comes back at once, as after a restart or a loss of the network."""

import re
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.audience import Audience, last_mark
from benchmarks.publishing import Load, subscribe_path
from benchmarks.receive import Stream, connect, open_streams
from benchmarks.server import Server
from benchmarks.wire import ReceiveError
from benchmarks.workloads.channels import BURST_PAUSE
from benchmarks.workloads.workload import Figures, Stage, Workload

WARM_UP_CLIENTS = 20
# Of an event that is complete.
ID = re.compile(rb"(?:^|\n)id: ?([^\r\n]*).*\n\r?\n", re.DOTALL)


@dataclass(frozen=True)
class Rush:
    """What became of clients that came all at once."""

    seconds: float
    """From the first connect to the last byte of the last client."""
    first_bytes: list[int]
    """Nanoseconds that each client waited, once connected, for its answer to begin."""
    receiver_share: float


def last_event_id(server: Server, stage: Stage) -> str:
    """Of a client that had one event, and then lost its connection."""
    with open_streams(server.port, subscribe_path(), 1) as [stream], stage.peer.publishing(server.port, Load(1)):
        received = b""
        while not (found := ID.search(received)):
            data = stream.client.recv(1 << 12)
            if not data:
                raise ReceiveError("the connection ended before the first event")
            received += stream.body.feed(data)
    return found[1].decode()


def rush(server: Server, clients: int, event_id: str, missed: int) -> Rush:
    """Each is checked to have got all that it had missed, once, in order."""
    last = last_mark(missed)
    audience = Audience()
    with ExitStack() as stack:
        stack.callback(audience.close)
        started, cpu = time.monotonic_ns(), time.process_time()
        for _ in range(clients):
            audience.add(Stream(stack.enter_context(connect(server.port, subscribe_path(), event_id))))
            audience.look(last)
        hearing = audience.hear(missed, BURST_PAUSE)
        seconds, cpu = (hearing.finished - started) / 1e9, time.process_time() - cpu
        first_bytes = audience.first_bytes()
        audience.check(missed)
    return Rush(seconds, first_bytes, cpu / seconds)


def storm(stage: Stage) -> Figures:
    sizes = stage.sizes
    with stage.serve("storm") as server:
        event_id = last_event_id(server, stage)
        with stage.peer.publishing(server.port, Load(sizes.missed)):
            pass
        rush(server, WARM_UP_CLIENTS, event_id, sizes.missed)
        server.settle()
        cpu = server.cpu()
        result = rush(server, sizes.clients, event_id, sizes.missed)
        cpu = server.cpu() - cpu
    events = sizes.clients * sizes.missed
    return {
        "seconds": result.seconds,
        "events_per_s": events / result.seconds,
        "first_byte_p99_ms": statistics.quantiles(result.first_bytes, n=100, method="inclusive")[98] / 1e6,
        "cpu_us_per_event": cpu / events * 1e6,
        "cpu_share": cpu / result.seconds,
        "receiver_share": result.receiver_share,
    }


STORMS = (
    Workload(
        "storm",
        "{sizes.clients:,} clients reconnect at once, each {sizes.missed} events behind, until all have them",
        storm,
        {
            "seconds": "{:.2f}",
            "events_per_s": "{:,.0f}",
            "first_byte_p99_ms": "{:.0f}",
            "cpu_us_per_event": "{:.2f}",
            "cpu_share": "{:.2f}",
            "receiver_share": "{:.2f}",
        },
        servers=("storm",),
        more_is_better=False,
        busy="cpu_share",
    ),
)
