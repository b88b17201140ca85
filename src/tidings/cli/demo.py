"""`tidings demo`: serves the demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tidings.cli.ending import fail

if TYPE_CHECKING:
    from tidings.demo.settings import Settings

__all__ = ["DEMO_HELP", "demo"]

DEMO_HELP = """Show what tidings is for, on one page in the browser: this machine as moving charts, news for every tab,
workers that are killed while nothing is lost, tasks and a chat that survive a reload, and a log file as it grows.

[bold]Examples[/]

tidings demo
[dim]the page is on http://127.0.0.1:8000, and the log is the demo's own access log[/]

tidings demo --follow /var/log/syslog
[dim]follow a file of your own[/]

tidings demo --workers 4 --broker redis://localhost:6379/0
[dim]four workers, whose channels are in Redis[/]

OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=llama3.2 tidings demo
[dim]let a model answer in the chat[/]

tidings demo --host 0.0.0.0 --port 9000
[dim]let others on the network watch and take part, your log included[/]
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
        typer.Option(metavar="DIR", help="Folder for its files.", show_default="~/.local/state/tidings"),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="How many processes serve the page.", min=1, max=64)] = 2,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A server for the channels, such as redis://localhost:6379/0.",
            show_default="files in that folder",
        ),
    ] = None,
) -> None:
    """Serve the demo."""
    console = Console(highlight=False)
    try:
        from tidings.demo import server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        fail(f"the demo needs {error.name}, which isn't installed: pip install 'tidings[demo]'")

    def ready(address: str, settings: "Settings") -> None:
        console.print(f"\n  [bold]tidings demo[/]  [link={address}]{address}[/link]", soft_wrap=True)
        console.print(f"  [dim]following[/]     {escape(str(settings.log))}", soft_wrap=True)
        console.print("  [dim]Ctrl-C to stop[/]\n")

    try:
        server.serve(host, port, follow=follow, data=data, workers=workers, broker=broker, ready=ready)
    except server.CannotStartError as error:
        fail(str(error))
    except KeyboardInterrupt:
        # The server has already ended its streams.
        console.print("  [dim]stopped[/]")
