"""The `tidings` command.

Importing this module needs no extra. Running it needs `tidings[cli]`, and `tidings demo` needs `tidings[demo]`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from tidings import __version__

if TYPE_CHECKING:
    import typer

__all__ = ["main"]

DEMO_HELP = """Stream this machine to a page in the browser: processor, memory and network as moving charts, and a log
file as it grows, with a filter that the server applies.

[bold]Examples[/]

tidings demo
[dim]the page is on http://127.0.0.1:8000, and the log is the demo's own access log[/]

tidings demo --follow /var/log/syslog
[dim]follow a file of your own[/]

tidings demo --host 0.0.0.0 --port 9000
[dim]let others on the network watch, your log included[/]
"""


def main() -> None:
    """Run the command line; ends the process with 0, with 2 for wrong options, or by the signal that stopped it."""
    try:
        app = _build()
    except ModuleNotFoundError as error:
        _fail(f"the command line needs {error.name}, which isn't installed: pip install 'tidings[cli]'")
    app()


def _build() -> "typer.Typer":
    # What the extras bring is imported where it is needed, so that a missing one can be named.
    import typer  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    app = typer.Typer(
        name="tidings",
        help="Server-sent events for Python web applications.",
        rich_markup_mode="rich",
        no_args_is_help=True,
        add_completion=False,
    )

    def show_version(value: bool) -> None:
        if value:
            typer.echo(f"tidings {__version__}")
            raise typer.Exit

    @app.callback()
    def tidings(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.", callback=show_version, is_eager=True)
        ] = False,
    ) -> None:
        pass

    @app.command(help=DEMO_HELP)
    def demo(
        host: Annotated[str, typer.Option(metavar="HOST", help="Name or address to listen on.")] = "127.0.0.1",
        port: Annotated[
            int, typer.Option(metavar="PORT", help="Port to listen on; 0 for any free one.", min=0, max=65535)
        ] = 8000,
        follow: Annotated[
            Path | None,
            typer.Option(metavar="PATH", help="The file to follow.", show_default="the demo's own access log"),
        ] = None,
        data: Annotated[
            Path | None,
            typer.Option(metavar="DIR", help="Folder of that access log.", show_default="~/.local/state/tidings"),
        ] = None,
    ) -> None:
        console = Console(highlight=False)
        try:
            from tidings.demo import server  # noqa: PLC0415
        except ModuleNotFoundError as error:
            _fail(f"the demo needs {error.name}, which isn't installed: pip install 'tidings[demo]'")

        def ready(address: str, log: Path) -> None:
            console.print(f"\n  [bold]tidings demo[/]  [link={address}]{address}[/link]", soft_wrap=True)
            console.print(f"  [dim]following[/]     {escape(str(log))}", soft_wrap=True)
            console.print("  [dim]Ctrl-C to stop[/]\n")

        try:
            server.serve(host, port, follow=follow, data=data, ready=ready)
        except server.CannotStartError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            # The server has already ended its streams; this is uvicorn handing the signal on.
            console.print("  [dim]stopped[/]")

    return app


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"tidings: {message}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
