"""Chromium's own `EventSource` on the whole format, in one response and in legs.

tests/browser has servers that go away, channels that end and logs that are lost; tests/docs has what pages do.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.browser import conftest as browsers
from tests.clients.conftest import asked, url
from tests.clients.voyage import LAST, LEGS, NAMES, SEEN, Seen
from tests.servers.servers import Server

browser, visit = browsers.browser, browsers.visit  # the fixtures

LISTEN = """
([path, names]) => {
  const heard = { source: new EventSource(path), events: [], errors: [] };
  for (const name of names) {
    heard.source.addEventListener(name, (event) => heard.events.push([event.type, event.data, event.lastEventId]));
  }
  heard.source.onerror = () => heard.errors.push(heard.source.readyState);
  window.heard = heard;
}
"""


def hear(visit: Callable[..., browsers.Visit], server: Server, path: str) -> tuple[list[Seen], list[int]]:
    """The events of a stream until the browser asks for it no more, and its states after each interruption."""
    page = visit(url(server, "/page")).page
    page.evaluate(LISTEN, [path, NAMES])
    page.wait_for_function("heard.source.readyState === EventSource.CLOSED")
    events, errors = page.evaluate("[heard.events, heard.errors]")
    return [Seen(*event) for event in events], errors


def test_a_voyage_is_read_as_the_standard_says(visit: Callable[..., browsers.Visit], server: Server, name: str) -> None:
    events, errors = hear(visit, server, f"/voyage?ship={name}")
    assert events == SEEN
    assert errors == [0, 2]
    assert asked(server, name) == ["None", LAST]


def test_each_leg_goes_on_behind_the_last_event_id_however_the_one_before_ended(
    visit: Callable[..., browsers.Visit], server: Server, name: str
) -> None:
    events, errors = hear(visit, server, f"/voyage?ship={name}&legs=true")
    assert events == SEEN
    assert errors == [0] * len(LEGS) + [2]
    assert asked(server, name) == [*LEGS, LAST]
