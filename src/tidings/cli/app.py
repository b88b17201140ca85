"""The commands, gathered."""

from typing import Annotated

import typer

from tidings import __version__
from tidings.cli.channels import CHANNELS_HELP, channels
from tidings.cli.demo import DEMO_HELP, demo
from tidings.cli.doctor.command import DOCTOR_HELP, doctor
from tidings.cli.publish import PUBLISH_HELP, publish
from tidings.cli.tail import TAIL_HELP, tail

__all__ = ["app"]

app = typer.Typer(
    name="tidings",
    help="Server-sent events for Python web applications.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"tidings {__version__}")
        raise typer.Exit


@app.callback()
def _tidings(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command(help=DEMO_HELP)(demo)
app.command(help=TAIL_HELP)(tail)
app.command(help=PUBLISH_HELP)(publish)
app.command(help=CHANNELS_HELP)(channels)
app.command(help=DOCTOR_HELP)(doctor)
