"""Channels in applications of FastAPI and Starlette, without a server."""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import pytest
from aiostream import stream
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Route

from tests.asgi import Connection, app_of, fetch
from tests.broker.conftest import Log
from tests.broker.contract.reading import data, fill, take, until
from tidings import Broker, Event, EventSourceResponse, ServerSentEvent, Subscription, with_ids
from tidings.broker import DeliveredEvent
from tidings.errors import BrokerClosed
from tidings.fastapi import LastEventId, document_streams

pytestmark = pytest.mark.anyio

Stream = Callable[..., Any]
"""An endpoint whose response is a subscription."""


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def new_log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Log]:
    if request.param == "memory":
        return dict
    return lambda: {"url": f"sqlite:///{tmp_path_factory.mktemp('log') / 'events.db'}"}


class Delay(BaseModel):
    line: int
    minutes: int


class Delayed(Event[Delay]):
    pass


class Closed(Event[str]):
    pass


VARIOUS = [
    {"line": 4},
    None,
    Delayed.create(Delay(line=4, minutes=2), retry=500),
    ServerSentEvent(raw_data="line 4\nends here", event="notice", comment="for\nall"),
    "tr\u00e4ge \u2028 \U0001f68b",
]


async def publish_various(broker: Broker, channel: str) -> list[str]:
    """Publish events of all kinds, then finish the channel."""
    ids = await fill(broker, channel, VARIOUS)
    await broker.finish(channel)
    return ids


def returned(broker: Broker, *channels: str) -> Stream:
    async def endpoint(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe(*channels, last_event_id=last_event_id))

    return endpoint


def yielded(broker: Broker, *channels: str) -> Stream:
    async def endpoint(last_event_id: LastEventId) -> AsyncIterator[Any]:
        async for event in broker.subscribe(*channels, last_event_id=last_event_id):
            yield event

    return endpoint


BOTH_WAYS = pytest.mark.parametrize("way", [returned, yielded])


# -- the broker's lifespan --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
async def test_the_broker_is_open_while_the_application_runs(log: Log, framework: type[Starlette]) -> None:
    broker = Broker(**log)
    app = framework(lifespan=broker.lifespan)
    with pytest.raises(BrokerClosed):
        await broker.publish("news", "too early")
    async with app.router.lifespan_context(app):
        await broker.publish("news", "now")
    with pytest.raises(BrokerClosed):
        await broker.publish("news", "too late")


@pytest.mark.parametrize("combined", ["lifespan", "broker"])
async def test_a_lifespan_of_ones_own_opens_the_broker_and_publishes(log: Log, combined: str) -> None:
    broker = Broker(**log)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with broker.lifespan(app) if combined == "lifespan" else broker:
            await broker.publish("news", "open")
            yield {"state": "kept"}
            await broker.publish("news", "closing")

    app = FastAPI(lifespan=lifespan)
    async with app.router.lifespan_context(app) as state:
        assert state == {"state": "kept"}
        assert data(await take(broker.subscribe("news", last_event_id="earliest"), 1)) == ["open"]
    if combined == "lifespan":
        return
    async with broker:
        assert data(await take(broker.subscribe("news", last_event_id="earliest"), 2)) == ["open", "closing"]


async def test_a_router_that_is_included_may_bring_the_broker(log: Log) -> None:
    broker = Broker(**log)
    router = APIRouter(lifespan=broker.lifespan)
    router.add_api_route("/news", returned(broker, "news"))
    app = FastAPI()
    app.include_router(router)
    async with app.router.lifespan_context(app):
        (id,) = await fill(broker, "news", ["hello"])
        await broker.finish("news")
        client = await fetch(app, "/news?last_event_id=earliest")
        assert client.body.decode() == f'data: "hello"\nid: {id}\n\n'


async def test_the_streams_of_an_application_that_ends_end_with_it(log: Log) -> None:
    broker = Broker(**log)
    app = FastAPI(lifespan=broker.lifespan)
    app.add_api_route("/returned", returned(broker, "news"))
    app.add_api_route("/yielded", yielded(broker, "news"), response_class=EventSourceResponse)
    async with Connection(app, "/returned?last_event_id=earliest") as first:
        # A subscription begins with its response; nothing of it is there before the application runs.
        with pytest.raises(BrokerClosed, match=r"lifespan=broker\.lifespan"):
            await first.end()
    async with app.router.lifespan_context(app):
        (id,) = await fill(broker, "news", ["hello"])
        clients = [Connection(app, f"/{way}?last_event_id=earliest") for way in ("returned", "yielded")]
        for client in clients:
            await client.__aenter__()
            await client.until(id.encode() + b"\n\n")
    for client in clients:
        assert (await client.end()).complete
        assert client.body.decode() == f'data: "hello"\nid: {id}\n\n'


# -- both ways of streaming a subscription ----------------------------------------------------------------------------


async def test_both_ways_send_the_same_bytes(broker: Broker) -> None:
    ids = await publish_various(broker, "news")
    for start in ("earliest", ids[0], ids[2], "none of ours"):
        path = f"/?last_event_id={start.replace(' ', '%20')}"
        bodies = [(await fetch(app_of(way(broker, "news")), path)).body for way in (returned, yielded)]
        assert bodies[0] == bodies[1]
        assert bodies[0].count(b"\nid: ") == {"earliest": 5, ids[0]: 4, ids[2]: 2}.get(start, 6)


async def test_both_ways_send_the_same_bytes_of_what_is_new(broker: Broker) -> None:
    async with (
        Connection(app_of(returned(broker, "news", "alerts"))) as first,
        Connection(app_of(yielded(broker, "news", "alerts"))) as second,
    ):
        await first.until(b":\n\n")
        await second.until(b":\n\n")
        await publish_various(broker, "news")
        await publish_various(broker, "alerts")
        await first.end()
        await second.end()
        assert first.body == second.body
        assert first.body.count(b"\nid: ") == 10


@BOTH_WAYS
async def test_what_is_published_while_a_client_takes_nothing_follows(broker: Broker, way: Stream) -> None:
    ids = await fill(broker, "news", range(3))
    async with Connection(app_of(way(broker, "news")), "/?last_event_id=earliest") as client:
        client.stop_reading()
        await client.until_blocked()
        ids += await fill(broker, "news", range(3, 6))
        client.read_on()
        await client.until(ids[-1].encode() + b"\n\n")
        client.stop_reading()
        ids += await fill(broker, "news", range(6, 9))
        await client.until_blocked()
        ids += await fill(broker, "news", range(9, 12))
        client.read_on()
        await client.until(ids[-1].encode() + b"\n\n")
        assert [event.id for event in client.events] == ids


@BOTH_WAYS
async def test_middlewares_make_no_difference(broker: Broker, way: Stream) -> None:
    async def pass_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    app = app_of(way(broker, "news"))
    wrapped = BaseHTTPMiddleware(GZipMiddleware(BaseHTTPMiddleware(app, pass_on), minimum_size=1), pass_on)
    async with Connection(wrapped, headers={"Accept-Encoding": "gzip"}) as client:
        await client.until(b":\n\n")
        ids = []
        for number in range(20):  # each alone, so that each is written when it comes
            ids += await fill(broker, "news", [number])
            await client.until(ids[-1].encode() + b"\n\n")
        ids += await fill(broker, "news", range(20, 500))
        await client.until(ids[-1].encode() + b"\n\n")
        assert [event.id for event in client.events] == ids
        assert [event.json() for event in client.events] == list(range(500))
    async with Connection(wrapped) as client:
        await client.until(b":\n\n")
        await fill(broker, "news", ["last"])
        await broker.finish("news")
        assert (await client.end()).complete
        assert client.events[-1].json() == "last"


async def test_a_finished_channel_answers_204(broker: Broker) -> None:
    *_, last = await publish_various(broker, "news")
    for headers in ({"Last-Event-ID": last}, {}):
        client = await fetch(app_of(returned(broker, "news")), headers=headers)
        assert (client.status, client.body, client.complete) == (204, b"", True)
        assert "content-type" not in client.headers


# -- the id that a client resumes from --------------------------------------------------------------------------------


@BOTH_WAYS
async def test_the_last_id_is_taken_from_the_header_or_else_from_the_query(broker: Broker, way: Stream) -> None:
    ids = await publish_various(broker, "news")
    for query, headers, seen in [
        ("", {"Last-Event-ID": ids[1]}, 2),
        (f"?last_event_id={ids[2]}", {}, 3),
        (f"?lastEventId={ids[3]}", {}, 4),
        (f"?last_event_id={ids[0]}", {"Last-Event-ID": ids[3]}, 4),
        (f"?last_event_id={ids[0]}", {"Last-Event-ID": ""}, 1),
        ("?last_event_id=earliest", {}, 0),
    ]:
        client = await fetch(app_of(way(broker, "news")), f"/{query}", headers=headers)
        assert [event.id for event in client.events] == ids[seen:], (query, headers)


@BOTH_WAYS
async def test_an_id_of_whatever_characters_is_told_to_mean_nothing(broker: Broker, way: Stream) -> None:
    ids = await publish_various(broker, "news")
    for header, requested in [("gr\u00fc\u00dfe \U0001f68b", "gr\u00fc\u00dfe \U0001f68b"), ("x" * 1000, "x" * 256)]:
        client = await fetch(app_of(way(broker, "news")), headers={"Last-Event-ID": header})  # in UTF-8, as browsers do
        reset, *events = client.events
        assert reset.event == "reset"
        assert reset.json() == {"reason": "malformed", "requested": requested, "oldest": ids[0]}
        assert [event.id for event in events] == ids


async def test_a_sync_endpoint_returns_a_subscription(broker: Broker) -> None:
    def endpoint(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id))

    async with Connection(app_of(endpoint)) as client:
        await client.until(b":\n\n")
        (id,) = await fill(broker, "news", ["hello"])
        await client.until(id.encode() + b"\n\n")
        assert client.body.decode() == f':\n\ndata: "hello"\nid: {id}\n\n'


async def test_starlette_streams_a_subscription(log: Log) -> None:
    broker = Broker(**log)

    async def news(request: Request) -> EventSourceResponse:
        last_event_id = request.headers.get("last-event-id")
        return EventSourceResponse(broker.subscribe("news", last_event_id=last_event_id))

    app = Starlette(routes=[Route("/news", news)], lifespan=broker.lifespan)
    async with app.router.lifespan_context(app):
        ids = await publish_various(broker, "news")
        client = await fetch(app, "/news", headers={"Last-Event-ID": ids[0]})
        assert [event.id for event in client.events] == ids[1:]


# -- what an endpoint yields ------------------------------------------------------------------------------------------


async def plain_items(subscription: Subscription) -> AsyncIterable[Delay]:
    async for event in subscription:
        yield event  # type: ignore[misc]


async def typed_events(subscription: Subscription) -> AsyncIterable[Delayed | Closed]:
    async for event in subscription:
        yield event  # type: ignore[misc]


async def sent_events(subscription: Subscription) -> AsyncIterable[ServerSentEvent]:
    async for event in subscription:
        yield event  # type: ignore[misc]


async def delivered_events(subscription: Subscription) -> AsyncIterable[DeliveredEvent]:
    async for event in subscription:
        yield event


async def delivered_or_other_events(subscription: Subscription) -> AsyncIterable[DeliveredEvent | Closed | Delay]:
    async for event in subscription:
        yield event


async def of_no_annotation(subscription: Subscription):
    async for event in subscription:
        yield event


async def numbered(subscription: Subscription) -> AsyncIterable[Any]:
    async for event in with_ids(subscription):
        yield event


ENDPOINTS = [
    plain_items,
    typed_events,
    sent_events,
    delivered_events,
    delivered_or_other_events,
    of_no_annotation,
    numbered,
]


def with_subscription(endpoint: Callable[..., Any], broker: Broker, *channels: str) -> FastAPI:
    """An application with this endpoint, that is given a subscription to all that is retained."""

    def subscribe() -> Subscription:
        return broker.subscribe(*channels, last_event_id="earliest")

    app = FastAPI()
    endpoint.__annotations__["subscription"] = Annotated[Subscription, Depends(subscribe)]
    app.add_api_route("/", endpoint, response_class=EventSourceResponse)
    return app


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.__name__)
async def test_delivered_events_pass_in_every_annotation(broker: Broker, endpoint: Stream) -> None:
    await publish_various(broker, "news")
    expected = await fetch(app_of(returned(broker, "news")), "/?last_event_id=earliest")
    client = await fetch(with_subscription(endpoint, broker, "news"))
    assert client.status == 200
    assert client.body == expected.body


async def test_events_of_the_endpoints_own_stand_between_delivered_ones(broker: Broker) -> None:
    async def endpoint() -> AsyncIterable[Delayed | Delay]:
        yield Delay(line=1, minutes=0)
        async for event in broker.subscribe("news", last_event_id="earliest"):
            yield event  # type: ignore[misc]
            yield Delayed.create(Delay(line=9, minutes=event.data))

    ids = await fill(broker, "news", [5, 7])
    await broker.finish("news")
    client = await fetch(app_of(endpoint))
    assert client.body.decode() == (
        'data: {"line":1,"minutes":0}\n\n'
        f"data: 5\nid: {ids[0]}\n\n"
        'event: delayed\ndata: {"line":9,"minutes":5}\n\n'
        f"data: 7\nid: {ids[1]}\n\n"
        'event: delayed\ndata: {"line":9,"minutes":7}\n\n'
    )


async def test_with_ids_numbers_its_own_items_and_leaves_delivered_ones_alone(broker: Broker) -> None:
    async def both() -> AsyncIterator[Any]:
        yield "mine"
        async for event in broker.subscribe("news", last_event_id="earliest"):
            yield event
            yield "mine"

    (id,) = await fill(broker, "news", ["theirs"])
    await broker.finish("news")
    client = await fetch(EventSourceResponse(with_ids(both(), start=7)))
    assert [(event.id, event.json()) for event in client.events] == [("7", "mine"), (id, "theirs"), ("8", "mine")]


async def test_an_endpoint_may_leave_the_loop_and_the_subscription_ends(broker: Broker) -> None:
    subscriptions: list[Subscription] = []

    async def endpoint() -> AsyncIterator[Any]:
        async with broker.subscribe("news", last_event_id="earliest") as subscription:
            subscriptions.append(subscription)
            async for event in subscription:
                yield event
                break

    await fill(broker, "news", [1, 2])
    client = await fetch(app_of(endpoint))
    assert [event.json() for event in client.events] == [1]
    assert subscriptions[0].ended


async def test_a_merge_of_two_subscriptions_leaves_none_behind(broker: Broker) -> None:
    async def endpoint() -> AsyncIterator[Any]:
        merged = stream.merge(
            broker.subscribe("news", last_event_id="earliest"), broker.subscribe("alerts", last_event_id="earliest")
        )
        async with merged.stream() as events:
            async for event in events:
                yield event

    old = await fill(broker, "news", [1, 2])
    async with Connection(app_of(endpoint)) as client:
        await client.until(old[-1].encode() + b"\n\n")
        new = [*await fill(broker, "alerts", ["a", "b"]), *await fill(broker, "news", [3])]
        for id in new:
            await client.until(id.encode() + b"\n\n")
        assert {event.id: event.json() for event in client.events} == dict(
            zip([*old, *new], [1, 2, "a", "b", 3], strict=True)
        )
        assert len(client.events) == 5
    await until(lambda: not readers_of(broker), "both subscriptions are closed")


def readers_of(broker: Broker) -> int:
    return sum(view.readers for view in broker._opened().log._views.values())


async def test_a_merge_is_streamed_as_it_is(broker: Broker) -> None:
    await publish_various(broker, "news")
    await publish_various(broker, "alerts")
    merged = stream.merge(*(broker.subscribe(name, last_event_id="earliest") for name in ("news", "alerts")))
    client = await fetch(EventSourceResponse(merged))
    assert client.complete
    assert len({event.id for event in client.events}) == 10


def iterated_in_a_thread(subscription: Subscription) -> Iterable[Any]:
    yield from subscription  # type: ignore[misc]


def numbered_in_a_thread(subscription: Subscription) -> Iterable[Any]:
    yield from with_ids(subscription)  # type: ignore[misc]


@pytest.mark.parametrize("endpoint", [iterated_in_a_thread, numbered_in_a_thread])
async def test_a_sync_endpoint_that_iterates_a_subscription_is_refused(broker: Broker, endpoint: Stream) -> None:
    await publish_various(broker, "news")
    async with Connection(with_subscription(endpoint, broker, "news")) as client:
        with pytest.raises(TypeError, match=r"object is not iterable"):
            await client.end()
        assert client.status == 500
    assert readers_of(broker) == 0


# -- publishing -------------------------------------------------------------------------------------------------------


def publishers(broker: Broker) -> list[Callable[..., Any]]:
    """Endpoints, each with a way to publish."""

    async def in_async_endpoint() -> str:
        return await broker.publish("news", Delay(line=4, minutes=2))

    def in_sync_endpoint() -> str:
        return broker.publish_sync("news", Delay(line=4, minutes=2))

    async def in_async_background(tasks: BackgroundTasks) -> None:
        tasks.add_task(broker.publish, "news", Delay(line=4, minutes=2))

    def in_sync_background(tasks: BackgroundTasks) -> None:
        tasks.add_task(partial(broker.publish_sync, "news"), Delay(line=4, minutes=2))

    async def in_other_thread() -> str:
        ids: list[str] = []
        thread = threading.Thread(target=lambda: ids.append(broker.publish_sync("news", Delay(line=4, minutes=2))))
        thread.start()
        await asyncio.to_thread(thread.join)
        return ids[0]

    async def in_a_task() -> str:
        return await asyncio.create_task(broker.publish("news", Delay(line=4, minutes=2)))

    def in_sync_dependency() -> str:
        return broker.publish_sync("news", Delay(line=4, minutes=2))

    async def by_dependency(id: Annotated[str, Depends(in_sync_dependency)]) -> str:
        return id

    return [
        in_async_endpoint,
        in_sync_endpoint,
        in_async_background,
        in_sync_background,
        in_other_thread,
        in_a_task,
        by_dependency,
    ]


async def test_endpoints_of_every_kind_publish(broker: Broker) -> None:
    app = FastAPI()
    app.add_api_route("/news", returned(broker, "news"))
    async with Connection(app, "/news") as client:
        await client.until(b":\n\n")
        for endpoint in publishers(broker):
            name = endpoint.__name__
            app.add_api_route(f"/{name}", endpoint, methods=["POST"])
            before = len(client.events)
            answer = await fetch(app, f"/{name}", "POST")
            assert answer.status == 200, name
            await client.until(lambda before=before: len(client.events) > before)
            event = client.events[-1]
            assert event.json() == {"line": 4, "minutes": 2}
            if answer.body != b"null":
                assert answer.body.decode() == f'"{event.id}"'
        assert len(client.events) == len(publishers(broker))


async def test_streams_publish_while_they_run(broker: Broker) -> None:
    async def on_the_loop() -> AsyncIterator[str]:
        yield await broker.publish("news", "one")
        yield await broker.publish("news", "two")

    def in_a_thread() -> Iterable[str]:
        yield broker.publish_sync("news", "three")
        yield broker.publish_sync("news", "four")

    ids = []
    for endpoint in (on_the_loop, in_a_thread):
        ids += [event.json() for event in (await fetch(app_of(endpoint))).events]
    events = await take(broker.subscribe("news", last_event_id="earliest"), 4)
    assert [event.id for event in events] == ids
    assert data(events) == ["one", "two", "three", "four"]


async def test_publish_sync_in_an_async_endpoint_says_what_to_call(broker: Broker) -> None:
    async def endpoint() -> str:
        return broker.publish_sync("news", "never")

    async with Connection(app_of(endpoint, "POST", response_class=None), method="POST") as client:
        with pytest.raises(RuntimeError, match=r"await broker\.publish\(\)"):
            await client.end()


# -- what stands around a subscription --------------------------------------------------------------------------------


@BOTH_WAYS
async def test_a_dependency_with_yield_is_open_until_the_stream_has_ended(broker: Broker, way: Stream) -> None:
    notes: list[str] = []

    async def session() -> AsyncIterator[None]:
        notes.append("opened")
        try:
            yield
        finally:
            notes.append("closed")

    (id,) = await fill(broker, "news", ["hello"])
    app = app_of(way(broker, "news"), dependencies=[Depends(session)])
    async with Connection(app, "/?last_event_id=earliest") as client:  # one that leaves
        await client.until(id.encode() + b"\n\n")
        assert notes == ["opened"]
    assert notes == ["opened", "closed"]
    async with Connection(app, "/?last_event_id=earliest") as client:  # one that stays to the end
        await client.until(id.encode() + b"\n\n")
        await broker.finish("news")
        assert (await client.end()).complete
    assert notes == ["opened", "closed"] * 2
    await until(lambda: not readers_of(broker), "the subscriptions are closed")


async def test_a_dependency_may_open_the_subscription_and_close_it(broker: Broker) -> None:
    subscriptions: list[Subscription] = []

    async def subscription() -> AsyncIterator[Subscription]:
        async with broker.subscribe("news", last_event_id="earliest") as subscription:
            subscriptions.append(subscription)
            yield subscription

    async def endpoint(events: Annotated[Any, Depends(subscription)]) -> EventSourceResponse:
        return EventSourceResponse(events)

    (id,) = await fill(broker, "news", ["hello"])
    async with Connection(app_of(endpoint)) as client:
        await client.until(id.encode() + b"\n\n")
        assert not subscriptions[0].ended
    assert subscriptions[0].ended
    assert readers_of(broker) == 0


async def test_an_error_before_the_subscription_keeps_its_status(broker: Broker) -> None:
    async def look_up() -> None:
        raise HTTPException(404, "no such line")

    for way in (returned, yielded):
        client = await fetch(app_of(way(broker, "news"), dependencies=[Depends(look_up)]))
        assert (client.status, client.body) == (404, b'{"detail":"no such line"}')
    assert readers_of(broker) == 0


# -- OpenAPI ----------------------------------------------------------------------------------------------------------


def documented(endpoint: Callable[..., Any], **options: Any) -> dict[str, Any]:
    app = FastAPI()
    app.add_api_route("/", endpoint, name="endpoint", **options)
    document_streams(app)
    return app.openapi()


def test_a_subscription_that_is_returned_is_documented_as_any_response() -> None:
    broker = Broker()

    async def other(last_event_id: LastEventId) -> EventSourceResponse:
        return EventSourceResponse([1])

    document = documented(returned(broker, "news"), response_class=EventSourceResponse)
    assert document == documented(other, response_class=EventSourceResponse)
    operation = document["paths"]["/"]["get"]
    assert {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]} == {
        ("header", "Last-Event-ID"),
        ("query", "last_event_id"),
        ("query", "lastEventId"),
    }
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]


def test_delivered_events_are_documented_as_any_event() -> None:
    async def any_event() -> AsyncIterable[ServerSentEvent]:
        yield ServerSentEvent()

    async def delivered() -> AsyncIterable[DeliveredEvent]:
        async for event in Broker().subscribe("news"):
            yield event

    async def closed() -> AsyncIterable[Closed]:
        yield Closed.create("")

    async def delivered_or_closed() -> AsyncIterable[DeliveredEvent | Closed]:
        yield Closed.create("")

    streamed = partial(documented, response_class=EventSourceResponse)
    assert streamed(delivered) == streamed(any_event)
    # As with a ServerSentEvent, it says nothing of the others.
    assert streamed(delivered_or_closed) == streamed(closed)


async def test_the_document_needs_no_open_broker_and_opens_none(log: Log) -> None:
    broker = Broker(**log)
    app = FastAPI(lifespan=broker.lifespan)
    app.add_api_route("/", yielded(broker, "news"), response_class=EventSourceResponse)
    document_streams(app)
    assert "itemSchema" in app.openapi()["paths"]["/"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    with pytest.raises(BrokerClosed):
        await broker.publish("news", "too early")
