"""A property: who resumes is told exactly what a list of all that was published says.

Step by step, so the model knows everything: what is retained, whether something was missed, where a reset stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tests.broker.conftest import Log
from tests.broker.contract.reading import data, examples_of, ids, position, take
from tidings import Broker

CHANNELS = ("a", "b", "c")


class Published(NamedTuple):
    sequence: int
    channel: str
    data: int


@dataclass(frozen=True)
class Publish:
    channel: str
    events: int


@dataclass(frozen=True)
class Resume:
    channels: list[str]
    where: str
    """`behind` so many of the newest positions, `ahead` of the newest by so much, or an id that is no position."""
    distance: int = 0


channels = st.sampled_from(CHANNELS)
steps = st.lists(
    st.builds(Publish, channels, st.integers(1, 4))
    | st.builds(
        Resume,
        st.lists(channels, min_size=1, max_size=3, unique=True),
        st.sampled_from(["behind", "behind", "behind", "ahead", "earliest", "foreign", "malformed"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


class Model:
    """Everything that was published, and what a broker with this bound makes of it."""

    def __init__(self, epoch: str, history: int) -> None:
        self.published: list[Published] = []
        self._epoch = epoch
        self._history = history

    @property
    def newest(self) -> int:
        return self.published[-1].sequence if self.published else 0

    def requested(self, step: Resume) -> str:
        match step.where:
            case "behind":
                positions = [0, *(event.sequence for event in self.published)]
                return self.id(positions[max(len(positions) - 1 - step.distance, 0)])
            case "ahead":
                return self.id(self.newest + 1 + step.distance)
            case "foreign":
                return f"{'x' * 32}-{step.distance}"
            case "malformed":
                return f"{self._epoch}-0{step.distance}"
            case _:
                return "earliest"

    def id(self, sequence: int) -> str:
        return f"{self._epoch}-{sequence}"

    def expected(self, step: Resume) -> tuple[str | None, list[Published]]:
        """The reason of the reset that is due, and the events that follow."""
        retained: list[Published] = []
        mark = 0
        for channel in step.channels:
            events = [event for event in self.published if event.channel == channel]
            retained += events[-self._history :]
            mark = max([mark, *(event.sequence for event in events[: -self._history])])
        retained.sort()
        if step.where == "behind":
            after = position(self.requested(step))[1]
            return "trimmed" if after < mark else None, [event for event in retained if event.sequence > after]
        return {"ahead": "ahead", "foreign": "epoch", "malformed": "malformed"}.get(step.where), retained


async def check_steps(broker: Broker, history: int, steps: list[Publish | Resume]) -> None:
    (reset,) = await take(broker.subscribe("a", last_event_id="no id"), 1)
    model = Model(position(reset.id)[0], history)

    async def publish(channel: str) -> Published:
        number = len(model.published)
        event = Published(position(await broker.publish(channel, number))[1], channel, number)
        model.published.append(event)
        return event

    for step in steps:
        if isinstance(step, Publish):
            for _ in range(step.events):
                await publish(step.channel)
            continue
        requested = model.requested(step)
        reason, following = model.expected(step)
        if reason is None and not following:
            following = [await publish(step.channels[0])]  # else there is nothing to wait for
        newest = model.newest
        async with broker.subscribe(*step.channels, last_event_id=requested) as subscription:
            if reason is not None:
                (reset,) = await take(subscription, 1)
                oldest = following[0].sequence if following else None
                assert (reset.event, reset.control) == ("reset", True)
                assert reset.data == {
                    "reason": reason,
                    "requested": requested,
                    "oldest": None if oldest is None else model.id(oldest),
                }
                assert reset.id == model.id(newest if oldest is None else oldest - 1)
            events = await take(subscription, len(following))
            assert [(event.channel, event.data) for event in events] == [event[1:] for event in following]
            assert ids(events) == [model.id(event.sequence) for event in following]
            live = await publish(step.channels[-1])
            assert data(await take(subscription, 1)) == [live.data]


def test_who_resumes_is_told_what_a_model_says(new_log: Callable[[], Log]) -> None:
    @examples_of(80)
    @given(st.integers(1, 5), steps)
    def check(history: int, steps: list[Publish | Resume]) -> None:
        async def run() -> None:
            async with Broker(**new_log(), history=history) as broker:
                await check_steps(broker, history, steps)

        asyncio.run(run())

    check()
