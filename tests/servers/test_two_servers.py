"""Two servers in one process: what ends the one leaves the other alone."""

import subprocess
import sys
from pathlib import Path

from tests.servers.servers import ROOT

PRELUDE = """
import asyncio, os, signal, socket, sys, threading, time
import uvicorn
from tests.servers.apps import app
from tests.servers.servers import RawClient, free_port, wait_until

def make(port):
    return uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))

def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread

def until_up(server):
    wait_until(lambda: server.started, what="the server is up")

def talk_then_stop(server, port, found):
    # Runs beside the server's loop: opens a stream, has the process told to stop, and reads the stream's end.
    until_up(server)
    with RawClient(port, "/idle").read_head().read_until(b":\\n\\n") as client:
        os.kill(os.getpid(), signal.SIGTERM)
        client.read_all()
        found.append((client.clean, b"retry: " in client.body))
"""


def run(script: str, tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(PRELUDE + script)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    return done.stdout


def test_a_server_in_a_thread_goes_on_when_the_main_one_is_told_to_stop(tmp_path: Path) -> None:
    script = """
signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal once more when it has ended
main_port, other_port = free_port(), free_port()
other = make(other_port)
in_thread(lambda: asyncio.run(other.serve()))
until_up(other)
stream = RawClient(other_port, "/idle").read_head().read_until(b":\\n\\n")

main, found = make(main_port), []
talker = in_thread(talk_then_stop, main, main_port, found)
asyncio.run(main.serve())
talker.join(5)
print(found)

try:
    stream.read_some(0.3)
    print("the other stream got", stream.body, stream.clean)
except TimeoutError:
    print("the other stream goes on")
with RawClient(other_port, "/readings?n=2").read_head().read_all() as client:
    print(len(client.events), client.clean)
stream.leave()
"""
    assert run(script, tmp_path) == "[(True, True)]\nthe other stream goes on\n2 True\n"


def test_servers_one_after_the_other_each_end_their_streams(tmp_path: Path) -> None:
    for loops in ("one loop each", "one loop for both"):
        script = """
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
mine = signal.getsignal(signal.SIGTERM)

async def serve_once():
    port, found = free_port(), []
    server = make(port)
    talker = in_thread(talk_then_stop, server, port, found)
    begin = time.monotonic()
    await server.serve()
    assert time.monotonic() - begin < 15
    await asyncio.to_thread(talker.join, 5)
    print(found)

async def serve_twice():
    await serve_once()
    await serve_once()
"""
        if loops == "one loop each":
            script += "asyncio.run(serve_once())\nasyncio.run(serve_once())\n"
        else:
            script += "asyncio.run(serve_twice())\n"
        script += "print(signal.getsignal(signal.SIGTERM) is mine, len(told))\n"
        # uvicorn passes the signal on to the handler that it found, when it has ended.
        assert run(script, tmp_path) == "[(True, True)]\n[(True, True)]\nTrue 2\n", loops
