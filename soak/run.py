"""One run on one storage: all are started, the hand does its acts, everything comes to rest, and accounts are read."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from soak.answers import AnswersVerdict, judge_answers
from soak.clients import ChannelReader, LeavingReader, Reader, SlowReader, SourceReader
from soak.hand import Done, Hand
from soak.http import Connection
from soak.ledger import Account, Gap, Ledger, Verdict, judge
from soak.processes import RedisServer, Size, Worker
from soak.proxy import Proxy
from soak.publishers import Publisher
from soak.schedule import Kind, schedule
from soak.settings import HISTORY, SLOWLY_READ, WEIGHTS, Settings
from soak.writing import Writing

STORAGES: Final = ("sqlite", "redis")

_SETTLE_TIMEOUT: Final = 90.0
_PUBLISH_TIMEOUT: Final = 30.0

_REST: Final = 3.0
"""Seconds without a change after which a worker counts as having noticed that all are gone."""

_REACTION: Final = 1.0
"""Seconds between an act and the last event before a gap, or the other way round."""

_LINGER: Final = 1.0
"""Seconds after the last event, in which what should not come would come as well."""

_FAULT: Final = re.compile(r"^(?:Traceback|ERROR|CRITICAL).*", flags=re.MULTILINE)

_NO_REDIS: Final = re.compile(
    r"^ERROR: +Traceback(?:(?!^ERROR).)*StorageError: (?:(?!^ERROR).)*^ERROR: +Application startup failed\. Exiting\.",
    flags=re.MULTILINE | re.DOTALL,
)
"""What a worker says that is started while Redis is away. It ends, and is started again."""

_STALLED: Final = re.compile(r"^ERROR: +ASGI callable returned without completing response\.$", flags=re.MULTILINE)
"""What uvicorn says of a client that took nothing for `send_timeout`, as those do whose connection is half-open."""


@dataclass
class Sizes:
    """Of the worker that is never killed: before its first client, before the last leave, and after that."""

    begin: Size
    busy: Size
    end: Size


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        seconds: that publishers published and the hand broke things.
        gaps: the longest that a client saw which stays connected, by the kind of act that may have caused it.
        unsettled: clients that didn't get the last event, or gave up.
        stuck: processes that didn't end when they were told to.
        faults: what workers logged as errors.
    """

    storage: str
    settings: Settings
    seconds: float
    verdict: Verdict
    answers: AnswersVerdict
    done: Sequence[Done]
    gaps: dict[Kind | None, Gap]
    sizes: Sizes
    clients: dict[str, int] = field(default_factory=dict)
    unsettled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        verdict = self.verdict
        wrong = verdict.lost + verdict.doubled + verdict.disordered + verdict.strange
        return bool(wrong or self.answers.wrong or self.unsettled or self.stuck or self.faults)


async def run(storage: str, settings: Settings, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Run it on a storage, in a folder of its own."""
    async with AsyncExitStack() as stack:
        redis = None
        if storage == "redis":
            redis = RedisServer(folder)
            stack.callback(redis.kill)
            await redis.start()
            await redis.wait_until_up()
        url = f"sqlite:///{folder}" if redis is None else redis.url
        workers = [Worker(number, url, folder) for number in range(settings.workers)]
        for worker in workers:
            stack.callback(worker.kill)
            await worker.start()
        for worker in workers:
            await worker.wait_until_up()
        ports = [worker.port for worker in workers]
        proxy = await stack.enter_async_context(Proxy(ports, random.Random(f"proxy of {settings.seed}")))
        outcome = await _Run(storage, settings, workers, redis, proxy, say).run()
        for program in [*workers, *([redis] if redis else [])]:
            await program.close()
            if program.stuck:
                outcome.stuck.append(f"{program.name} {program.stuck} times")
        for worker in workers:
            outcome.faults += [f"{worker.name}: {fault}" for fault in faults_in(worker.log)]
        return outcome


class _Run:
    def __init__(
        self,
        storage: str,
        settings: Settings,
        workers: Sequence[Worker],
        redis: RedisServer | None,
        proxy: Proxy,
        say: Callable[[str], None],
    ) -> None:
        self.storage = storage
        self.settings = settings
        self.workers = workers
        self.ports = [worker.port for worker in workers]
        self.redis = redis
        self.proxy = proxy
        self.say = say
        self.ledgers = {log: Ledger(history) for log, history in HISTORY.items()}
        rate = settings.rate / settings.publishers
        self.publishers = [
            Publisher(f"p{number}", self.ledgers, self.ports, rate, self.chance(f"publisher {number}"))
            for number in range(settings.publishers)
        ]
        self.plain: list[ChannelReader] = []
        self.sources: list[SourceReader] = []
        self.writing = Writing(self.ports, self.chance("writing"))

    def chance(self, whose: str) -> random.Random:
        """A stream of chance for each, so that who comes first makes no difference to the others."""
        return random.Random(f"{whose} of {self.settings.seed}")

    async def run(self) -> Outcome:
        settings = self.settings
        survivor = self.workers[0]
        begin = survivor.size()
        await self._make_clients()
        hand = Hand(self.workers, self.redis, self.proxy, self._breakable, self.chance("hand"))
        acts = schedule(settings, redis=self.redis is not None)
        self.say(f"{self.storage}: {len(self.accounts)} clients, {len(acts)} acts in {settings.seconds:.0f} s")
        started = time.monotonic()
        # A group: if somebody here fails, and not what is tested, all end at once and it is seen.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.run()) for client in self._clients()]
            publishing = [group.create_task(publisher.run()) for publisher in self.publishers]
            writing = group.create_task(self.writing.run())
            await hand.run(acts, settings.seconds)
            busy = survivor.size()
            published_until = time.monotonic()
            goals, unsettled = await self._settle(publishing, writing)
            for task in (*tasks, writing):
                task.cancel()
        end = await self._size_at_rest(survivor, begin.descriptors)
        verdict = Verdict()
        for log, ledger in self.ledgers.items():
            judge(ledger, [account for account in self.accounts if account.ledger is ledger], goals[log], verdict)
        kinds = Counter(account.kind for account in self.accounts)
        return Outcome(
            storage=self.storage,
            settings=settings,
            seconds=published_until - started,
            clients=dict(kinds),
            verdict=verdict,
            answers=judge_answers(self.writing.answers),
            done=hand.done,
            gaps=longest_gaps(self.accounts, hand.done, started, published_until),
            sizes=Sizes(begin, busy, end),
            unsettled=unsettled,
        )

    @property
    def accounts(self) -> list[Account]:
        return [client.account for client in self._clients()]

    def _clients(self) -> list[ChannelReader | SourceReader]:
        return [*self.plain, *self.sources]

    def _breakable(self) -> Iterable[Reader]:
        yield from (reader for reader in self.plain if not isinstance(reader, SlowReader))
        yield from self.writing.readers

    # -- clients ------------------------------------------------------------------------------------------------------

    async def _make_clients(self) -> None:
        settings = self.settings
        positions = {log: await self._position(log) for log in HISTORY}
        for number in range(settings.readers):
            self._add_plain(ChannelReader, "reader", number, *self._channels(number), positions)
        for number in range(settings.leaving):
            self._add_plain(LeavingReader, "leaving", number, *self._channels(number), positions)
        for number in range(settings.slow):
            log, channel = sorted(SLOWLY_READ)[number % len(SLOWLY_READ)]
            self._add_plain(SlowReader, "slow", number, log, [channel], positions)
        for number in range(settings.sources):
            log, channels = self._channels(number)
            account, chance, position = self._account("source", number, log, channels, positions)
            url = f"http://127.0.0.1:{self.proxy.port}{target_of(log, channels)}"
            self.sources.append(SourceReader(account, url, chance, position))

    def _add_plain(
        self,
        made: type[ChannelReader],
        kind: str,
        number: int,
        log: str,
        channels: Sequence[str],
        positions: Mapping[str, str],
    ) -> None:
        account, chance, position = self._account(kind, number, log, channels, positions)
        self.plain.append(made(account, self.ports, target_of(log, channels), chance, position))

    def _account(
        self, kind: str, number: int, log: str, channels: Sequence[str], positions: Mapping[str, str]
    ) -> tuple[Account, random.Random, str]:
        name = f"{kind} {number}"
        # Three of four have an id from the beginning; the others begin with what comes, as a page does.
        position = positions[log] if number % 4 else ""
        return Account(name, kind, self.ledgers[log], channels, position), self.chance(name), position

    def _channels(self, number: int) -> tuple[str, list[str]]:
        """Few of the busy one, the others of one or two that are quiet."""
        if number % 8 == 0:
            return "main", ["busy"]
        quiet = [channel for log, channel in WEIGHTS if (log, channel) not in SLOWLY_READ]
        return "main", self.chance(f"channels {number}").sample(quiet, 1 + number % 2)

    async def _position(self, log: str) -> str:
        connection = await Connection.open(self.ports[0])
        try:
            status, position = await connection.ask("GET", f"/logs/{log}/position")
        finally:
            connection.close()
        assert status == 200, position
        return str(position)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _settle(
        self, publishing: Sequence[asyncio.Task[None]], writing: asyncio.Task[None]
    ) -> tuple[dict[str, dict[str, int]], list[str]]:
        """Nothing is broken any more: until everybody has everything, and the last event that each waits for."""
        self.say(f"{self.storage}: nothing is broken any more")
        for client in self._clients():
            client.settling = True
        for publisher in self.publishers:
            publisher.stopped = True
        self.writing.stopped = True
        await asyncio.wait(publishing)
        goals, missing = await self._publish_ends()
        waiting = self.accounts
        end = time.monotonic() + _SETTLE_TIMEOUT
        while waiting and time.monotonic() < end:
            await asyncio.sleep(0.1)
            waiting = [account for account in waiting if not account.has_all(goals[_log_of(account, self.ledgers)])]
        unsettled = missing + [f"{account.name}: {account.gave_up or 'it waits'}" for account in waiting]
        await asyncio.wait([writing], timeout=max(_SETTLE_TIMEOUT / 3, end - time.monotonic()))
        await asyncio.sleep(_LINGER)
        return goals, unsettled

    async def _publish_ends(self) -> tuple[dict[str, dict[str, int]], list[str]]:
        """An event to each channel, the last one: their sequences, and the channels that took none."""
        goals: dict[str, dict[str, int]] = {log: {} for log in HISTORY}
        missing: list[str] = []
        publisher = Publisher("end", self.ledgers, self.ports, 1.0, self.chance("end"))
        end = time.monotonic() + _PUBLISH_TIMEOUT
        for log, channel in WEIGHTS:
            while (sequence := await publisher.publish(log, channel)) is None and time.monotonic() < end:
                await asyncio.sleep(0.2)
            if sequence is None:
                missing.append(f"{channel}: the last event couldn't be published")
                sequence = max((each.sequence or 0 for each in self.ledgers[log].stored()[channel]), default=0)
            goals[log][channel] = sequence
        publisher.leave()
        return goals, missing

    @staticmethod
    async def _size_at_rest(worker: Worker, descriptors: int) -> Size:
        """When it has noticed that all are gone: it has no more descriptors than before, or closes no more of them."""
        unchanged_since, size = time.monotonic(), worker.size()
        while size.descriptors > descriptors and time.monotonic() - unchanged_since < _REST:
            await asyncio.sleep(0.5)
            now = worker.size()
            if now.descriptors != size.descriptors:
                unchanged_since = time.monotonic()
            size = now
        return worker.size()


def faults_in(log: str) -> list[str]:
    """The first lines of what a worker logged as an error."""
    return _FAULT.findall(_STALLED.sub("", _NO_REDIS.sub("", log)))


def target_of(log: str, channels: Sequence[str]) -> str:
    return f"/logs/{log}?{urlencode([('channel', channel) for channel in channels])}"


def _log_of(account: Account, ledgers: Mapping[str, Ledger]) -> str:
    return next(log for log, ledger in ledgers.items() if ledger is account.ledger)


def longest_gaps(accounts: Iterable[Account], done: Sequence[Done], begin: float, end: float) -> dict[Kind | None, Gap]:
    """The longest gap of those who stay connected, for each kind of act that may have caused it."""
    longest: dict[Kind | None, Gap] = {}
    for account in accounts:
        if account.kind not in {"reader", "source"}:
            continue
        for gap in account.gaps:
            if gap.begin < begin or gap.end > end:
                continue
            kind = cause_of(gap, done)
            if kind not in longest or gap.seconds > longest[kind].seconds:
                longest[kind] = gap
    return longest


def cause_of(gap: Gap, done: Iterable[Done]) -> Kind | None:
    """The act that was being done when the gap began: the one that began nearest to it, if there are several."""
    acts = [act for act in done if act.begin <= gap.begin + _REACTION and act.end >= gap.begin - _REACTION]
    nearest = min(acts, key=lambda act: abs(act.begin - gap.begin), default=None)
    return None if nearest is None else nearest.kind
