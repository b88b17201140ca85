"""Guards: who may not read a channel gets nothing of it, whenever and with whatever id they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from tests.asgi import Connection, fetch
from tests.broker.contract.reading import data, fill, rest, take
from tidings import Broker, EventSourceResponse
from tidings.errors import ChannelForbidden
from tidings.fastapi import LastEventId


class Guard:
    """Lets some channels be read, and notes of which it was asked."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = set(allowed)
        self.asked: list[str] = []

    def plain(self, channel: str) -> bool:
        self.asked.append(channel)
        return channel in self.allowed

    async def later(self, channel: str) -> bool:
        await asyncio.sleep(0)
        return self.plain(channel)


@pytest.mark.parametrize("kind", ["plain", "later"])
async def test_who_may_read_reads_and_who_may_not_is_told_so(broker: Broker, kind: str) -> None:
    await fill(broker, "public", [1, 2])
    await fill(broker, "secret", [3])
    guard = Guard("public")
    allowed = broker.subscribe("public", last_event_id="earliest", guard=getattr(guard, kind))
    assert data(await take(allowed, 2)) == [1, 2]
    assert guard.asked == ["public"]  # once, not for each event
    subscription = broker.subscribe("public", "secret", last_event_id="earliest", guard=getattr(guard, kind))
    with pytest.raises(ChannelForbidden, match="'secret'") as refused:
        await anext(subscription)
    assert refused.value.channel == "secret"
    assert await rest(subscription) == []


@pytest.mark.parametrize("kind", ["plain", "later"])
async def test_a_response_is_403_before_it_starts_and_names_no_channel(broker: Broker, kind: str) -> None:
    await broker.publish("secret", "plans")
    for last_event_id in (None, "earliest", "malformed"):
        subscription = broker.subscribe("secret", last_event_id=last_event_id, guard=getattr(Guard(), kind))
        client = await fetch(EventSourceResponse(subscription))
        assert client.status == 403
        assert b"secret" not in client.body
        assert b"plans" not in client.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_finished_channel_is_403_too_for_whom_it_is_not(broker: Broker, method: str) -> None:
    await broker.finish("secret")
    for allowed, status in (([], 403), (["secret"], 204)):
        response = EventSourceResponse(broker.subscribe("secret", guard=Guard(*allowed).plain))
        client = await fetch(response, method=method)
        assert (client.status, client.complete) == (status, True)


async def test_head_asks_the_guard_as_get_does(broker: Broker) -> None:
    for allowed, status in (([], 403), (["news"], 200)):
        guard = Guard(*allowed)
        client = await fetch(EventSourceResponse(broker.subscribe("news", guard=guard.later)), method="HEAD")
        assert (client.status, guard.asked) == (status, ["news"])


async def test_each_reconnect_is_asked_anew(broker: Broker) -> None:
    guard = Guard("news")
    app = FastAPI()

    @app.get("/")
    async def news(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id, guard=guard.later))

    first, missed = await fill(broker, "news", ["seen", "missed"])
    async with Connection(app, headers={"last-event-id": first}) as client:
        await client.until(b"missed")
    guard.allowed.clear()
    client = await fetch(app, headers={"last-event-id": first})
    assert client.status == 403
    assert b"missed" not in client.body
    guard.allowed.add("news")
    async with Connection(app, headers={"last-event-id": missed}) as client:
        await broker.publish("news", "later")
        await client.until(b"later")
    assert guard.asked == ["news"] * 3


async def test_what_a_guard_raises_is_the_answer(broker: Broker) -> None:
    async def hide(channel: str) -> bool:
        raise HTTPException(404, "no such channel")

    assert (await fetch(EventSourceResponse(broker.subscribe("secret", guard=hide)))).status == 404

    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def yielded() -> AsyncIterable[Any]:
        async for event in broker.subscribe("secret", guard=hide):
            yield event

    assert (await fetch(app)).status == 404


async def test_an_endpoint_that_yields_answers_as_the_application_handles_the_error(broker: Broker) -> None:
    app = FastAPI()

    @app.exception_handler(ChannelForbidden)
    async def forbidden(request: Any, error: ChannelForbidden) -> JSONResponse:
        return JSONResponse({"detail": "not yours"}, 403)

    @app.get("/", response_class=EventSourceResponse)
    async def yielded() -> AsyncIterable[Any]:
        async for event in broker.subscribe("secret", guard=Guard().plain):
            yield event

    client = await fetch(app)
    assert (client.status, client.body) == (403, b'{"detail":"not yours"}')


async def test_a_guard_that_forgets_to_await_lets_nobody_in(broker: Broker) -> None:
    """What an `async def` returns is true, whatever it would say."""
    guard = Guard("public")

    async def forgetful(channel: str) -> Any:
        return guard.later(channel)

    await fill(broker, "public", [1])
    await fill(broker, "secret", [2])
    assert data(await take(broker.subscribe("public", last_event_id="earliest", guard=forgetful), 1)) == [1]
    with pytest.raises(ChannelForbidden):
        await anext(broker.subscribe("secret", last_event_id="earliest", guard=forgetful))


async def test_a_filter_and_a_guard_go_together(broker: Broker) -> None:
    await fill(broker, "news", range(4))
    subscription = broker.subscribe(
        "news", last_event_id="earliest", where=lambda event: event.data % 2, guard=Guard("news").plain
    )
    assert data(await take(subscription, 2)) == [1, 3]


async def test_a_subscription_that_is_closed_while_its_guard_is_asked_gives_nothing(broker: Broker) -> None:
    await broker.publish("news", 1)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(channel: str) -> bool:
        asked.set()
        return await go_on.wait()

    subscription = broker.subscribe("news", last_event_id="earliest", guard=slow)
    reading = asyncio.create_task(rest(subscription))
    await asked.wait()
    await subscription.aclose()
    go_on.set()
    assert await reading == []


@pytest.mark.parametrize("guard", ["news", 1, ["news"]])
def test_a_guard_that_can_not_be_asked_is_refused(guard: Any) -> None:
    with pytest.raises(TypeError, match="'guard'"):
        Broker().subscribe("news", guard=guard)
