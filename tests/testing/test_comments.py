"""Comments are found over any chunking, as the decoder finds events."""

import pytest

from tidings.testing.received import CommentReader

CASES = [
    (b": ping\n\n", ["ping"]),
    (b":\n\n", [""]),
    (b":ping\n", ["ping"]),
    (b":  two spaces\n", [" two spaces"]),
    (b": a\r\n: b\r: c\n", ["a", "b", "c"]),
    (b"data: : no\n\n: yes\n\n", ["yes"]),
    (b"data\r\n\r\n:x\r\r\n:y\n", ["x", "y"]),
    ("\ufeff: after a mark\n: ä\n".encode(), ["after a mark", "ä"]),
    ("x\n\ufeff: no comment\n".encode(), []),
    (b": \xff\n", ["\ufffd"]),
    (b": unfinished", []),
    (b"", []),
]


@pytest.mark.parametrize(("stream", "comments"), CASES)
def test_comments_over_any_chunking(stream: bytes, comments: list[str]) -> None:
    for cut in range(len(stream) + 1):
        reader = CommentReader()
        assert [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])] == comments
    reader = CommentReader()
    assert [comment for byte in stream for comment in reader.feed(bytes([byte]))] == comments


def test_a_long_line_in_many_pieces() -> None:
    reader = CommentReader()
    assert reader.feed(b":") == []
    for _ in range(10_000):
        assert reader.feed(b"x" * 1024) == []
    (comment,) = reader.feed(b"\n")
    assert len(comment) == 10_000 * 1024
