"""What a browser's own `EventSource` makes of tickets, and of streams of another origin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Visit
from tests.servers import conftest as servers
from tests.servers.servers import COMMANDS, Server

serve = servers.serve  # the fixture

OpenPage = Callable[..., Visit]

ADA = {"authorization": "Bearer key-of-ada"}


def ask(server: Server, path: str, method: str = "POST", headers: dict[str, str] | None = None) -> Any:
    with server.get(path, method, headers or {}) as client:
        answer = client.read_head().read_all()
        assert answer.status == 200, answer.body
        return json.loads(answer.body)


def test_a_page_with_tickets_misses_nothing_though_its_stream_ends_again_and_again(
    serve: servers.Serve, visit: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "two workers", lambda app, port: [*COMMANDS["uvicorn"](app, port), "--workers", "2"])
    server = serve("two workers", "tests.browser.access_app:app")
    page = visit(f"http://127.0.0.1:{server.port}/").page
    page.wait_for_selector("body[data-opened]")
    ordered: list[str] = []

    def order() -> None:
        ordered.append(f"order {len(ordered)}")
        ask(server, f"/orders?what={quote(ordered[-1])}", headers=ADA)

    def order_in_between(route: Route) -> None:
        # The first stream has ended before it got anything, and the next isn't open: this isn't lost all the same.
        order()
        route.continue_()

    page.route("**/ticket", order_in_between)
    while int(page.get_attribute("body", "data-opened") or 0) < 3:
        page.wait_for_timeout(50)
        if ordered:
            order()
    expect(page.locator("#list li")).to_have_text(ordered)
    used = [line for line in server.journal if line.startswith("GET /orders")]
    assert len(used) >= 3
    assert len(set(used)) == len(used), "each ticket was used once: the browser didn't come back by itself"


def test_a_used_ticket_stops_a_browser_that_comes_back_with_it(serve: servers.Serve, visit: OpenPage) -> None:
    server = serve("uvicorn", "tests.browser.access_app:app")
    visitor = visit(f"http://127.0.0.1:{server.port}/openapi.json")
    statuses: list[int] = []
    visitor.page.on("response", lambda response: "/orders" in response.url and statuses.append(response.status))
    ticket = ask(server, "/ticket", headers=ADA)["ticket"]
    visitor.page.evaluate(
        """ticket => new Promise((resolve, reject) => {
            setTimeout(() => reject(new Error("the browser did not stop")), 30000);
            const source = new EventSource(`/orders?ticket=${ticket}`);
            source.onerror = () => source.readyState === EventSource.CLOSED && resolve();
        })""",
        ticket,
    )
    assert statuses == [200, 401]


LISTEN = """
([url, withCredentials]) => {
  window.heard = { texts: [], source: new EventSource(url, { withCredentials }) };
  heard.source.onmessage = (event) => heard.texts.push(JSON.parse(event.data));
}
"""

FETCH = """
async ([url, id]) => {
  const answer = await fetch(url, { credentials: "include", headers: { "Last-Event-ID": id } });
  return [answer.status, await answer.text()];
}
"""


def test_a_page_of_another_origin_comes_back_with_its_cookie_and_the_last_id(
    serve: servers.Serve, visit: OpenPage
) -> None:
    elsewhere = serve("uvicorn", "tests.browser.access_app:shop_noting")
    origin = f"http://127.0.0.1:{elsewhere.port}"
    server = serve("uvicorn", "tests.browser.access_app:shop_noting", PAGE=origin)
    url = f"http://127.0.0.1:{server.port}/orders"
    page = visit(f"{url.removesuffix('orders')}login").page
    page.goto(f"{origin}/page")

    ids = [ask(server, f"/orders?what={number}") for number in range(3)]
    page.evaluate(LISTEN, [f"{url}?last_event_id=earliest", True])
    page.wait_for_function("heard.texts.length === 3")
    page.wait_for_function("heard.source.readyState === EventSource.OPEN")
    assert page.evaluate("heard.texts") == ["0", "1", "2"]
    came = [line for line in server.journal if line.startswith("ada from")]
    assert came[:3] == ["ada from None", f"ada from {ids[0]}", f"ada from {ids[1]}"]
    # `EventSource` sends the header without asking first.
    assert not any(line.startswith("OPTIONS") for line in server.journal)

    # A page that sets the header itself asks first, and is allowed to.
    assert page.evaluate(FETCH, [url, ids[1]])[0] == 200
    assert sum(line.startswith("OPTIONS") for line in server.journal) == 1

    # Without credentials there is no cookie.
    page.evaluate("heard.source.close()")
    page.evaluate(LISTEN, [url, False])
    page.wait_for_function("heard.source.readyState === EventSource.CLOSED")
    assert server.journal[-1] == "None from None"


def test_a_page_of_an_origin_that_is_not_allowed_reads_nothing(serve: servers.Serve, visit: OpenPage) -> None:
    elsewhere = serve("uvicorn", "tests.browser.access_app:shop_noting")
    server = serve("uvicorn", "tests.browser.access_app:shop_noting", PAGE="https://shop.example")
    url = f"http://127.0.0.1:{server.port}/orders"
    page = visit(f"{url.removesuffix('orders')}login").page
    page.goto(f"http://127.0.0.1:{elsewhere.port}/page")
    ask(server, "/orders?what=tea")
    page.evaluate(LISTEN, [f"{url}?last_event_id=earliest", True])
    page.wait_for_function("heard.source.readyState === EventSource.CLOSED")
    assert page.evaluate("heard.texts") == []
