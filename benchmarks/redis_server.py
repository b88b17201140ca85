"""A redis-server of its own, without persistence, for the workloads that need one."""

import shutil
import subprocess
from pathlib import Path

URL = Path("redis.url")
"""In the folder of a server: where the servers that are started there find it."""


def missing() -> str | None:
    if shutil.which("redis-server"):
        return None
    return "redis-server isn't installed here: apt-get install redis-server"


def version() -> str:
    if missing():
        return "not installed"
    asked = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    return next((word[2:] for word in asked.split() if word.startswith("v=")), "unknown")


def command(port: int, folder: Path) -> list[str]:
    (folder / URL).write_text(f"redis://127.0.0.1:{port}/0")
    return [
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
        "--save", "", "--appendonly", "no",
    ]  # fmt: skip
