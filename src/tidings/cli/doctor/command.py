"""The command `tidings doctor`."""

import re
from typing import Annotated, Final

import anyio
import typer
from rich.console import Console

from tidings.cli.doctor.finding import Finding, Level
from tidings.cli.ending import FAILED, ends_quietly, fail
from tidings.cli.request import DataOption, HeaderOption, MethodOption, UrlArgument, read_request, require_client

__all__ = ["DOCTOR_HELP", "doctor"]

DOCTOR_HELP = """Measure whether something between here and a stream buffers, compresses or cuts it; check its headers,
its bytes and whether it can be resumed; say what to change.

It connects once and watches, and a second time with the id of an event. With -d, the body is sent twice.

[bold]Examples[/]

tidings doctor https://example.com/departures

tidings doctor https://example.com/departures --origin https://app.example.com --seconds 70
[dim]may pages of that origin read it, and does it outlive a silence of a minute?[/]

tidings doctor https://example.com/chat -H 'Authorization: Bearer …' -d '{"question": "Who?"}' --json
[dim]a stream that is asked for with POST; the findings as JSON[/]

[bold]Exit codes[/]

0  no problems (there may be warnings)
1  a problem
2  wrong options
3  no answer
"""

UNREACHABLE: Final = 3

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")


def doctor(
    url: UrlArgument,
    seconds: Annotated[float, typer.Option(metavar="N", help="How long to watch the stream.", min=0.5, max=3600)] = 20,
    origin: Annotated[
        str | None, typer.Option(metavar="ORIGIN", help="Check that pages of this origin may read it (CORS).")
    ] = None,
    header: HeaderOption = None,
    method: MethodOption = None,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Measure a stream."""
    require_client("tidings doctor")
    from tidings.cli.doctor import report  # noqa: PLC0415 - so that a missing extra can be named
    from tidings.cli.doctor.judging import judge  # noqa: PLC0415
    from tidings.cli.doctor.measure import measure  # noqa: PLC0415
    from tidings.client.http import shown  # noqa: PLC0415

    with ends_quietly():
        if origin is not None and not _ORIGIN.fullmatch(origin):
            fail(f"--origin takes a scheme and a host, such as https://app.example.com, not {origin!r}")
        request = read_request(url, header, method, data)
        with Console(stderr=True).status(f"Watching the stream for {seconds:g} s …"):
            record = anyio.run(measure, request, seconds, origin)
        findings = judge(record)
        if as_json:
            typer.echo(report.as_json(shown(url), seconds, findings))
        else:
            report.print_report(shown(url), findings, Console(highlight=False))
    raise typer.Exit(_exit_code(record.first.unreachable is not None, findings))


def _exit_code(unreachable: bool, findings: list[Finding]) -> int:
    if unreachable:
        return UNREACHABLE
    return FAILED if any(finding.level is Level.PROBLEM for finding in findings) else 0
