"""How a run may end, byte for byte."""

from __future__ import annotations

import pytest

from tidings.broker.background.endings import FINISHED, LOST, SHUTDOWN, STOPPED, TIMED_OUT, Ending
from tidings.broker.entry import FINISH, Kind
from tidings.broker.run import State


def test_a_source_that_ended_by_itself_finishes_its_channel_and_says_nothing() -> None:
    assert FINISHED == (State.FINISHED, (FINISH,))


@pytest.mark.parametrize(
    ("ending", "state", "frame"),
    [
        (STOPPED, State.STOPPED, b"event: stopped\ndata: {}\nid: e-7\n\n"),
        (LOST, State.ABORTED, b'event: aborted\ndata: {"reason":"lost"}\nid: e-7\n\n'),
        (SHUTDOWN, State.ABORTED, b'event: aborted\ndata: {"reason":"shutdown"}\nid: e-7\n\n'),
        (TIMED_OUT, State.FAILED, b'event: failed\ndata: {"error":"timeout"}\nid: e-7\n\n'),
        (Ending.failed("a\nb"), State.FAILED, b'event: failed\ndata: {"error":"a\\nb"}\nid: e-7\n\n'),
    ],
)
def test_other_endings_are_told_by_a_control_event_before_the_channel_is_finished(
    ending: Ending, state: State, frame: bytes
) -> None:
    told, finish = ending.drafts
    assert ending.state is state
    assert told.kind == Kind.CONTROL
    assert told.frame("e", 7) == frame
    assert finish is FINISH
