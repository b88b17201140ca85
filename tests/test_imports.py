"""The direction of imports, what an import loads, and what each module offers.

The table is DESIGN's: a part may import what stands in its row, and every part may import the errors. Imports for type
checkers alone are no dependencies.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "tidings"

EVERY_PART = {"errors", "wire", "events", "sources", "stream", "broker", "fastapi", "tickets", "client", "testing"} | {
    *("cli", "demo")
}

MAY_IMPORT = {
    "errors": set[str](),
    "wire": {"errors"},
    "events": {"errors", "wire"},
    "sources": {"errors", "wire"},
    "stream": {"errors", "wire", "events", "sources"},
    "broker": {"errors", "wire", "events", "sources"},
    "fastapi": {"errors", "stream", "events", "broker"},
    "tickets": {"errors", "broker"},
    "client": {"errors", "wire", "events"},
    "testing": EVERY_PART - {"cli", "demo"},
    "cli": EVERY_PART | {"tidings"},
    "demo": EVERY_PART | {"tidings"},
    # The package itself: the public names.
    "tidings": {"wire", "events", "stream", "broker"},
}

# What stands behind an extra, and the parts that it is for.
OPTIONAL = {
    "fastapi": {"fastapi", "demo"},
    "httpx2": {"client", "cli"},
    "itsdangerous": {"tickets"},
    "psutil": {"demo"},
    "redis": {"broker"},
    "rich": {"cli", "demo"},
    "typer": {"cli", "demo"},
    "uvicorn": {"cli", "demo"},
}

DEPENDENCIES = {"anyio", "opentelemetry", "pydantic", "pydantic_core", "starlette"}

# The clock, the event loop, and input and output.
IMPURE = {"asyncio", "concurrent", "multiprocessing", "os", "pathlib", "selectors", "signal", "socket", "ssl"} | {
    *("subprocess", "threading", "time")
}


@dataclass(frozen=True)
class Import:
    """One import: of `module`, in `scope` ("" at the top, else as in `Class.method`) of the module `importer`."""

    importer: str
    module: str
    scope: str

    @property
    def part(self) -> str:
        return part_of(self.module)

    @property
    def top_level(self) -> str:
        return self.module.partition(".")[0]

    @property
    def is_own(self) -> bool:
        return self.top_level == "tidings"

    def __str__(self) -> str:
        return f"{self.importer} imports {self.module}" + (f" in {self.scope}" if self.scope else "")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    """`tidings.wire.decoder` → `wire`, `tidings` → `tidings`."""
    return [*module.split("."), "tidings"][1]


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


class Imports(ast.NodeVisitor):
    """Collects the imports of a module that happen when it runs."""

    def __init__(self, importer: str, path: Path) -> None:
        self.importer = importer
        self.package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
        self.scope: list[str] = []
        self.found: list[Import] = []
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def _add(self, module: str) -> None:
        self.found.append(Import(self.importer, module, ".".join(self.scope)))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = node.module or ""
        if node.level:
            parents = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            origin = ".".join([*parents, origin]).rstrip(".")
        for alias in node.names:
            # `from tidings import wire` is an import of tidings.wire, not of what tidings offers.
            submodule = f"{origin}.{alias.name}"
            self._add(submodule if submodule in MODULES else origin)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.scope.append(node.name)
        self.generic_visit(node)
        self.scope.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _enter  # noqa: N815


def imports_of(*modules: str) -> Iterator[Import]:
    for module in modules:
        yield from Imports(module, MODULES[module]).found


# -- direction --------------------------------------------------------------------------------------------------------


def test_every_module_belongs_to_a_part_of_the_table():
    assert {part_of(module) for module in MODULES} <= MAY_IMPORT.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_the_table(module: str):
    part = part_of(module)
    allowed = MAY_IMPORT[part] | ({part} if part != "tidings" else set())

    assert [str(found) for found in imports_of(module) if found.is_own and found.part not in allowed] == []


def test_the_table_has_no_circle():
    parts = {part: set(allowed) - {"tidings"} for part, allowed in MAY_IMPORT.items() if part not in {"cli", "demo"}}
    placed: set[str] = set()
    while rest := {part for part in parts if part not in placed}:
        ready = {part for part in rest if parts[part] - {part} <= placed | {"cli", "demo"}}
        assert ready, f"in a circle: {rest}"
        placed |= ready


@pytest.mark.parametrize("module", MODULES)
def test_only_declared_dependencies_are_imported(module: str):
    known = DEPENDENCIES | sys.stdlib_module_names | {"tidings"}
    known |= {name for name, parts in OPTIONAL.items() if part_of(module) in parts}

    assert [str(found) for found in imports_of(module) if found.top_level not in known] == []


WIRE = [module for module in MODULES if part_of(module) == "wire"]


@pytest.mark.parametrize("module", WIRE)
def test_the_wire_needs_pydantic_core_alone(module: str):
    third_party = [
        found for found in imports_of(module) if not found.is_own and found.top_level not in sys.stdlib_module_names
    ]

    assert [
        str(found)
        for found in third_party
        if found.top_level != "pydantic_core" and (found.module, found.scope) != ("pydantic", "ReceivedEvent.parse")
    ] == []


PURE = [*WIRE, "tidings.errors", "tidings.client.reconnect"]


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_has_no_clock_no_loop_and_no_io(module: str):
    assert [str(found) for found in imports_of(module) if found.top_level in IMPURE] == []


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_opens_and_prints_nothing(module: str):
    calls = [node.func for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, ast.Call)]

    assert {call.id for call in calls if isinstance(call, ast.Name)}.isdisjoint({"open", "print", "input"})


# -- loading ----------------------------------------------------------------------------------------------------------


def run_python(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module", ["tidings", "tidings.wire", "tidings.events", "tidings.stream", "tidings.errors", "tidings.testing"]
)
def test_an_import_loads_no_optional_dependency(module: str):
    loaded = run_python(f"import {module}, sys; print(*sys.modules)").split()

    assert OPTIONAL.keys() & set(loaded) == set()


def test_every_optional_dependency_is_one_of_an_extra():
    assert OPTIONAL.keys().isdisjoint(DEPENDENCIES)


@pytest.mark.parametrize(
    ("module", "missing"), [("fastapi", "fastapi"), ("client", "httpx2"), ("tickets", "itsdangerous")]
)
def test_a_missing_extra_fails_at_its_import_and_names_the_install_command(module: str, missing: str):
    script = f"""
import sys
sys.modules["{missing}"] = None  # as if it weren't installed
try:
    import tidings.{module}
except ImportError as error:
    print(error)
"""

    assert f"pip install 'tidings[{module}]'" in run_python(script)


# -- what is offered --------------------------------------------------------------------------------------------------

PUBLIC = [
    module
    for module in MODULES
    if part_of(module) not in {"demo", "cli"} and not any(name.startswith("_") for name in module.split("."))
]


@dataclass(frozen=True)
class Offer:
    """The names that a module defines or, a package, gathers; and those that its `__all__` lists."""

    public: set[str]
    listed: list[str]


def offer_of(module: str) -> Offer:
    path = MODULES[module]
    public: set[str] = set()
    listed: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                public.add(node.name)
            case ast.ImportFrom() if path.name == "__init__.py" and node.module != "__future__":
                public |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                listed = ast.literal_eval(node.value)
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar") | ast.Attribute(attr="getLogger"))):
                pass  # a module's own, by convention without an underscore
            case ast.Assign(targets=targets):
                public |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                public.add(name)
    return Offer({name for name in public if not name.startswith("_")}, listed)


def kind_and_name(name: str) -> tuple[int, str]:
    """Constants, classes, functions, each by name: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_sorted_and_complete(module: str):
    offer = offer_of(module)

    assert offer.listed == sorted(offer.public, key=kind_and_name)


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_importable(module: str):
    loaded = importlib.import_module(module)

    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


def test_the_package_offers_these_names():
    tidings = importlib.import_module("tidings")
    settled = {"Broker", "Event", "EventSourceResponse", "ServerSentEvent", "Subscription", "shutting_down", "with_ids"}

    assert set(tidings.__all__) <= settled
    assert {name for name in settled if hasattr(tidings, name)} == set(tidings.__all__)


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()
