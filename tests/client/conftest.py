from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.client.misbehaving import MisbehavingServer, Script
from tests.client.reading import KINDS, Reading

Serve = Callable[..., MisbehavingServer]

OWN_CLIENTS = pytest.mark.parametrize("read", ["async", "sync"], indirect=True)
"""For tests that take their time, and ask nothing of a caller's client."""

CALLERS_CLIENTS = pytest.mark.parametrize("read", [kind for kind in KINDS if "-" in kind], indirect=True)
"""For tests of what a caller's client brings with it."""


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Servers that end with the test."""
    with ExitStack() as stack:

        def start(*scripts: Script) -> MisbehavingServer:
            return stack.enter_context(MisbehavingServer(*scripts))

        yield start


# An httpx2 client of the caller's is all but the one that a source makes for itself.
@pytest.fixture(params=[kind for kind in KINDS if not kind.endswith("httpx2")])
def read(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Callable[..., Reading]]:
    """Opens event sources of one kind: tidings' own client, or a caller's httpx2 or httpx client, async or sync.

    The server of the test ends after them: whatever they leave open would hold it up.
    """
    with ExitStack() as stack:

        def start(url: str, **options: object) -> Reading:
            return stack.enter_context(KINDS[request.param](url, **options))

        start.kind = KINDS[request.param]  # type: ignore[attr-defined]
        yield start
