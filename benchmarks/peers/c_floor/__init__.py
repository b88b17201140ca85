"""A floor: a server in C, which makes one write of each event for each of its readers."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "server.c"


def gcc(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["gcc", *words], capture_output=True, text=True, check=False)


def missing() -> str | None:
    if shutil.which("gcc") and gcc("-fsyntax-only", SOURCE).returncode == 0:
        return None
    return "gcc isn't installed here, or can't compile for Linux: apt-get install gcc libc6-dev"


def version() -> str:
    return f"gcc {gcc('-dumpfullversion').stdout.strip()}" if shutil.which("gcc") else "not installed"


def command(port: int, folder: Path) -> list[str]:
    program = folder / "c_floor"
    gcc("-O2", "-o", program, SOURCE).check_returncode()
    return [str(program), str(port)]
