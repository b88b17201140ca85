"""The `tidings` command.

Importing this package needs no extra. Running it needs `tidings[cli]`, and `tidings demo` needs `tidings[demo]`.
Each command stands in a module of its own.
"""

from tidings.cli.ending import ends_quietly, fail

__all__ = ["main"]


def main() -> None:
    """Run the command line; ends the process with 0, with 2 for wrong options, or as the command says."""
    with ends_quietly():
        try:
            from tidings.cli.app import app  # noqa: PLC0415 - so that a missing extra can be named
        except ModuleNotFoundError as error:
            fail(f"the command line needs {error.name}, which isn't installed: pip install 'tidings[cli]'")
        app()
