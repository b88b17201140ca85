"""What a browser's own `EventSource` makes of channels while servers come and go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.browser.conftest import Visit
from tests.servers import conftest as servers
from tests.servers.servers import Server
from tests.servers.test_channels import APP, ask, publish

serve = servers.serve  # the fixture

OpenPage = Callable[..., Visit]

LISTEN = """
([name, path]) => {
  const source = new EventSource(path);
  const heard = { source, messages: [], resets: [] };
  source.onmessage = (event) => heard.messages.push([event.lastEventId, JSON.parse(event.data)]);
  source.addEventListener("reset", (event) => heard.resets.push({ id: event.lastEventId, ...JSON.parse(event.data) }));
  window[name] = heard;
}
"""


class Listener:
    """An `EventSource` in a page. It comes back after 200 ms, if it isn't told otherwise."""

    def __init__(self, page: Page, channel: str, query: str = "") -> None:
        self._page = page
        self._name = channel + query
        page.evaluate(LISTEN, [self._name, f"/channels/{channel}?retry=200{query}"])
        self.wait_for("heard.source.readyState === EventSource.OPEN")

    def wait_for(self, condition: str) -> None:
        self._page.wait_for_function(f"name => {{ const heard = window[name]; return {condition} }}", arg=self._name)

    def wait_for_messages(self, count: int) -> None:
        self.wait_for(f"heard.messages.length >= {count}")

    @property
    def messages(self) -> list[list[str]]:
        """The ids and texts."""
        messages: list[list[str]] = self._page.evaluate("name => window[name].messages", self._name)
        return messages

    @property
    def resets(self) -> list[dict[str, Any]]:
        resets: list[dict[str, Any]] = self._page.evaluate("name => window[name].resets", self._name)
        return resets


def page_of(visit: OpenPage, server: Server) -> Page:
    return visit(f"http://127.0.0.1:{server.port}/page").page


def test_a_page_misses_nothing_while_its_server_is_killed_and_started_again(
    serve: servers.Serve, visit: OpenPage, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    other = serve(app=APP, BROKER=url)  # publishes on, while the page's own server is gone
    server = serve(app=APP, BROKER=url)
    listener = Listener(page_of(visit, server), "news")
    published = publish(other, "news", "first")
    listener.wait_for_messages(1)
    for kind in ("uvicorn", "hypercorn"):
        server.kill()
        published += publish(other, "news", f"before {kind}", f"still before {kind}")
        server = serve(kind, APP, port=server.port, BROKER=url)
        published += publish(server, "news", f"after {kind}")
        listener.wait_for_messages(len(published))
        listener.wait_for("heard.source.readyState === EventSource.OPEN")
    published += publish(other, "news", "last")
    listener.wait_for_messages(len(published))
    assert [id for id, _ in listener.messages] == published
    assert listener.messages[-1][1] == "last"
    assert listener.resets == []


def test_a_page_that_had_got_nothing_yet_misses_nothing_over_an_orderly_restart(
    serve: servers.Serve, visit: OpenPage, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    other = serve(app=APP, BROKER=url)
    server = serve(app=APP, BROKER=url)
    page = page_of(visit, server)
    (told,) = publish(other, "news", "published before")
    silent, listener = Listener(page, "quiet"), Listener(page, "news", "&last_event_id=earliest")
    listener.wait_for_messages(1)
    assert server.terminate() < 5
    missed, quiet = publish(other, "news", "missed")[0], publish(other, "quiet", "missed, too")[0]
    server = serve(app=APP, port=server.port, BROKER=url)
    silent.wait_for_messages(1)  # after a time between 1 and 10 s, as it was told
    listener.wait_for_messages(2)
    assert silent.messages == [[quiet, "missed, too"]]
    assert listener.messages == [[told, "published before"], [missed, "missed"]]
    assert silent.resets == listener.resets == []


def test_a_page_is_told_when_the_log_is_another_one(serve: servers.Serve, visit: OpenPage) -> None:
    server = serve(app=APP)
    listener = Listener(page_of(visit, server), "news")
    (before,) = publish(server, "news", "before")
    listener.wait_for_messages(1)
    server.kill()
    server = serve(app=APP, port=server.port)
    listener.wait_for("heard.resets.length > 0")
    (after,) = publish(server, "news", "after")
    listener.wait_for_messages(2)
    (reset,) = listener.resets
    assert (reset["reason"], reset["requested"]) == ("epoch", before)
    assert reset["id"].split("-")[0] == after.split("-")[0]
    assert listener.messages == [[before, "before"], [after, "after"]]


def test_a_page_comes_no_more_when_the_channel_is_finished(serve: servers.Serve, visit: OpenPage) -> None:
    server = serve(app=APP)
    page = page_of(visit, server)
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status))
    listener = Listener(page, "job")
    (id,) = publish(server, "job", "done")
    ask(server, "/channels/job/finish")
    listener.wait_for("heard.source.readyState === EventSource.CLOSED")
    assert listener.messages == [[id, "done"]]
    assert statuses == [200, 204]
    assert server.journal == ["job from None", f"job from {id}"]
    # It stays away though there is something new: another that came later gets it.
    publish(server, "job", "again")
    later = Listener(page, "job", f"&last_event_id={id}")
    later.wait_for_messages(1)
    assert listener.messages == [[id, "done"]]
    assert len(server.journal) == 3
