"""What an application is asked: as a browser or a `fetch` would."""

from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel

from tests.testing.apps import END, HEAD, chunk
from tidings.fastapi import LastEventId
from tidings.testing import open_stream

pytestmark = pytest.mark.anyio


class Echo:
    """An application that keeps the scope and the body of its request."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.body = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.body = (await receive())["body"]
        await send(HEAD)
        await send(chunk(b"data: here\n\n"))
        await send(END)

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.scope["headers"]}


async def asked(path: str = "/", **request: Any) -> Echo:
    app = Echo()
    async with open_stream(app, path, **request) as stream:
        await stream.next()
    return app


async def test_what_is_sent_by_itself() -> None:
    app = await asked()
    assert app.scope["method"] == "GET"
    assert app.headers == {"host": "testserver", "accept": "text/event-stream"}
    assert app.body == b""
    assert app.scope["state"] == {}


async def test_headers() -> None:
    app = await asked(headers={"X-Token": "abc", "Accept": "*/*", "Host": "example.org"})
    assert app.headers == {"accept": "*/*", "x-token": "abc", "host": "example.org"}


@pytest.mark.parametrize(
    ("path", "params", "expected"),
    [
        ("/a", None, ("/a", b"/a", b"")),
        ("/a?b=1", None, ("/a", b"/a", b"b=1")),
        ("/a", {"b": 1}, ("/a", b"/a", b"b=1")),
        ("/a?b=1&c", {"d": "x y", "e": ["1", 2]}, ("/a", b"/a", b"b=1&c&d=x+y&e=1&e=2")),
        ("/a", {"yes": True, "no": False, "none": None}, ("/a", b"/a", b"yes=true&no=false&none=")),
        ("/a b/ü", None, ("/a b/ü", b"/a%20b/%C3%BC", b"")),
        ("/a%20b", None, ("/a b", b"/a%20b", b"")),
        ("/a?q=ü", None, ("/a", b"/a", b"q=%C3%BC")),
        ("/a#part", {"b": 1}, ("/a", b"/a", b"b=1")),
    ],
)
async def test_path_and_query(path: str, params: Any, expected: tuple[str, bytes, bytes]) -> None:
    scope = (await asked(path, params=params)).scope
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == expected


async def test_a_json_body() -> None:
    class Question(BaseModel):
        text: str

    app = await asked(method="post", json={"question": Question(text="ü?")})
    assert app.scope["method"] == "POST"
    assert app.body == '{"question":{"text":"ü?"}}'.encode()
    assert app.headers["content-type"] == "application/json"
    assert app.headers["content-length"] == str(len(app.body))


async def test_a_body_of_any_kind() -> None:
    assert (await asked(method="POST", content=b"\x00\x01")).body == b"\x00\x01"
    app = await asked(method="POST", content="ü", headers={"content-type": "text/plain"})
    assert app.body == "ü".encode()
    assert app.headers["content-type"] == "text/plain"


async def test_the_last_event_id() -> None:
    assert "last-event-id" not in (await asked()).headers
    assert "last-event-id" not in (await asked(last_event_id="")).headers
    assert (await asked(last_event_id="7")).headers["last-event-id"] == "7"


async def test_a_last_event_id_that_is_no_ascii() -> None:
    app = FastAPI()

    @app.get("/")
    async def last(last_event_id: LastEventId) -> str | None:
        return last_event_id

    async with open_stream(app, last_event_id="ü7") as stream:
        assert await stream.json() == "ü7"


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="'path' must begin with a slash, not 'news'"):
        open_stream(Echo(), "news")
    with pytest.raises(ValueError, match="'json' and 'content' are both the body"):
        open_stream(Echo(), json={}, content=b"")


# -- through a TestClient ---------------------------------------------------------------------------------------------


def test_what_a_client_sends_along() -> None:
    app = Echo()
    client = TestClient(app, base_url="http://example.org/api", headers={"authorization": "Bearer x"}, root_path="/v1")
    client.cookies["session"] = "ada"
    with open_stream(client, "/a b?c=1", params={"d": [2, 3]}, last_event_id="ü") as stream:
        stream.next()
    assert app.scope["path"] == "/api/a b"
    assert app.scope["query_string"] == b"c=1&d=2&d=3"
    assert app.scope["root_path"] == "/v1"
    assert app.headers["host"] == "example.org"
    assert app.headers["authorization"] == "Bearer x"
    assert app.headers["cookie"] == "session=ada"
    assert app.headers["accept"] == "text/event-stream"
    assert app.headers["accept-encoding"] == "identity"
    assert app.headers["last-event-id"] == "ü"


def test_a_body_through_a_client() -> None:
    app = Echo()
    with open_stream(TestClient(app), method="POST", json=[1], headers={"accept-encoding": "gzip"}) as stream:
        stream.next()
    assert app.body == b"[1]"
    assert [name for name, _ in app.scope["headers"]].count(b"content-length") == 1
    assert app.headers["content-length"] == "3"
    assert app.headers["content-type"] == "application/json"
    assert app.headers["accept-encoding"] == "gzip"


def test_a_session_of_a_client_that_logged_in() -> None:
    app = FastAPI()

    @app.post("/login")
    async def login(response: Response) -> None:
        response.set_cookie("session", "ada")

    @app.get("/who")
    async def who(request: Request) -> str:
        return request.cookies.get("session", "nobody")

    client = TestClient(app)
    client.post("/login")
    with open_stream(client, "/who") as stream:
        assert stream.json() == "ada"
    with open_stream(app, "/who") as stream:
        assert stream.json() == "nobody"
