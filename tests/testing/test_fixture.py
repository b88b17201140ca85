"""pytest's fixture, in a pytest of its own."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

APP = """
import asyncio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tidings import Broker, EventSourceResponse

broker = Broker()
said = []


@pytest.fixture
def app():
    app = FastAPI(lifespan=broker.lifespan)

    @app.get("/news")
    async def news(source: str = "live"):
        try:
            return EventSourceResponse(broker.subscribe("news"))
        finally:
            said.append(source)

    @app.get("/ticks", response_class=EventSourceResponse)
    async def ticks():
        try:
            for number in range(1_000_000):
                yield number
                await asyncio.sleep(60)
        finally:
            said.append("closed")

    return app


async def leak(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(3600)
"""


def run(pytester: pytest.Pytester, tests: str, **outcomes: int) -> pytest.RunResult:
    pytester.makepyfile(APP + tests)
    result = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider", "-p", "no:timeout")
    result.assert_outcomes(**outcomes)
    return result


def test_streams_of_an_application_whose_lifespan_runs(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
def test_one_loop_for_all(open_stream, app):
    one, other = open_stream(app, "/news"), open_stream(app, "/news", params={"source": "again"})
    event_id = broker.publish_sync("news", "spring")
    assert one.next().id == other.next().id == event_id
    assert said == ["live", "again"]

def test_time(open_stream, app):
    said.clear()
    ticks = open_stream(app, "/ticks")
    ticks.advance(120)
    assert [event.data for event in ticks.take(3)] == ["0", "1", "2"]
    assert said == []

def test_closed_at_the_end_of_the_test_before():
    assert said == ["closed"]
    with pytest.raises(Exception, match="not open"):
        broker.publish_sync("news", 1)

def test_closed_in_between(open_stream, app):
    said.clear()
    ticks = open_stream(app, "/ticks")
    ticks.close()
    assert said == ["closed"]

def test_with_a_client(open_stream, app):
    with TestClient(app) as client:
        stream = open_stream(client, "/news")
        broker.publish_sync("news", 1)
        assert stream.next().data == "1"
        stream.close()

@pytest.fixture
def client(app):
    with TestClient(app) as client:
        yield client

def test_with_a_client_of_a_fixture(client, open_stream):
    stream = open_stream(client, "/news")
    broker.publish_sync("news", 1)
    assert stream.next().data == "1"

def test_errors_of_the_test_are_its_own(open_stream):
    with pytest.raises(ValueError, match="slash"):
        open_stream(leak, "news")
""",
        passed=7,
    )


def test_an_application_that_goes_on_is_an_error(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_leak(open_stream):
    open_stream(leak, "/leak").patience = 0.05

def test_good(open_stream, app):
    open_stream(app, "/ticks").next()
""",
        passed=2,
        errors=1,
    )
    result.stdout.fnmatch_lines(["*AssertionError: GET /leak: the application goes on 0.05 s after its client left*"])


def test_every_stream_is_closed_whatever_the_others_do(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
def test_leak(open_stream, app):
    open_stream(app, "/ticks").next()
    open_stream(leak, "/leak").patience = 0.05

def test_closed():
    assert said == ["closed"]
""",
        passed=2,
        errors=1,
    )


def test_a_failing_start_is_an_error_of_the_test(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
async def failing(scope, receive, send):
    await receive()
    raise ZeroDivisionError

def test_start(open_stream):
    with pytest.raises(ZeroDivisionError):
        open_stream(failing)
""",
        passed=1,
    )


def test_the_fixture_is_described(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--fixtures", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["open_stream*", "    Open streams of an application in a plain test."])


def test_pytest_starts_without_loading_tidings() -> None:
    script = "import _tidings_pytest, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert {"tidings", "starlette", "pydantic", "anyio"}.isdisjoint(loaded.stdout.split())
