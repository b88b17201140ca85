"""How are streams added to an application of another framework, such as Litestar?

    pip install litestar
    uvicorn examples.beside_litestar:app
    curl -N http://127.0.0.1:8000/orders/live
    curl -X POST 'http://127.0.0.1:8000/orders?dish=lentil+soup'

A response of tidings is an ASGI application. Whatever can mount one can have streams; the rest of Litestar's
application, here the endpoint that takes orders, stays as it is.
"""

from litestar import Litestar, asgi, post
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from tidings import Broker, EventSourceResponse

broker = Broker("memory://")


async def live_orders(scope: Scope, receive: Receive, send: Send) -> None:
    """Knows nothing of Litestar."""
    last_event_id = Headers(scope=scope).get("last-event-id")
    stream = EventSourceResponse(broker.subscribe("orders", last_event_id=last_event_id))
    await stream(scope, receive, send)


@post("/orders")
async def order(dish: str) -> dict[str, str]:
    return {"id": await broker.publish("orders", {"dish": dish}, event="order")}


app = Litestar([order, asgi("/orders/live", copy_scope=True)(live_orders)], lifespan=[broker.lifespan])
