"""`tidings demo`: serves the demo."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tidings.cli.ending import fail

__all__ = ["DEMO_HELP", "demo"]

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
    """Serve the demo."""
    console = Console(highlight=False)
    try:
        from tidings.demo import server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        fail(f"the demo needs {error.name}, which isn't installed: pip install 'tidings[demo]'")

    def ready(address: str, log: Path) -> None:
        console.print(f"\n  [bold]tidings demo[/]  [link={address}]{address}[/link]", soft_wrap=True)
        console.print(f"  [dim]following[/]     {escape(str(log))}", soft_wrap=True)
        console.print("  [dim]Ctrl-C to stop[/]\n")

    try:
        server.serve(host, port, follow=follow, data=data, ready=ready)
    except server.CannotStartError as error:
        fail(str(error))
    except KeyboardInterrupt:
        # The server has already ended its streams; this is uvicorn handing the signal on.
        console.print("  [dim]stopped[/]")
