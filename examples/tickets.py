"""How does a page open a stream for its user, when the login is a header that `EventSource` can't send?

    pip install 'tidings[fastapi,tickets]' uvicorn
    uvicorn examples.tickets:app --workers 2

Then open http://127.0.0.1:8000/ twice, and order something as Ada and as Bob. A ticket opens one stream, whichever
worker it comes to:

    curl -X POST -H 'Authorization: Bearer key-of-ada' http://127.0.0.1:8000/ticket
    curl -N 'http://127.0.0.1:8000/orders?ticket=…'
"""

import os
import time
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId
from tidings.stream import StreamLimit
from tidings.tickets import Ticket, Tickets

PAGE = Path(__file__).with_name("tickets.html")

# All workers need the same secret. A real one is made by `python -c "import secrets; print(secrets.token_urlsafe())"`.
SECRET = os.environ.get("TICKET_SECRET", "only good for an example")

LOGINS = {"key-of-ada": "ada", "key-of-bob": "bob"}
LOGIN_SECONDS = 3600

broker = Broker("sqlite:///orders.db")
tickets = Tickets(SECRET, broker)
app = FastAPI(lifespan=broker.lifespan)


async def logged_in(login: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    if login.credentials not in LOGINS:
        raise HTTPException(401, "log in first", {"www-authenticate": "Bearer"})
    return LOGINS[login.credentials]


async def reader(ticket: Annotated[Ticket, Depends(tickets.required)], request: HTTPConnection) -> Ticket:
    request.state.user = ticket.subject  # for the limit
    return ticket


class Orders(EventSourceResponse):
    stream_limit = StreamLimit(1_000, per_key=10, key=lambda request: request.state.user)


@app.post("/ticket")
async def ticket(user: Annotated[str, Depends(logged_in)]) -> dict[str, str]:
    return {
        "ticket": tickets.issue(user, until=time.time() + LOGIN_SECONDS),
        "position": await broker.last_event_id(),
    }


@app.get("/orders")
async def orders(ticket: Annotated[Ticket, Depends(reader)], last_event_id: LastEventId) -> EventSourceResponse:
    subscription = broker.subscribe(f"orders of {ticket.subject}", last_event_id=last_event_id)
    return Orders(subscription, expires_at=ticket.data["until"])


@app.post("/orders")
async def order(user: Annotated[str, Depends(logged_in)], what: str) -> str:
    return await broker.publish(f"orders of {user}", what)


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(PAGE)
