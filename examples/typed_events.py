"""How do events get a name, a type and a description in OpenAPI?

    uvicorn examples.typed_events:app
    curl -N http://127.0.0.1:8000/loans

The description is in http://127.0.0.1:8000/openapi.json.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from datetime import date

from fastapi import FastAPI
from pydantic import BaseModel

from tidings import Event, EventSourceResponse, with_ids
from tidings.fastapi import document_streams


class Loan(BaseModel):
    reader: str
    title: str
    due: date


class Return(BaseModel):
    title: str
    days_late: int = 0


class LoanOpened(Event[Loan]):
    """A book was lent; on the wire `loan_opened`."""


class LoanClosed(Event[Return]):
    """A book is back; on the wire `loan_closed`."""


app = FastAPI()
document_streams(app)


async def desk() -> AsyncIterator[LoanOpened | LoanClosed]:
    yield LoanOpened.create(Loan(reader="Ada", title="Moby Dick", due=date(2026, 3, 1)))
    await asyncio.sleep(0.2)
    yield LoanOpened.create(Loan(reader="Bob", title="Emma", due=date(2026, 3, 2)))
    await asyncio.sleep(0.2)
    yield LoanClosed.create(Return(title="Moby Dick", days_late=3))


@app.get("/loans", response_class=EventSourceResponse)
async def loans() -> AsyncIterable[LoanOpened | LoanClosed]:
    """Each loan and each return at the desk."""
    async for event in with_ids(desk()):
        yield event
