"""How a run may end, and what its readers are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

from tidings.broker.entry import FINISH, Draft, Kind
from tidings.broker.run import State
from tidings.wire.encoder import encode
from tidings.wire.event import ServerSentEvent

__all__ = ["FINISHED", "LOST", "SHUTDOWN", "STOPPED", "TIMED_OUT", "Ending"]


class Ending(NamedTuple):
    """How a run ended."""

    state: State
    drafts: Sequence[Draft]
    """The last event, if there is one, and the end of the channel."""

    @classmethod
    def told(cls, state: State, data: dict[str, Any]) -> Self:
        """One whose readers are told by an event of its name."""
        event = encode(ServerSentEvent(data, event=state.value))
        return cls(state, (Draft(Kind.CONTROL, event[: -len(b"\n")], b"\n"), FINISH))

    @classmethod
    def failed(cls, error: str) -> Self:
        """The source raised."""
        return cls.told(State.FAILED, {"error": error})


FINISHED: Final = Ending(State.FINISHED, (FINISH,))
"""The source ended by itself."""

STOPPED: Final = Ending.told(State.STOPPED, {})
"""Somebody stopped it."""

TIMED_OUT: Final = Ending.failed("timeout")
"""It took too long."""

LOST: Final = Ending.told(State.ABORTED, {"reason": "lost"})
"""Its producer's lease ran out."""

SHUTDOWN: Final = Ending.told(State.ABORTED, {"reason": "shutdown"})
"""Its broker was closed."""
