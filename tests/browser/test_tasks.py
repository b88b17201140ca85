"""The example of tasks whose progress a page follows, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser import test_chat
from tests.browser.conftest import Visit
from tests.servers import conftest as servers

serve = servers.serve  # the fixtures
patience = test_chat.patience

OpenPage = Callable[..., Visit]


def test_a_page_follows_several_tasks_through_a_reload(serve: servers.Serve, visit: OpenPage) -> None:
    server = serve(app="examples.task_progress:app")
    opened = visit("about:blank")
    page = opened.page
    # Of 50 pages only 15, to be quick. With the "=", as the port may have a 50 in it.
    page.route("**/tasks?pages=50", lambda route: route.continue_(url=route.request.url.replace("=50", "=15")))
    page.goto(f"http://127.0.0.1:{server.port}/")
    tasks = page.locator("#tasks li")
    page.click("#start")
    expect(tasks).to_have_count(1)
    page.click("#start")
    expect(tasks).to_have_count(2)
    page.reload()
    expect(tasks).to_have_text([re.compile(" of 15$")] * 2)  # both, in one stream
    expect(tasks).to_have_text([re.compile("15 of 15$")] * 2)
    page.goto(f"http://127.0.0.1:{server.port}/?task=0000")
    expect(tasks).to_have_text(["0000: no such task"])
    assert [problem for problem in opened.problems if "favicon" not in problem] == []
