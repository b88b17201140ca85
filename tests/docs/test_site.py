"""The documentation as a site: complete, linked, searchable, and loading nothing from elsewhere."""

import functools
import html
import importlib
import importlib.util
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.docs.pages import PAGES, ROOT
from tests.servers.servers import require

LOADS = {"img", "script", "source", "iframe", "video", "audio", "embed", "object", "track", "input"}
"""Elements whose `src` or `srcset` a browser fetches by itself; a `link` it fetches, too, an `a` it doesn't."""


class Document(HTMLParser):
    """A built page: the anchors in it, what it loads, where it links to, and the text of its paragraphs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.paragraphs: list[str] = []
        self._in_paragraph = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in LOADS:
            self.loads += [given[name].split()[0] for name in ("src", "srcset", "data") if given.get(name)]
        elif tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loads.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "p":
            self.paragraphs.append("")
        self._in_paragraph = (self._in_paragraph or tag == "p") and tag not in {"pre", "table", "ul", "ol"}

    def handle_endtag(self, tag: str) -> None:
        self._in_paragraph = self._in_paragraph and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._in_paragraph:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="module")
def project(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("docs")
    tool.main(folder)
    return folder


@pytest.fixture(scope="module")
def site(project: Path) -> dict[Path, Document]:
    pages = {path: Document(path.read_text()) for path in (project / "site").rglob("*.html")}
    # An example's page is served as it is, like the other files of the examples.
    return {path: page for path, page in pages.items() if path.name == "index.html"}


def target_of(project: Path, page: Path, link: str) -> Path:
    """The file that a server answers a link with."""
    base = project / "site" if link.startswith("/") else page.parent
    path = base / unquote(urlsplit(link).path).lstrip("/") if urlsplit(link).path else page
    return path / "index.html" if path.is_dir() else path


def test_every_page_is_there(project: Path, site: dict[Path, Document]) -> None:
    for source in PAGES:
        name = source.relative_to(ROOT).with_suffix("")
        folder = name.parent if name.name in {"README", "index"} else name
        assert project / "site" / folder / "index.html" in site


def test_every_public_name_is_in_the_reference(tool: ModuleType, project: Path, site: dict[Path, Document]) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    shown = set(re.findall(r"^ *from tidings\.(\w+) import", text, flags=re.MULTILINE))
    assert {"client", "errors", "fastapi", "testing", "wire"} <= shown <= set(tool.MODULES)
    anchors = set().union(*(page.anchors for path, page in site.items() if "reference" in path.parts))
    for name in tool.MODULES:
        module = importlib.import_module("tidings" if name == "tidings" else f"tidings.{name}")
        page = project / "site" / "reference" / name / "index.html"
        assert page in site
        for public in module.__all__:
            path = f"{module.__name__}.{public}"
            assert {path, f"{path}.{public}", f"tidings.{public}"} & anchors, path


def test_signatures_have_types_and_link_to_them(project: Path) -> None:
    page = (project / "site" / "reference" / "wire" / "index.html").read_text()
    signature = page[page.index('id="tidings.wire.EventDecoder.feed"') :].partition("</div>")[0].partition("<code>")[2]
    text = html.unescape(re.sub(r"<[^>]+>", "", signature)).strip()
    assert text == "feed(chunk: bytes | bytearray | memoryview) -> list[ReceivedEvent]"
    assert '#tidings.wire.ReceivedEvent"' in signature


def test_every_link_leads_somewhere(project: Path, site: dict[Path, Document]) -> None:
    for path, page in site.items():
        for link in [*page.links, *page.loads]:
            if urlsplit(link).scheme:
                continue
            target = target_of(project, path, link)
            assert target.is_file(), f"{path} links to {link}"
            if (anchor := unquote(urlsplit(link).fragment)) and target in site:
                assert anchor in site[target].anchors | {"__toc"}, f"{path} links to {link}"


def test_no_list_or_table_was_taken_for_text(site: dict[Path, Document]) -> None:
    """GitHub wants no empty line in front of a list, the site does."""
    for path, page in site.items():
        for paragraph in page.paragraphs:
            assert not re.search(r"^([-*] |\d+\. |\| )", paragraph, flags=re.MULTILINE), f"{path}: {paragraph}"


def test_pages_and_styles_name_nothing_from_elsewhere(project: Path, site: dict[Path, Document]) -> None:
    for path, page in site.items():
        for load in page.loads:
            assert not urlsplit(load).netloc, f"{path} loads {load}"
        # The script that all pages share loads more for such elements.
        assert not re.search(r"\b(mermaid|pyodide|glightbox|md-source)\b", path.read_text()), path
    styles = list((project / "site").rglob("*.css"))
    assert styles
    for style in [*styles, *site]:
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", style.read_text()), style


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def origin(project: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=project / "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_browser_finds_a_page_and_asks_nobody_else(origin: str) -> None:
    elsewhere: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require("chromium", "chromium"), args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        page = browser.new_page()
        page.on("request", lambda request: request.url.startswith((origin, "blob:")) or elsewhere.append(request.url))
        for path in ("docs/streams/", "reference/tidings/", "404.html", ""):
            page.goto(f"{origin}/{path}")
        page.keyboard.press("Control+k")
        page.keyboard.type("publish_timeout")
        expect(page.get_by_role("link", name="Choosing a storage").first).to_be_visible()
        browser.close()
    assert elsewhere == []


def test_a_page_that_no_menu_shows_is_an_error(tool: ModuleType, project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "pages", tmp_path / "pages")
    shutil.copy(project / "zensical.toml", tmp_path)
    tool.check_menu(tmp_path)
    (tmp_path / "pages" / "docs" / "new.md").write_text("# New\n")
    with pytest.raises(SystemExit, match=r"docs/new\.md"):
        tool.check_menu(tmp_path)
    (tmp_path / "pages" / "docs" / "new.md").unlink()
    settings = (tmp_path / "zensical.toml").read_text()
    (tmp_path / "zensical.toml").write_text(settings.replace("nav = [", 'nav = [{ "Twice" = "docs/streams.md" },'))
    with pytest.raises(SystemExit, match=r"too much: \['docs/streams\.md'\]"):
        tool.check_menu(tmp_path)


@pytest.mark.parametrize(
    ("link", "argument", "complaint"),
    [("#top", "chunk", None), ("gone.md", "chunk", "page does not exist"), ("#top", "chunks", "'chunks'")],
    ids=["nothing", "a link", "a docstring"],
)
def test_a_warning_is_an_error(
    tool: ModuleType, tmp_path: Path, link: str, argument: str, complaint: str | None
) -> None:
    settings = re.sub(r"^nav = \[.*?^]$", "", (ROOT / "zensical.toml").read_text(), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "zensical.toml").write_text(settings)
    (tmp_path / "src").mkdir()
    function = f'def feed(chunk: bytes) -> None:\n    """Feed.\n\n    Args:\n        {argument}: to feed.\n    """\n'
    (tmp_path / "src" / "decoder.py").write_text(function)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text(f"# Top\n\n[A link]({link})\n\n::: decoder.feed\n")
    with pytest.raises(SystemExit, match=complaint) if complaint else nullcontext():
        tool.build(tmp_path)
    assert (tmp_path / "site" / "index.html").exists()
