"""A reconnect storm, simulated: many clients lose their server at once, and what is left takes them in.

Time is a number here, and nothing waits. The clients of `tidings` are the real ones: each is driven by
`tidings.client.reconnect`, as a connection would drive it. Browsers are as WHATWG HTML §9.2 has them, with the three
seconds that Chromium waits until a stream says otherwise, and no backoff.

What is left is a queue: it takes in so many connections a second; so many may wait, and what comes beyond that is
refused; a client that has waited too long has left, which the server finds out only when it has done the work.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tidings.client.reconnect import Answer, Head, Lost, Position, Step, Wait, reconnecting

__all__ = ["CLIENTS", "Outcome", "Storm", "simulate"]

BROWSER_RETRY = 3.0
"""Seconds that Chromium waits, as long as no `retry:` was sent."""

SHUTDOWN_RETRY = (1.0, 10.0)
"""Seconds of the `retry:` that `tidings` sends to each stream when a server is told to stop."""


@dataclass(frozen=True)
class Storm:
    """Who comes, and who is there to take them in.

    Attributes:
        clients: that lose their connection at the same moment.
        opens_per_s: connections that what is left takes in each second.
        queue: connections that may wait for that.
        patience: seconds after which a client gives an attempt up; a proxy often does after 60.
        longest: seconds after which the simulation ends, whoever is still without a stream.
    """

    clients: int
    opens_per_s: float
    queue: int
    patience: float = 60.0
    longest: float = 3_600.0
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        connected: share of the clients that have a stream at the end.
        median_s: seconds until half of them had one; None if they never had.
        last_s: the same of 99 in 100.
        busiest: attempts in the busiest second.
        attempts: of each client, on average.
        in_vain: share of the server's work that was for clients which had left.
        attempts_by_second: how many came in each second from the loss on.
        connected_by_second: how many had a stream at the end of each.
    """

    connected: float
    median_s: float | None
    last_s: float | None
    busiest: int
    attempts: float
    in_vain: float
    attempts_by_second: list[int]
    connected_by_second: list[int]


class Clock:
    """The simulated time, in seconds since the loss."""

    def __init__(self) -> None:
        self.now = 0.0


Delays = Iterator[float]
"""Of one client: the seconds until its first attempt, and then after each failure until the next."""


def browser(_clock: Clock, _chance: random.Random) -> Delays:
    """Nobody told it anything: all wait just as long."""
    while True:
        yield BROWSER_RETRY


def browser_that_was_told(_clock: Clock, chance: random.Random) -> Delays:
    """Its server was stopped in good order, and sent each stream a `retry:` of its own before."""
    retry = chance.uniform(*SHUTDOWN_RETRY)
    while True:
        yield retry


def tidings_client(clock: Clock, chance: random.Random) -> Delays:
    """The library's own, whose server was killed: it waits longer with each failure, and no two wait as long."""
    steps = reconnecting(
        Position("", 1.0),
        url="http://server.example/",
        max_attempts=None,
        max_event_size=1 << 20,
        clock=lambda: clock.now,
        random=chance.random,
    )
    next(steps)
    steps.send(Head(200, "text/event-stream"))
    next(steps)  # it was reading when the connection broke
    answer: Answer = Lost(ConnectionResetError())
    while True:
        steps.send(answer)
        step: Step = next(steps)
        while isinstance(step, Wait):
            yield step.seconds
            step = next(steps)
        answer = Lost(ConnectionRefusedError())


CLIENTS: dict[str, Callable[[Clock, random.Random], Delays]] = {
    "browsers, 3 s": browser,
    "browsers, told 1 to 10 s": browser_that_was_told,
    "tidings.client, from 1 to 1.5 s": tidings_client,
}


def simulate(storm: Storm, kind: Callable[[Clock, random.Random], Delays]) -> Outcome:
    """Run a storm to its end."""
    clock = Clock()
    chance = random.Random(storm.seed)
    clients = [kind(clock, chance) for _ in range(storm.clients)]
    due = [(next(delays), index) for index, delays in enumerate(clients)]
    heapq.heapify(due)
    work = 1.0 / storm.opens_per_s
    free_at = 0.0
    attempts: Counter[int] = Counter()
    connected: list[float] = []
    served = 0
    while due and due[0][0] < storm.longest:
        clock.now, index = heapq.heappop(due)
        attempts[int(clock.now)] += 1
        failed_at = clock.now
        if (free_at - clock.now) * storm.opens_per_s < storm.queue:
            free_at = max(free_at, clock.now) + work
            served += 1
            if free_at - clock.now <= storm.patience:
                connected.append(free_at)
                continue
            failed_at += storm.patience
        clock.now = failed_at
        heapq.heappush(due, (failed_at + next(clients[index]), index))
    connected.sort()
    return _outcome(storm, attempts, connected, served)


def _outcome(storm: Storm, attempts: Counter[int], connected: list[float], served: int) -> Outcome:
    seconds = int(max([*attempts, *connected[-1:]], default=0)) + 1
    in_second = Counter(int(at) for at in connected)
    with_stream = [0]
    for second in range(seconds):
        with_stream.append(with_stream[-1] + in_second[second])
    return Outcome(
        connected=len(connected) / storm.clients,
        median_s=_until(connected, storm.clients, 0.5),
        last_s=_until(connected, storm.clients, 0.99),
        busiest=max(attempts.values(), default=0),
        attempts=sum(attempts.values()) / storm.clients,
        in_vain=1 - len(connected) / served if served else 0.0,
        attempts_by_second=[attempts[second] for second in range(seconds)],
        connected_by_second=with_stream[1:],
    )


def _until(connected: list[float], clients: int, share: float) -> float | None:
    needed = max(1, round(clients * share))
    return connected[needed - 1] if len(connected) >= needed else None
