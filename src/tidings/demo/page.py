"""The page, and the source that it shows."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.types import Scope

from tidings.demo.feed import refusals
from tidings.demo.panels import chat, logs, machine, news, tasks, workers

STATIC = Path(__file__).parent / "static"

HEADERS = {
    "cache-control": "no-cache",
    # The page needs nothing from anywhere else, and may not ask for it.
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
}

PANELS: dict[str, ModuleType] = {
    "live": machine,
    "news": news,
    "workers": workers,
    "tasks": tasks,
    "chat": chat,
    "logs": logs,
}
"""What makes each panel, in the order of the page."""


class Page(StaticFiles):
    """The page and its parts, looked at anew with each visit so that an update is seen."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


class Source(BaseModel):
    """A few lines of the code that runs here."""

    file: str
    code: str


def source_of(panel: ModuleType) -> Source:
    functions: tuple[Callable[..., Any], ...] = panel.SHOWN
    code = "\n\n".join(inspect.getsource(function) for function in functions)
    return Source(file=f"{panel.__name__.replace('.', '/')}.py", code=code)


# Now, and not when somebody asks: the files may be edited while their old code runs.
SOURCES = {name: source_of(panel) for name, panel in PANELS.items()}

router = APIRouter()


@router.get("/source/{panel}", responses=refusals(404))
async def source(panel: str) -> Source:
    """The Python behind a panel: the functions themselves, so it is what runs."""
    if panel not in SOURCES:
        raise HTTPException(404, f"there is no panel {panel!r}; there are {', '.join(SOURCES)}")
    return SOURCES[panel]
