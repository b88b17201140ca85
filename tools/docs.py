"""Build the documentation as a site: `make docs`, or `python tools/docs.py FOLDER`.

A site has the layout of the repository. README.md, docs/ and what else is there to read are its pages as they stand, so
a link that works on GitHub works in it. To these is added reference/: a page for each public module, from docstrings.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "src" / "tidings"

SOURCES: Final = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "benchmarks/README.md", "examples"),
    "tests/clients/mcp_app.py",
)
"""What is copied into the site: pages, and the files that they link to."""

MODULES: Final = ("tidings", "stream", "broker", "fastapi", "client", "testing", "tickets", "wire", "errors")
"""The public modules. A name that several of them offer is described with the first."""


def main(folder: Path) -> None:
    """Assemble the site's pages in a folder, in place of those that were, and build it there.

    Raises:
        SystemExit: a page is in no menu, or the build has something to say.
    """
    for name in ("pages", "src", "site"):
        shutil.rmtree(folder / name, ignore_errors=True)
    pages = folder / "pages"
    for name in SOURCES:
        _copy(ROOT / name, pages / name)
    _write_reference(pages / "reference")
    _copy(ROOT / "zensical.toml", folder / "zensical.toml")
    _copy(PACKAGE, folder / "src" / "tidings")
    check_menu(folder)
    build(folder)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _write_reference(folder: Path) -> None:
    folder.mkdir()
    described: dict[str, str] = {}
    for module in MODULES:
        path = "tidings" if module == "tidings" else f"tidings.{module}"
        text, names = _read(module)
        parts = [f"# {path}", text]
        for name in names:
            if name in described:
                parts.append(f"`{name}` is that of [{described[name]}][{described[name]}.{name}].")
            else:
                parts.append(f"::: {_path_of(path, name)}")
        (folder / f"{module}.md").write_text("\n\n".join(parts) + "\n")
        described = dict.fromkeys(names, path) | described


def _read(module: str) -> tuple[str, list[str]]:
    """The docstring of a module, and what it offers."""
    file = PACKAGE / "__init__.py" if module == "tidings" else PACKAGE / f"{module}.py"
    tree = ast.parse((file if file.exists() else PACKAGE / module / "__init__.py").read_text())
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return ast.get_docstring(tree) or "", list(ast.literal_eval(value))
    raise SystemExit(f"tidings.{module} has no __all__")


def _path_of(module: str, name: str) -> str:
    """What to call a name of a module; without running it, `module.name` is a submodule that has the same name."""
    submodule = ROOT / "src" / Path(*module.split(".")) / f"{name}.py"
    return f"{module}.{name}.{name}" if submodule.exists() else f"{module}.{name}"


def check_menu(folder: Path) -> None:
    """See that each page is in the menu, once, which Zensical doesn't mind."""
    with (folder / "zensical.toml").open("rb") as file:
        menu = Counter(_pages_of(tomllib.load(file)["project"]["nav"]))
    pages = Counter(str(path.relative_to(folder / "pages")) for path in (folder / "pages").rglob("*.md"))
    if menu != pages:
        raise SystemExit(f"nav in zensical.toml lacks {sorted(pages - menu)}, and has too much: {sorted(menu - pages)}")


def _pages_of(items: list[Any]) -> Iterator[str]:
    for item in items:
        (entry,) = item.values()
        if isinstance(entry, str):
            yield entry
        else:
            yield from _pages_of(entry)


def build(folder: Path) -> None:
    """Build what was assembled."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    run = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    # What griffe thinks of a docstring is no issue to Zensical, but stands there as well.
    if run.returncode or run.stderr.strip() != "No issues found":
        raise SystemExit(f"{run.stdout}{run.stderr}\nThe documentation can't be built without warnings.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
