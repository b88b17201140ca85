"""A thousand malformed requests to each endpoint of the demo: no 5xx, no hang, no traceback, and nothing left of them.

    python fuzz/demo.py                        # all of them, some minutes
    python fuzz/demo.py --count 20 --seed 5    # fewer, others

It starts a demo with one worker, on a free port, and ends it. The requests go over plain sockets, some at a time.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from malformed import Ending, Endpoint, Request, malformed

from tidings.client import EventSource

PATIENCE = 30.0
"""Seconds in which an answer or the end of the connection has to come."""

MOMENT = 0.2
"""Seconds after which a client that has no answer says that nothing follows."""

AT_ONCE = 8

POOL = 40
"""Threads that an event loop keeps for `def` endpoints and files, once they were needed."""

MOST_GROWTH = 100 << 20
"""Bytes that the worker may have more afterwards: the largest requests are a megabyte, and allocators keep some."""

SAID = {"Invalid HTTP request received.", "Unsupported upgrade request."}
"""What uvicorn says of requests, in as many words."""

BROKEN_BODY = re.compile(
    r"Exception in ASGI application\nTraceback .*\n(?: .*\n)+"
    r"h11\._util\.LocalProtocolError: can't handle event type .*\n"
)
"""What uvicorn says if the body turns out to be broken when the application is at work: it has answered 400 itself."""

BODIES = {
    "/news": b'{"text": "a boat"}',
    "/chat": b'{"text": "why?"}',
    "/tasks": b'{"kind": "checksum"}',
    # A process that there can't be.
    "/workers/{pid}/kill": b"{}",
}
PARAMETERS = {"{pid}": "4194305", "{slot}": "2", "{panel}": "live"}


class Demo:
    """A demo in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        command = [sys.executable, "-m", "tidings.cli", "demo", "--port", "0", "--data", str(folder), "--workers", "1"]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        wait_until(lambda: "Ctrl-C" in self.output, "the demo says where it is")
        [port] = re.findall(r"http://127\.0\.0\.1:(\d+)", self.output)
        self.port = int(port)
        self.announcement = len(self.output.splitlines())
        self.url = f"http://127.0.0.1:{port}"
        self.worker = psutil.Process(self._sample()["pid"])

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def endpoints(self) -> Iterator[Endpoint]:
        """Each operation of its OpenAPI document, that document, and the page."""
        with urllib.request.urlopen(f"{self.url}/openapi.json") as answer:
            paths = json.load(answer)["paths"]
        for path, operations in paths.items():
            filled = re.sub(r"{\w+}", lambda match: PARAMETERS[match[0]], path)
            for method in operations:
                yield Endpoint(method.upper(), filled, BODIES[path] if method == "post" else b"")
        yield Endpoint("GET", "/openapi.json")
        yield Endpoint("GET", "/")

    def streams(self) -> int:
        """How many streams are open, but for the one that tells."""
        number: int = self._sample()["streams"]
        return number - 1

    def _sample(self) -> dict[str, int]:
        """What its worker says of itself now."""
        begin = time.time() * 1_000
        with EventSource(f"{self.url}/figures") as source:
            for event in source:
                if event.event == "worker" and event.json()["at"] > begin:
                    sample: dict[str, int] = event.json()
                    return sample
        raise AssertionError("the figures have ended")

    def clear(self) -> None:
        """End the tasks and the answer that requests have started."""
        for path in ("/tasks/1", "/tasks/2", "/tasks/3", "/tasks/4", "/chat"):
            urllib.request.urlopen(urllib.request.Request(self.url + path, method="DELETE")).close()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()


@contextmanager
def running() -> Iterator[Demo]:
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        try:
            yield demo
        finally:
            demo.stop()


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.05)


def send(port: int, request: Request) -> str:
    """The status of the answer, or what came instead; `AssertionError` if that isn't right."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        with suppress(OSError):  # it has heard enough; perhaps it has said why
            connection.sendall(request.data)
        if request.ending is Ending.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return "left"
        answer = read_head(connection, MOMENT if request.ending is Ending.CLOSE else PATIENCE)
        if answer is None and request.ending is Ending.CLOSE:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            answer = read_head(connection, PATIENCE)
    assert answer is not None, f"no answer within {PATIENCE:.0f} s"
    if not answer:
        assert request.ending is not Ending.WAIT or request.refused, "closed without an answer"
        return "closed"
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert status, f"no HTTP: {answer[:100]!r}"
    assert status[1][:1] in ({b"4"} if request.refused else {b"1", b"2", b"3", b"4"}), f"answered {status[1].decode()}"
    return status[1].decode()


def read_head(connection: socket.socket, timeout: float) -> bytes | None:
    """What comes, up to the end of the first head; None if nothing does."""
    connection.settimeout(timeout)
    answer = b""
    try:
        while b"\r\n\r\n" not in answer and (data := connection.recv(65_536)):
            answer += data
    except ConnectionResetError:
        pass
    except TimeoutError:
        return None
    return answer


def attack(demo: Demo, endpoint: Endpoint, count: int, seed: int) -> Counter[str]:
    """Send them; how often which answer came."""

    def attempt(request: Request) -> str:
        try:
            return send(demo.port, request)
        except AssertionError as error:
            error.add_note(f"{endpoint}, seed {seed}, {request.kind}: {request.data[:500]!r}")
            raise

    source = random.Random(f"{seed} {endpoint}")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return Counter(threads.map(attempt, malformed(endpoint, count, source)))


def check_nothing_is_left(demo: Demo, before: tuple[int, int, int]) -> None:
    """Raise `AssertionError` if the demo isn't as it was."""
    demo.clear()
    wait_until(lambda: demo.streams() == 0, "all streams have ended")
    descriptors, threads, memory = before
    wait_until(lambda: demo.worker.num_fds() <= descriptors, f"no more than {descriptors} descriptors are open")
    assert demo.worker.num_threads() <= threads + POOL, f"{demo.worker.num_threads()} threads"
    grown = demo.worker.memory_info().rss - memory
    assert grown < MOST_GROWTH, f"the worker has {grown >> 20} MiB more"
    output = "\n".join(demo.output.splitlines()[demo.announcement :]) + "\n"
    said = [line for line in BROKEN_BODY.sub("", output).splitlines() if line not in SAID]
    assert not said, "\n".join(said[-100:])


def usage(worker: psutil.Process) -> tuple[int, int, int]:
    """Its descriptors, threads and bytes of memory."""
    return worker.num_fds(), worker.num_threads(), worker.memory_info().rss


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--count", type=int, default=1_000, help="requests to each endpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the requests")
    options = parser.parse_args()
    with running() as demo:
        endpoints = list(demo.endpoints())
        for endpoint in endpoints:  # what is loaded and opened once
            attack(demo, endpoint, 2, options.seed + 1)
        demo.clear()
        before = usage(demo.worker)
        for endpoint in endpoints:
            answers = attack(demo, endpoint, options.count, options.seed)
            print(
                f"{endpoint!s:28}", *(f"{answer}: {count:<5}" for answer, count in sorted(answers.items())), flush=True
            )
        check_nothing_is_left(demo, before)
        after = usage(demo.worker)
        print(f"descriptors {before[0]} → {after[0]}, threads {before[1]} → {after[1]}, ", end="")
        print(f"memory {before[2] >> 20} → {after[2] >> 20} MiB")
    print(f"{options.count} requests to each of {len(endpoints)} endpoints, seed {options.seed}: all was well")


if __name__ == "__main__":
    main()
