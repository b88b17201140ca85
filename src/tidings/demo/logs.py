"""Follow a growing text file by whole lines, each with a position from which a later reader can go on.

A position is `"<inode>-<checksum of the first line>-<offset>"`, the offset being that of the byte after the line. It
stays valid across restarts of the program, since nothing is kept but the file itself; inode and checksum tell a
rotated file, or one that was truncated and has grown again, from the one that the position was given out for.

The reads block. They are bounded, and the caller runs them in a worker thread. It may close the follower meanwhile.
"""

import errno
import os
import re
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

CHUNK = 256 * 1024
"""Bytes of one read."""

TAIL_WINDOW = 2 * 1024 * 1024
"""Bytes at the end of the file in which the first lines of a new view are looked for."""

LINE_LIMIT = 4096
"""Bytes of a line that are kept; the rest of a longer one is dropped."""

FINGERPRINT = 256
"""Bytes of the first line that tell one generation of a file from the next."""

QUIET_READS = 5
"""Empty reads of a file that was renamed before it is given up for its successor: a program usually goes on writing to
the renamed file for a moment, until it is told to open its log again."""

_POSITION = re.compile(r"([0-9a-f]{1,32})-([0-9a-f]{1,8})-(0|[1-9][0-9]{0,17})", re.ASCII)

Reason = Literal["rotated", "truncated", "replaced", "unknown"]
"""Why a reader starts over: the file was renamed away (`rotated`) or made shorter (`truncated`) under its eyes, or the
position that it came back with belongs to another file (`replaced`) or is no position at all (`unknown`)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A whole line of the file, decoded, between two offsets in bytes."""

    start: int
    end: int
    text: str
    cut: bool


class LineSplitter:
    """Cuts chunks of bytes into whole lines; holds at most `LINE_LIMIT` bytes, however long a line gets."""

    def __init__(self, offset: int) -> None:
        self.end = offset
        """Offset after the last whole line."""
        self._head = bytearray()
        self._length = 0

    @property
    def position(self) -> int:
        """Offset of the next byte to feed."""
        return self.end + self._length

    def feed(self, data: bytes) -> Iterator[Span]:
        # Not splitlines(), which would also cut at form feeds and the like once decoded.
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._take(piece)
            yield self._finish()
        self._take(rest)

    def _take(self, piece: bytes) -> None:
        self._head += piece[: max(0, LINE_LIMIT - len(self._head))]
        self._length += len(piece)

    def _finish(self) -> Span:
        cut = self._length > LINE_LIMIT
        text = self._head.decode("utf-8", errors="replace")
        # The limit may have cut a character in two.
        text = text.rstrip("\ufffd") if cut else text.removesuffix("\r")
        span = Span(self.end, self.position + 1, text, cut)
        self.end = span.end
        self._head.clear()
        self._length = 0
        return span


@dataclass(frozen=True, slots=True)
class Line:
    """A line that passed the filter, and the position from which a reader goes on after it."""

    text: str
    cut: bool
    position: str


@dataclass(frozen=True, slots=True)
class Restart:
    """From here on the lines come from the beginning of the file again, for this reason."""

    reason: Reason
    position: str


@dataclass(frozen=True, slots=True)
class Opening:
    """How a follower began: where, and whether that is where the last one stopped (and if not, why)."""

    position: str
    resumed: bool
    reason: Reason | None


@dataclass(slots=True)
class Batch:
    """What one read brought. `more` says that the next one needn't wait."""

    items: list[Line | Restart] = field(default_factory=list)
    more: bool = False


class Follower:
    """Follows one file for one reader.

    Args:
        path: The file. It may be rotated (renamed and made anew) or truncated at any time.
        keyword: Text that a line must have somewhere, in any case; `""` for every line.
        position: Where an earlier follower stopped, or None.
        tail: How many lines before the end a new view begins with.

    Raises:
        OSError: From `open()`, if the file can't be opened.
    """

    def __init__(self, path: Path, *, keyword: str = "", position: str | None = None, tail: int = 200) -> None:
        self._path = path
        self._keyword = keyword.casefold()
        self._wanted = position
        self._tail = tail
        self._fd = -1
        self._lock = threading.Lock()
        self._closed = False
        self._inode = 0
        self._fingerprint = 0
        self._splitter = LineSplitter(0)
        self._pending: list[Line | Restart] = []
        self._quiet_reads = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, also one that is just being opened in a thread. Closing twice is fine."""
        self._closed = True
        self._replace(-1)

    @property
    def position(self) -> str:
        """The position after the last whole line that was read, whether it passed the filter or not."""
        return self._position_at(self._splitter.end)

    def open(self) -> Opening:
        """Open the file and find the place to begin: the position asked for, else the last lines."""
        self._open()
        reason: Reason | None = None
        if self._wanted:
            offset, reason = self._find(self._wanted)
            if reason is None:
                self._splitter = LineSplitter(offset)
                return Opening(self.position, resumed=True, reason=None)
        return Opening(self._position_at(self._seek_tail()), resumed=False, reason=reason)

    def read(self) -> Batch:
        """The lines that were added since, as many as one chunk holds."""
        if self._pending:
            batch = Batch(self._pending, more=True)
            self._pending = []
            return batch
        batch = Batch()
        if self._was_truncated():
            self._splitter = LineSplitter(0)
            batch.items.append(Restart("truncated", self.position))
        data = os.pread(self._fd, CHUNK, self._splitter.position)
        if data:
            self._quiet_reads = 0
            batch.items += self._lines(data)
            batch.more = len(data) == CHUNK
        elif self._was_rotated():
            self._quiet_reads += 1
            if self._quiet_reads >= QUIET_READS:
                self._open()
                batch.items.append(Restart("rotated", self.position))
                batch.more = True
        return batch

    def _open(self) -> None:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._replace(fd)
        if self._closed:  # set before the file was closed: so either this sees it, or that has closed this one
            self._replace(-1)
            raise OSError(errno.EBADF, "the follower is closed")
        self._inode = os.fstat(fd).st_ino
        self._fingerprint = self._read_fingerprint()
        self._splitter = LineSplitter(0)
        self._quiet_reads = 0

    def _replace(self, fd: int) -> None:
        with self._lock:
            before, self._fd = self._fd, fd
        if before >= 0:
            os.close(before)

    def _find(self, position: str) -> tuple[int, Reason | None]:
        """The offset that a position stands for, or the reason why it stands for none in this file."""
        parts = _POSITION.fullmatch(position)
        if parts is None:
            return 0, "unknown"
        offset = int(parts[3])
        if int(parts[1], 16) != self._inode:
            return 0, "replaced"
        if offset > os.fstat(self._fd).st_size:
            return 0, "truncated"
        if offset and (int(parts[2], 16) != self._fingerprint or os.pread(self._fd, 1, offset - 1) != b"\n"):
            return 0, "replaced"
        return offset, None

    def _seek_tail(self) -> int:
        """Read the last lines that pass the filter ahead; return the offset of the first of them."""
        size = os.fstat(self._fd).st_size
        # From one byte before the window, so that a line that begins with the window isn't taken for half a one.
        start = max(0, size - TAIL_WINDOW - 1)
        data = os.pread(self._fd, size - start, start)
        if start:
            half, newline, data = data.partition(b"\n")
            start += len(half) + len(newline)
        self._splitter = LineSplitter(start)
        passed = (span for span in self._splitter.feed(data) if self._passes(span))
        last = deque(passed, maxlen=self._tail)
        self._pending = [self._line(span) for span in last]
        return last[0].start if last else self._splitter.end

    def _lines(self, data: bytes) -> Iterator[Line]:
        if not self._splitter.end:
            # As long as the first line is incomplete its checksum still changes.
            self._fingerprint = self._read_fingerprint()
        for span in self._splitter.feed(data):
            if self._passes(span):
                yield self._line(span)

    def _passes(self, span: Span) -> bool:
        return not self._keyword or self._keyword in span.text.casefold()

    def _line(self, span: Span) -> Line:
        return Line(span.text, span.cut, self._position_at(span.end))

    def _position_at(self, offset: int) -> str:
        return f"{self._inode:x}-{self._fingerprint if offset else 0:x}-{offset}"

    def _read_fingerprint(self) -> int:
        return zlib.crc32(os.pread(self._fd, FINGERPRINT, 0).partition(b"\n")[0])

    def _was_truncated(self) -> bool:
        if os.fstat(self._fd).st_size < self._splitter.position:
            return True
        # Shorter once, but longer again by now.
        return bool(self._splitter.end) and self._read_fingerprint() != self._fingerprint

    def _was_rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            # Renamed, and the new file isn't there yet; there may still be lines to come in this one.
            return False
