"""The application of the peers that take typed items from a FastAPI endpoint which yields."""

from fastapi import FastAPI
from fastapi.responses import Response

from benchmarks import traffic


def typed_app(response_class: type[Response]) -> FastAPI:
    app = FastAPI()
    app.get("/quotes", response_class=response_class)(traffic.quotes)
    app.get("/ticks", response_class=response_class)(traffic.ticks)
    app.get("/idle", response_class=response_class)(traffic.idle)
    app.get("/tasks")(traffic.tasks)
    return app
