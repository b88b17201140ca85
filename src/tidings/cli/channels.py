"""`tidings channels`: what there is in a broker."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tidings.broker import Broker, ChannelInfo
from tidings.broker.url import file_of
from tidings.cli.broker import BrokerArgument, NamespaceOption, broker_of
from tidings.cli.ending import FAILED, ends_quietly, fail
from tidings.cli.terminal import harmless
from tidings.errors import TidingsError

__all__ = ["CHANNELS_HELP", "channels"]

CHANNELS_HELP = """List the channels of a broker: how many events each holds, since when, and how many come in a second.

It shows what is stored, which may be a little more than the application shows: events go once they are too many or too
old for it, many at a time. The rate is counted over one second, however little is kept.

[bold]Examples[/]

tidings channels sqlite:///app.db
[dim]the first 100, by name[/]

tidings channels sqlite:////var/lib/app.db --watch
[dim]redrawn each second until Ctrl-C[/]

tidings channels sqlite:///app.db --limit 100000 --json | jq 'select(.rate > 10)'
[dim]an object for each channel, ids and times included[/]

tidings channels redis://localhost:6379/0
[dim]on Redis or Valkey; --namespace if the application's broker has one[/]

[bold]Exit codes[/]

0  the channels are listed, or nobody reads the list any more
1  there is no such file, or the broker can't be read
2  wrong options
130  Ctrl-C
"""

_INTERVAL: Final = 1.0
"""Seconds between two looks."""

_WIDEST: Final = 100_000
"""Characters: no table is as wide."""


def channels(
    broker: BrokerArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking, each second.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object for each channel, on a line.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", help="Channels to list at the most.", min=1)] = 100,
    namespace: NamespaceOption = "tidings",
) -> None:
    """List channels."""
    with ends_quietly():
        opened = broker_of(broker, namespace)
        file = file_of(broker)
        if file is not None and not file.exists():
            fail(f"there is no file {file}: give the URL that the application gives its broker", FAILED)
        try:
            asyncio.run(_run(opened, limit, watch, as_json))
        except TidingsError as error:
            fail(str(error), FAILED)


async def _run(broker: Broker, limit: int, watch: bool, as_json: bool) -> None:
    console = Console(highlight=False)
    async with broker:
        before = await _look(broker, limit)
        if watch and console.is_terminal and not as_json:
            await _redraw(console, broker, limit, before)
        while True:
            await asyncio.sleep(_INTERVAL)
            look = await _look(broker, limit)
            if as_json:
                typer.echo(_as_json(look, before), nl=False)
            elif console.is_terminal:
                console.print(_table_for(console, look, before))
            else:
                typer.echo(_as_text(look, before), nl=False)
            if not watch:
                break
            before = look
    if look.more:
        typer.echo(f"tidings: there are more than these {limit} channels; --limit N lists more", err=True)


async def _redraw(console: Console, broker: Broker, limit: int, look: Look) -> NoReturn:
    before = look
    with Live(console=console, auto_refresh=False) as live:
        while True:
            rows = max(1, console.height - 3)  # what doesn't fit could not be redrawn
            table = _table_for(console, look, before, rows)
            if look.more or len(look.channels) > rows:
                table.caption = "there are more channels; --limit N lists more without --watch"
            live.update(table, refresh=True)
            await asyncio.sleep(_INTERVAL)
            before, look = look, await _look(broker, limit)


# -- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """What there was at a moment."""

    at: float
    """Seconds of a clock that only goes on."""
    channels: dict[str, ChannelInfo]
    """The first ones by name, in the order of their names."""
    more: bool
    """Whether there were more."""

    def rate(self, channel: ChannelInfo, before: Look) -> float | None:
        """Events that a channel was given in a second, since a look before this one; None if that isn't known."""
        seconds = self.at - before.at
        then = before.channels.get(channel.name)
        if not seconds or (then is None and before.more and channel.name > next(reversed(before.channels))):
            return None  # it was not looked at
        # One that wasn't there, or was forgotten meanwhile, has begun to count since.
        counted = 0 if then is None or then.published > channel.published else then.published
        return (channel.published - counted) / seconds


async def _look(broker: Broker, limit: int) -> Look:
    at = time.monotonic()
    found = await broker.channels(limit=limit + 1)
    return Look(at, {channel.name: channel for channel in found[:limit]}, len(found) > limit)


# -- showing ----------------------------------------------------------------------------------------------------------


def _as_json(look: Look, before: Look) -> str:
    return "".join(
        json.dumps(
            {
                "channel": channel.name,
                "events": channel.events,
                "bytes": channel.size,
                "oldest": _moment(channel.oldest_id, channel.oldest_at),
                "newest": _moment(channel.newest_id, channel.newest_at),
                "finished": channel.finished,
                "published": channel.published,
                "rate": look.rate(channel, before),
            }
        )
        + "\n"
        for channel in look.channels.values()
    )


def _moment(id: str | None, at: datetime | None) -> dict[str, str] | None:
    return None if id is None or at is None else {"id": id, "time": at.isoformat()}


def _as_text(look: Look, before: Look) -> str:
    """The table as wide as it needs to be, for files and other programs."""
    table = _table(look, before, ids=True)
    console = Console(highlight=False, width=_WIDEST)
    console.width = console.measure(table).maximum
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _table_for(console: Console, look: Look, before: Look, rows: int | None = None) -> Table:
    """The table with the ids if there is room for them."""
    table = _table(look, before, rows, ids=True)
    wide = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum > console.width
    return _table(look, before, rows, ids=False) if wide else table


def _table(look: Look, before: Look, rows: int | None = None, *, ids: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("channel", overflow="fold")
    for heading in ("events", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("oldest", "newest"):
        table.add_column(heading, justify="right", no_wrap=True)
        if ids:
            table.add_column("id", no_wrap=True, style="dim")
    table.add_column("events/s", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    now = time.time()
    for channel in islice(look.channels.values(), rows):
        row: list[str | Text] = [Text(harmless(channel.name)), f"{channel.events:,}", decimal(channel.size)]
        for id, at in ((channel.oldest_id, channel.oldest_at), (channel.newest_id, channel.newest_at)):
            row.append("" if at is None else _age(now - at.timestamp()))
            if ids:
                row.append(id or "")
        rate = look.rate(channel, before)
        row.append("" if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}")
        row.append("finished" if channel.finished else "")
        table.add_row(*row)
    return table


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
