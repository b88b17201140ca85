"""How many streams a browser has open at once, over HTTP/1.1 and over HTTP/2."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.servers.proxies import running
from tests.servers.servers import Server, free_port, require

STREAMS = 12

CADDYFILE = """
{{
    admin off
    skip_install_trust
    auto_https disable_redirects
    servers {{
        protocols h1 h2
    }}
}}
https://localhost:{port} {{
    tls internal
    reverse_proxy 127.0.0.1:{app}
}}
"""

OPEN = """
async ([count, wanted]) => {
    let opened = 0;
    const all = Array.from({length: count}, () => {
        const source = new EventSource("/idle");
        source.onopen = () => opened++;
        return source;
    });
    const end = Date.now() + 10_000;
    while (opened < wanted && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    // Time for one more, were there room.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol;
    all.forEach((source) => source.close());
    return [opened, protocol];
}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server("uvicorn", "tests.servers.apps:app", tmp_path) as server:
        yield server


def opened(browser: Browser, url: str, wanted: int) -> tuple[int, str]:
    context = browser.new_context(ignore_https_errors=True)
    try:
        page = context.new_page()
        page.goto(url)
        count, protocol = page.evaluate(OPEN, [STREAMS, wanted])
        return count, protocol
    finally:
        context.close()


def test_six_streams_over_http_1(browser: Browser, server: Server) -> None:
    assert opened(browser, f"http://127.0.0.1:{server.port}/plain", 6) == (6, "http/1.1")


def test_all_streams_over_http_2(browser: Browser, server: Server, tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "Caddyfile"
    path.write_text(CADDYFILE.format(port=port, app=server.port))
    command = [require("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", str(path)]
    with running(command, tmp_path, port):
        assert opened(browser, f"https://localhost:{port}/plain", STREAMS) == (STREAMS, "h2")
