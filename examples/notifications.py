"""How does each user get notifications of their own and those for everybody, and miss none?

    uvicorn examples.notifications:app
    curl -N http://127.0.0.1:8000/users/ada/notifications
    curl -X POST 'http://127.0.0.1:8000/notifications?text=closing+in+ten+minutes'
    curl -X POST 'http://127.0.0.1:8000/users/ada/notifications?text=Emma+is+due'

Then open http://127.0.0.1:8000/: the browser resumes by itself when the connection was lost. Try it: restart curl with
`-H 'Last-Event-ID: …'` and the id of an event.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from tidings import Broker, EventSourceResponse
from tidings.fastapi import LastEventId

PAGE = """
<!doctype html>
<meta charset="utf-8">
<title>Notifications</title>
<ul id="list"></ul>
<script>
  const show = (text) => {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById("list").append(item);
  };
  const source = new EventSource("/users/ada/notifications");
  source.addEventListener("notification", (event) => show(JSON.parse(event.data)));
  source.addEventListener("reset", () => show("Some notifications are too old to be shown."));
</script>
"""

broker = Broker("memory://")
app = FastAPI(lifespan=broker.lifespan)


def known_user(name: str) -> str:
    """In place of a login."""
    if name not in {"ada", "bob"}:
        raise HTTPException(404, "no such user")
    return name


User = Annotated[str, Depends(known_user)]


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.get("/users/{name}/notifications")
async def notifications(user: User, last_event_id: LastEventId) -> EventSourceResponse:
    # One stream, one connection, and one id for both channels.
    return EventSourceResponse(broker.subscribe("everybody", f"user/{user}", last_event_id=last_event_id))


@app.post("/notifications")
async def notify_everybody(text: str) -> str:
    return await broker.publish("everybody", text, event="notification")


@app.post("/users/{name}/notifications")
async def notify(user: User, text: str) -> str:
    return await broker.publish(f"user/{user}", text, event="notification")
