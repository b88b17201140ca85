"""The fixture that tidings gives to pytest.

It stands outside of the package because pytest loads it at every start, also for tests that have nothing to do with
streams: importing it must not import tidings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tidings.testing import Stream


@pytest.fixture
def open_stream() -> Iterator[Callable[..., Stream]]:
    """Open streams of an application in a plain test.

    Use it as in `stream = open_stream(app, "/news")`. It takes what `tidings.testing.open_stream` takes, and gives the
    open stream, without a `with`. The application's lifespan runs from its first stream on. At the end of the test
    every stream is closed, the newest first; one whose application goes on after its client has left is an error.
    """
    from tidings.testing.opening import open_for_test  # noqa: PLC0415 - see above

    with ExitStack() as stack:

        def open_one(app: Any, path: str = "/", **request: Any) -> Stream:
            return open_for_test(stack, app, path, **request)

        yield open_one
