"""What a process knows of the log: its epoch, and the newest sequence that it heard of."""

from __future__ import annotations

import secrets
from collections.abc import Callable

__all__ = ["Known", "new_epoch"]


def new_epoch() -> str:
    """Ten characters by chance."""
    return secrets.token_hex(5)


class Known:
    """The epoch and the newest sequence.

    Every script is told both. If the server's own newest sequence is below it, then the server has lost something that
    it had acknowledged: it was restored from an older copy, or a replica that was behind took over. The script begins
    another epoch, in the same step, so that no id stands for two events.
    """

    def __init__(self) -> None:
        self.epoch = ""
        self.newest = 0
        self.on_change: Callable[[str], None] = lambda _epoch: None
        """Called with each epoch after the first."""

    def learn(self, epoch: str, newest: int, since: str) -> bool:
        """Take what an answer or a notification said; whether it is of the present epoch.

        They come over several connections, and may overtake each other. So only what was asked for under the present
        epoch (`since`), or is told by a connection that was made under it, can say that there is another one.
        """
        if epoch == self.epoch:
            self.newest = max(self.newest, newest)
            return True
        if since != self.epoch:
            return False
        self.epoch, self.newest = epoch, newest
        if since:
            self.on_change(epoch)
        return True

    @property
    def arguments(self) -> tuple[str, int, str]:
        """What the scripts are told."""
        return self.epoch, self.newest, new_epoch()
