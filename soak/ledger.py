"""The accounting: what was published, what each client saw, and what follows from the two. No input or output.

An event counts as stored when its publish was acknowledged, or when any client saw it. Each client has to see every
stored event of its channels, from its subscription on, once and in the order of the ids. Two things are excused: what
came before a client had an id to resume from, and what a `reset` told of, if the window had really gone past it.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

GRACE: Final = 5.0
"""Seconds that the news of a stored event may take to come here, when it is judged what a log had dropped by then."""

NOTABLE_GAP: Final = 0.5
"""Seconds between two events from which on a gap is noted."""

_EXAMPLES: Final = 20


def epoch_and_sequence(event_id: str) -> tuple[str, int]:
    epoch, _, sequence = event_id.rpartition("-")
    return epoch, int(sequence)


@dataclass(slots=True)
class Publication:
    """An event that somebody tried to publish.

    Attributes:
        sent: when its publisher began.
        known: when it was known to be stored.
    """

    key: str
    channel: str
    sent: float
    sequence: int | None = None
    known: float = 0.0
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """What is between `after` and `position` may have been missed."""

    after: int
    position: int
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Gap:
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


class Ledger:
    """What was published into one log.

    Args:
        history: events that it retains of a channel, at least.

    Attributes:
        strange: what can't be: an id that stands for two events, an event that nobody published.
        doubled: events that are stored twice.
    """

    def __init__(self, history: int) -> None:
        self.history = history
        self.publications: dict[str, Publication] = {}
        self.strange: list[str] = []
        self.doubled: list[str] = []
        self._keys: dict[int, str] = {}
        self._epoch: str | None = None

    def sending(self, key: str, channel: str, at: float) -> None:
        self.publications[key] = Publication(key, channel, at)

    def acknowledged(self, key: str, event_id: str, at: float) -> None:
        sequence = self._stored(key, event_id, at)
        if sequence is not None:
            self.publications[key].acknowledged = True

    def seen(self, key: str, channel: str, event_id: str, at: float) -> None:
        """A client was sent it."""
        publication = self.publications.get(key)
        if publication is not None and publication.channel != channel:
            self.strange.append(f"{event_id}: {key} was published to {publication.channel}, and came in {channel}")
        self._stored(key, event_id, at)

    def _stored(self, key: str, event_id: str, at: float) -> int | None:
        epoch, sequence = epoch_and_sequence(event_id)
        if self._epoch is None:
            self._epoch = epoch
        if epoch != self._epoch:
            self.strange.append(f"{event_id}: the epoch was {self._epoch}")
            return None
        publication = self.publications.get(key)
        if publication is None:
            self.strange.append(f"{event_id}: nobody published {key}")
            return None
        if self._keys.setdefault(sequence, key) != key:
            self.strange.append(f"{event_id}: stands for {self._keys[sequence]} and {key}")
            return None
        if publication.sequence is None:
            publication.sequence = sequence
            publication.known = at
        elif publication.sequence != sequence:
            self.doubled.append(f"{key} is stored as {publication.sequence} and as {sequence}")
            return None
        return sequence

    def stored(self) -> dict[str, list[Publication]]:
        """What is known to be stored, by channel, in the order of the ids."""
        channels: defaultdict[str, list[Publication]] = defaultdict(list)
        for _, key in sorted(self._keys.items()):
            channels[self.publications[key].channel].append(self.publications[key])
        return channels


class Account:
    """What one client saw of some channels of a log.

    Args:
        name: for messages.
        kind: of client.
        position: the id with which it subscribes; "": it begins with what comes.
    """

    def __init__(self, name: str, kind: str, ledger: Ledger, channels: Sequence[str], position: str = "") -> None:
        self.name = name
        self.kind = kind
        self.ledger = ledger
        self.channels = channels
        self.begin = epoch_and_sequence(position)[1] if position else None
        self.opened_at: float | None = None
        self.connections = 0
        self.sequences = array("q")
        self.latest: dict[str, int] = {}
        self.resets: list[Reset] = []
        self.gaps: list[Gap] = []
        self.gave_up: str | None = None
        self._last_at: float | None = None

    def opened(self, last_event_id: str, at: float) -> None:
        """A response has begun, for a request with this id."""
        self.connections += 1
        if not last_event_id:
            self.opened_at = at

    def received(self, event_id: str, channel: str, key: str, at: float) -> None:
        self.ledger.seen(key, channel, event_id, at)
        if channel not in self.channels:
            self.ledger.strange.append(f"{event_id}: {self.name} didn't subscribe to {channel}")
        sequence = epoch_and_sequence(event_id)[1]
        self.sequences.append(sequence)
        self.latest[channel] = max(sequence, self.latest.get(channel, 0))
        if self._last_at is not None and at - self._last_at >= NOTABLE_GAP:
            self.gaps.append(Gap(self._last_at, at))
        self._last_at = at

    def was_reset(self, event_id: str, reason: str, at: float) -> None:
        after = max([self.begin or 0, *self.latest.values(), *(reset.position for reset in self.resets)])
        self.resets.append(Reset(after, epoch_and_sequence(event_id)[1], at, reason))

    def has_all(self, goals: Mapping[str, int]) -> bool:
        """Whether it saw the last event of each of its channels."""
        return all(self.latest.get(channel, -1) >= goals[channel] for channel in self.channels)


@dataclass
class Verdict:
    """
    Attributes:
        acknowledged: events whose publisher was told that they are stored.
        unacknowledged: events whose publisher was told something else, or nothing; `stored` of them are.
        delivered: events that clients were sent.
        lost, doubled, disordered: of these, summed over all clients.
        strange: what can't be.
        resets: by the kind of client.
        examples: of what went wrong.
    """

    acknowledged: int = 0
    unacknowledged: int = 0
    stored: int = 0
    delivered: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    strange: int = 0
    resets: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, example: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)


def judge(ledger: Ledger, accounts: Iterable[Account], goals: Mapping[str, int], verdict: Verdict) -> None:
    """Add what became of the events of a log to a verdict.

    Args:
        goals: by channel, the sequence of the last event that clients waited for.
    """
    verdict.doubled += len(ledger.doubled)
    verdict.strange += len(ledger.strange)
    for example in [*ledger.doubled, *ledger.strange]:
        verdict.note(example)
    for publication in ledger.publications.values():
        if publication.acknowledged:
            verdict.acknowledged += 1
        else:
            verdict.unacknowledged += 1
            verdict.stored += publication.sequence is not None
    stored = ledger.stored()
    for account in accounts:
        verdict.delivered += len(account.sequences)
        verdict.connections += account.connections
        verdict.resets[account.kind] += len(account.resets)
        _judge_order(account, verdict)
        for channel in account.channels:
            _judge_losses(account, channel, stored.get(channel, []), goals[channel], verdict)


def _judge_order(account: Account, verdict: Verdict) -> None:
    seen: set[int] = set()
    latest = -1
    for sequence in account.sequences:
        if sequence in seen:
            verdict.doubled += 1
            verdict.note(f"{account.name} saw {sequence} twice")
        elif sequence < latest:
            verdict.disordered += 1
            verdict.note(f"{account.name} saw {sequence} behind {latest}")
        seen.add(sequence)
        latest = max(latest, sequence)


def _judge_losses(account: Account, channel: str, stored: Sequence[Publication], goal: int, verdict: Verdict) -> None:
    seen = set(account.sequences)
    begin = account.begin
    if begin is None and account.sequences:
        begin = min(account.sequences)
    droppable = [(reset, _dropped_by(reset, stored, account.ledger.history)) for reset in account.resets]
    for publication in stored:
        sequence = publication.sequence
        assert sequence is not None
        if sequence in seen or sequence > goal or not _is_due(account, begin, publication, sequence):
            continue
        if any(reset.after < sequence <= min(reset.position, dropped) for reset, dropped in droppable):
            continue
        verdict.lost += 1
        verdict.note(f"{account.name} didn't see {sequence} ({publication.key}, in {channel})")


def _is_due(account: Account, begin: int | None, publication: Publication, sequence: int) -> bool:
    if begin is not None and sequence > begin:
        return True
    return account.begin is None and account.opened_at is not None and publication.sent > account.opened_at


def _dropped_by(reset: Reset, stored: Sequence[Publication], history: int) -> int:
    """The newest sequence of the channel that the log may have dropped by then."""
    if reset.reason != "trimmed":
        return -1
    by_then = [publication for publication in stored if publication.known <= reset.at + GRACE]
    newest = by_then[-history - 1].sequence if len(by_then) > history else None
    return -1 if newest is None else newest
