"""`tidings publish`: lines of standard input, or one text, become events of a channel."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from pydantic_core import from_json

from tidings.broker import Broker
from tidings.broker.draft import check_channel
from tidings.broker.url import file_of
from tidings.cli.broker import BrokerArgument, NamespaceOption, broker_of
from tidings.cli.ending import FAILED, ends_quietly, fail
from tidings.cli.lines import InputError, lines_of
from tidings.errors import TidingsError
from tidings.wire import ServerSentEvent

__all__ = ["PUBLISH_HELP", "publish"]

PUBLISH_HELP = """Publish to a channel: DATA as one event, or each line of standard input as one, the moment it comes.
The id of each event is printed when it is stored.

Nothing that the channel holds is dropped. How much of it is kept, the application says whose broker it is.

[bold]Examples[/]

tidings publish sqlite:///app.db news 'we close in ten minutes'
[dim]one event[/]

tail -f /var/log/syslog | tidings publish sqlite:///app.db log > /dev/null
[dim]each line as it is written; the ids are not needed[/]

tidings publish sqlite:///app.db trams --json --event delay '{"line": 9, "minutes": 5}'
[dim]data that subscribers get decoded, and a name for it[/]

make 2>&1 | tidings publish sqlite:///app.db build/17 --finish
[dim]and say at the end that nothing follows[/]

tidings publish redis://localhost:6379/0 news hello --namespace shop
[dim]to an application on other machines: Broker("redis://…", namespace="shop")[/]

[bold]Exit codes[/]

0  everything is published, or nobody reads the ids any more
1  a line can't be published, or the broker can't be opened or written
2  wrong options
130  Ctrl-C
"""

_AT_ONCE: Final = 500
"""Lines that are on their way to the broker together."""


def publish(
    broker: BrokerArgument,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The name of the channel.")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA | -",
            help="The text of one event. With -, or without it, each line of standard input. "
            "If it begins with a dash, put -- before BROKER.",
            show_default=False,
        ),
    ] = None,
    event: Annotated[str | None, typer.Option(metavar="NAME", help="The name of the events.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The data is JSON, each line by itself; what is none is refused.")
    ] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Finish the channel when all is published.")] = False,
    namespace: NamespaceOption = "tidings",
) -> None:
    """Publish to a channel."""
    with ends_quietly():
        _check(channel, event)
        opened = broker_of(broker, namespace)
        publishing = _Publishing(opened, channel, event, as_json, from_input=data in {None, "-"})
        lines: AsyncIterator[list[bytes]]
        if data is not None and data != "-":
            lines = _only(data.encode(errors="surrogateescape"))
        elif data is None and sys.stdin is not None and sys.stdin.isatty():
            if not finish:
                fail("what is to be published? Give DATA, or pipe lines into this command, or give - to type them")
            lines = _only()
        elif sys.stdin is None:
            fail("standard input is closed: give DATA")
        else:
            lines = lines_of(sys.stdin.fileno())
        file = file_of(broker)
        asyncio.run(publishing.run(lines, finish=finish, made=None if file is None or file.exists() else file))


def _check(channel: str, event: str | None) -> None:
    """See that an event can be made of these, before there is one."""
    try:
        check_channel(channel)
    except ValueError as error:
        fail(str(error).replace("'channel'", "CHANNEL", 1))
    try:
        ServerSentEvent(event=event)
    except ValueError as error:
        fail(f"--event: {error}")


async def _only(*lines: bytes) -> AsyncIterator[list[bytes]]:
    yield list(lines)


@dataclass(slots=True)
class _Publishing:
    """Publishes lines in order, and knows how far it has come."""

    broker: Broker
    channel: str
    event: str | None
    as_json: bool
    from_input: bool
    """Whether it is lines of standard input, or the one DATA."""
    published: int = 0

    async def run(self, lines: AsyncIterator[list[bytes]], *, finish: bool, made: Path | None) -> None:
        try:
            async with self.broker:
                if made is not None:
                    typer.echo(f"tidings: {made} wasn't there, and is made", err=True)
                async for some in lines:
                    await self._publish(some)
                if finish:
                    await self.broker.finish(self.channel)
        except InputError as error:
            self._fail(str(error))
        except TidingsError as error:
            fail(str(error), FAILED)

    async def _publish(self, lines: Sequence[bytes]) -> None:
        contents: list[dict[str, Any]] = []
        wrong: ValueError | None = None
        for line in lines:
            try:
                contents.append(self._read(line))
            except ValueError as error:
                wrong = error
                break
        for start in range(0, len(contents), _AT_ONCE):
            await self._send(contents[start : start + _AT_ONCE])
        if wrong is not None:
            self._fail(str(wrong))

    def _read(self, line: bytes) -> dict[str, Any]:
        """What `Broker.publish` is to be given for this line.

        Raises:
            ValueError: it can't be published; the message says why.
        """
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}") from error
        if not self.as_json:
            return {"raw_data": text}
        try:
            return {"data": from_json(text, allow_inf_nan=False)}
        except ValueError as error:
            # The parser counts lines as well, but of this one.
            raise ValueError(f"is not JSON: {str(error).replace(' at line 1 column ', ' at byte ')}") from error

    async def _send(self, contents: Sequence[dict[str, Any]]) -> None:
        # A storage appends in the order in which it was asked to, and commits many at once sooner than one by one.
        publishes = [self.broker.publish(self.channel, event=self.event, **content) for content in contents]
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        ids = [outcome for outcome in outcomes if isinstance(outcome, str)]
        if ids:
            typer.echo("\n".join(ids))
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, TidingsError):
                self.published += place
                self._fail(f"is not published: {outcome}", later=len(ids) - place)
            if isinstance(outcome, BaseException):
                raise outcome
        self.published += len(contents)

    def _fail(self, why: str, later: int = 0) -> NoReturn:
        if not self.from_input:
            fail(f"DATA {why}", FAILED)
        number = self.published
        before = "nothing is" if not number else "the line before it is" if number == 1 else f"lines 1 to {number} are"
        and_later = f", and so are {later} of the lines after it" if later else ""
        fail(f"line {number + 1} of standard input {why}; {before} published{and_later}", FAILED)
