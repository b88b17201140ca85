"""`tidings tail`: follows a stream in the terminal."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from tidings.cli.ending import FAILED, ends_quietly, fail
from tidings.cli.request import DataOption, HeaderOption, MethodOption, UrlArgument, read_request, require_client
from tidings.cli.terminal import harmless
from tidings.errors import TidingsError
from tidings.wire import ReceivedEvent

if TYPE_CHECKING:
    from tidings.client import AsyncEventSource

__all__ = ["TAIL_HELP", "tail"]

TAIL_HELP = """Follow a stream: print each event as it comes, connect again when the connection is lost, and resume.

A terminal shows the name, the id and the data of each event. A pipe or file gets the data alone, a line each, or with
--json one object per line.

[bold]Examples[/]

tidings tail https://example.com/departures

tidings tail https://example.com/departures --event delayed --json | jq -r .data
[dim]the events of one name, for another program[/]

tidings tail https://example.com/departures --last-event-id earliest -n 10
[dim]the first ten that a channel still has[/]

tidings tail https://example.com/chat -H 'Authorization: Bearer …' -d '{"question": "Who?"}'
[dim]a stream that is asked for with POST[/]

[bold]Exit codes[/]

0    the server said that there is no more (204), -n events came, or nobody reads the output any more
1    no stream, or no connection ten times in a row
2    wrong options
130  Ctrl-C
"""

Show = Callable[[ReceivedEvent], None]


def tail(
    url: UrlArgument,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Print only events of this name; may be given several times."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("-n", "--count", metavar="COUNT", help="Stop after so many events.", min=1)
    ] = None,
    last_event_id: Annotated[str | None, typer.Option(metavar="ID", help="Go on after the event with this id.")] = None,
    header: HeaderOption = None,
    method: MethodOption = None,
    data: DataOption = None,
    read_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Connect again after so long without a byte.", min=0.1, show_default="never"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object with event, data and id per line. The data is a string.")
    ] = False,
) -> None:
    """Follow a stream."""
    require_client("tidings tail")
    from tidings.client import AsyncEventSource  # noqa: PLC0415 - so that a missing extra can be named

    with ends_quietly():
        request = read_request(url, header, method, data)
        if sys.stdout is None:
            fail("standard output is closed: there is nowhere to print to")
        try:
            source = AsyncEventSource(
                request.url,
                method=request.method,
                headers=request.headers,
                content=request.content,
                last_event_id=last_event_id,
                read_timeout=read_timeout,
                on_reconnect=_say_why,
            )
        except ValueError as error:
            fail(str(error))
        asyncio.run(_follow(source, _printer(as_json), frozenset(event or ()), count))


async def _follow(source: "AsyncEventSource", show: Show, names: frozenset[str], count: int | None) -> None:
    import httpx2  # noqa: PLC0415

    shown = 0
    try:
        with _notices_a_closed_pipe():
            async with source:
                async for event in source:
                    if names and event.event not in names:
                        continue
                    show(event)
                    shown += 1
                    if shown == count:
                        return
    except TidingsError as error:
        fail(harmless(str(error)), FAILED)
    except httpx2.HTTPError as error:  # such as a redirect without end
        fail(harmless(str(error)), FAILED)


def _say_why(error: Exception | None, delay: float) -> None:
    text = "the stream ended" if error is None else f"lost the connection ({str(error) or type(error).__name__})"
    Console(stderr=True).print(Text(harmless(f"tidings: {text}; again in {delay:.1f} s"), "yellow"), soft_wrap=True)


# -- printing ---------------------------------------------------------------------------------------------------------


def _printer(as_json: bool) -> Show:
    """How to write an event. Each is written at once, into a pipe as well."""
    if sys.stdout.isatty():
        return _json_for_terminals if as_json else _ForTerminals()
    return _json_for_programs if as_json else _data_for_programs


class _ForTerminals:
    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._highlight = JSONHighlighter()

    def __call__(self, event: ReceivedEvent) -> None:
        line = Text.assemble((harmless(event.event), "bold cyan"), " ")
        if event.id:
            line.append(f"{harmless(event.id)} ", "dim")
        data = Text(harmless(event.data))
        if _is_json(event):
            self._highlight.highlight(data)
        self._console.print(line + data, soft_wrap=True)


def _json_for_terminals(event: ReceivedEvent) -> None:
    _write(harmless(_as_json(event)))


def _json_for_programs(event: ReceivedEvent) -> None:
    _write(_as_json(event))


def _data_for_programs(event: ReceivedEvent) -> None:
    _write(event.data)


def _write(line: str) -> None:
    # What was sent is UTF-8, whatever this machine's locale is.
    sys.stdout.buffer.write(f"{line}\n".encode())
    sys.stdout.buffer.flush()


def _as_json(event: ReceivedEvent) -> str:
    return json.dumps({"event": event.event, "data": event.data, "id": event.id}, ensure_ascii=False)


def _is_json(event: ReceivedEvent) -> bool:
    try:
        event.json()
    except ValueError:
        return False
    return True


@contextmanager
def _notices_a_closed_pipe() -> Iterator[None]:
    """Raise `BrokenPipeError` when the reader of the output has gone, also while there is nothing to write.

    Otherwise `tidings tail … | head -1` would hang until the second event.
    """
    output = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        loop.remove_reader(output)
        task.cancel()

    # Nobody can read from this end of a pipe: the loop reports it only when the other end is closed.
    loop.add_reader(output, leave)
    try:
        yield
    except asyncio.CancelledError:
        if gone:
            raise BrokenPipeError from None
        raise
    finally:
        loop.remove_reader(output)
