"""What the processes of the demo share: the parent writes it into the environment, its workers read it there."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from pydantic import BaseModel

from tidings import Broker

_VARIABLE: Final = "TIDINGS_DEMO_SETTINGS"

FIGURES_HISTORY: Final = 120
"""Events kept of each channel of figures: a minute of samples, twelve seconds of the counter."""

FIGURES_MAX_AGE: Final = 75.0
"""Seconds for which they are kept."""


class Settings(BaseModel):
    """How the demo was started."""

    folder: Path
    """Where the logs of its brokers are, unless `broker` says otherwise; and its access log."""
    port: int
    log: Path
    """The file that is followed."""
    own_log: bool
    """Whether that is the demo's own access log."""
    local: bool
    """Whether it can be reached from this machine alone."""
    broker: str | None = None
    """The URL of a server to use in place of the files."""

    def figures(self) -> Broker:
        """The broker of what moves all the time: of which a minute is enough."""
        return Broker(
            self._url("figures"),
            # Each demo has figures of its own. What people do, those that share a server share.
            namespace=f"tidings-demo-{platform.node()}-{self.port}",
            history=FIGURES_HISTORY,
            max_age=FIGURES_MAX_AGE,
        )

    def desk(self) -> Broker:
        """The broker of what people do on the page."""
        return Broker(
            self._url("desk"),
            namespace="tidings-demo",
            history=5_000,
            max_age=86_400.0,
            background_grace=0.5,
            background_timeout=600.0,
            # What an exception says is for whoever started the demo, not for others.
            expose_errors=self.local,
        )

    def _url(self, name: str) -> str:
        return self.broker or f"sqlite:///{quote(str(self.folder / name))}.db"

    def save(self) -> None:
        """For the processes that this one starts from now on."""
        os.environ[_VARIABLE] = self.model_dump_json()

    @classmethod
    def load(cls) -> Self:
        """What the parent saved."""
        return cls.model_validate_json(os.environ[_VARIABLE])
