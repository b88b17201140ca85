"""Writes the bytes of a file to whoever sends a request, one after the other: `python playback.py PORT FILE`.

It does nothing else, so that the client is what is measured.
"""

import socket
import sys
from contextlib import suppress
from pathlib import Path


def take_request(client: socket.socket) -> bool:
    """False if it was no more than a look whether somebody listens."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = client.recv(1 << 16)
        if not data:
            return False
        request += data
    return True


def play(port: int, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            client, _ = listener.accept()
            with client, suppress(OSError):
                if take_request(client):
                    client.sendall(answer)


if __name__ == "__main__":
    play(int(sys.argv[1]), Path(sys.argv[2]).read_bytes())
