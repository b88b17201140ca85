"""Lines of standard input as they come, whether it is a pipe, a file or a terminal."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

__all__ = ["InputError", "lines_of"]

_LONGEST: Final = 16 << 20
"""Bytes of a line."""

_CHUNK: Final = 65_536
"""Bytes read at once: what a pipe holds."""


class InputError(Exception):
    """The next line can't be read; those before it were given."""


async def lines_of(fd: int) -> AsyncIterator[list[bytes]]:
    """The lines of a file, all that are there at a time; without their ends, LF or CRLF. The last one needs none.

    Raises:
        InputError: a line is too long to be held, or the file can't be read.
    """
    held = bytearray()
    while chunk := await _read(fd):
        first, *rest = chunk.split(b"\n")
        held += first
        if len(held) > _LONGEST:
            raise InputError(f"is longer than {_LONGEST >> 20} MiB")
        if rest:
            yield [line.removesuffix(b"\r") for line in (bytes(held), *rest[:-1])]
            held = bytearray(rest[-1])
    if held:
        yield [bytes(held.removesuffix(b"\r"))]


async def _read(fd: int) -> bytes:
    """What there is, waited for on the event loop: a thread that waits could not be interrupted."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(fd, readable.set)
    except OSError:
        pass  # a regular file, which can't be waited for and needn't be
    else:
        try:
            await readable.wait()
        finally:
            loop.remove_reader(fd)
    try:
        return os.read(fd, _CHUNK)
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}") from error
