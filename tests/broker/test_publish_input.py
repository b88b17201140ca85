"""What can't be used is refused where it is given, in words that name it and say what would do."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from tests.broker.contract.reading import data, fill, take
from tidings import Broker, Event, ServerSentEvent
from tidings.errors import ItemError

pytestmark = pytest.mark.anyio


class Depth(Event[float]):
    pass


class Unsendable(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: Any


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker(max_event_size=1_000) as broker:
        yield broker


# -- a broker ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("", "memory", "nonsense", "/var/lib/events.db", "events.db", "postgres://localhost/db", "MEMORYS://"),
        *("memory://x", "memory:///x", "memory://?history=5", "memory://#x", "memory://user@"),
        *("sqlite://", "sqlite:///", "sqlite:", "sqlite:events.db", "sqlite://events.db", "sqlite://host/events.db"),
        *("sqlite:///:memory:", "sqlite:////", "sqlite:///events.db#x", "sqlite:///a\0b"),
        *("sqlite:///events.db?synchronous=OFF", "sqlite:///events.db?synchronous=", "sqlite:///events.db?history=5"),
        *("sqlite:///events.db?synchronous", "sqlite:///events.db?synchronous=FULL&x=1", "http://[", "//", "://"),
    ],
)
def test_a_url_that_names_no_storage_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        Broker(url)


@pytest.mark.parametrize("url", ["postgres://localhost/db", "", "events.db"])
def test_the_refusal_of_a_url_lists_those_there_are(url: str) -> None:
    with pytest.raises(ValueError, match=r"memory://.*sqlite:///.*redis://.*rediss://.*unix:///.*valkey://"):
        Broker(url)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://:secret@localhost/x", "redis://user:secret@localhost:port", "rediss://localhost/x?password=secret"),
        *("redis://:se?secret@localhost", "redis://:se#secret@localhost", "redis://:se/secret@localhost/0"),
        *("redis://:secret@", "redis://secret@:0", "redis://localhost?passwd=secret", "redis://localhost:secret"),
        *("unix://:secret@", "unix://user:secret@/run/redis.sock?db=x", "valkeys://:secret@localhost:0"),
        *("redis:/:secret@localhost", "redis:secret@localhost", "redis+tls://:secret@localhost", ":secret@localhost"),
        *("postgres://user:secret@localhost", "keydb://localhost?password=secret"),
        *("sqlite://user:secret@localhost/events.db", "memory://:secret@localhost", "@secret://localhost"),
        *("sqlite://user:secret@localhost/events.db?synchronous=OFF", "sqlite://user:secret@localhost/?x"),
    ],
)
def test_a_refusal_repeats_no_password(url: str) -> None:
    with pytest.raises(ValueError, match="url") as refusal:
        Broker(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", [None, 5, b"memory://", object()])
def test_a_url_is_a_str(url: Any) -> None:
    with pytest.raises(TypeError, match=r"'url' must be a str"):
        Broker(url)


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "sqlite:///events.db",
        "sqlite:////tmp/e.db",
        "sqlite:///a%20b.db",
        "sqlite:///e.db?synchronous=FULL",
        # Nobody listens on this port.
        "redis://127.0.0.1:1",
        "redis://user:secret@127.0.0.1:1/0",
        "rediss://127.0.0.1:1?password=secret",
        "unix:///nowhere.sock?db=2",
        "valkey://:se%40cret@127.0.0.1:1/3",
        "valkeys://127.0.0.1:1",
    ],
)
def test_making_a_broker_opens_nothing(url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Broker(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        *(({"history": wrong}, ValueError) for wrong in (-1, -1_000)),
        *(({"history": wrong}, TypeError) for wrong in (1.5, "10", True, math.inf)),
        *(({"max_event_size": wrong}, ValueError) for wrong in (0, -1)),
        *(({"max_event_size": wrong}, TypeError) for wrong in (1e6, "1", False)),
        *(
            ({name: wrong}, ValueError)
            for name in ("max_age", "forget_after", "publish_timeout")
            for wrong in (0, -1.0)
        ),
        *(({"max_age": wrong}, ValueError) for wrong in (math.nan, math.inf, -math.inf)),
        *(({"forget_after": wrong}, ValueError) for wrong in (math.nan, math.inf)),
        *(({"publish_timeout": wrong}, ValueError) for wrong in (math.nan, math.inf)),
        *(
            ({name: wrong}, TypeError)
            for name in ("max_age", "forget_after", "publish_timeout")
            for wrong in ("5", True)
        ),
        ({"namespace": ""}, ValueError),
        *(({"namespace": wrong}, TypeError) for wrong in (None, 5, b"tidings")),
    ],
    ids=str,
)
def test_an_option_that_can_not_be_used_is_named(options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=f"'{name}' must") as raised:
        Broker(**options)
    assert type(raised.value) is error


def test_an_option_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(TypeError, match="max_length"):
        Broker("memory://", max_length=5)  # type: ignore[call-arg]


# -- a channel --------------------------------------------------------------------------------------------------------

WRONG_CHANNELS = [
    ("", ValueError, "1 to 255 bytes"),
    ("a" * 256, ValueError, "1 to 255 bytes.*256"),
    ("é" * 128, ValueError, "1 to 255 bytes.*256"),
    ("🐟" * 64, ValueError, "1 to 255 bytes.*256"),
    ("a\nb", ValueError, "control characters"),
    ("a\rb", ValueError, "control characters"),
    ("\0", ValueError, "control characters"),
    ("a\tb", ValueError, "control characters"),
    ("\x1b[1m", ValueError, "control characters"),
    ("\x7f", ValueError, "control characters"),
    ("a\x85b", ValueError, "control characters"),
    ("\x9f", ValueError, "control characters"),
    ("\ud800", ValueError, "UTF-8"),
    (None, TypeError, "must be a str"),
    (5, TypeError, "must be a str"),
    (b"news", TypeError, "must be a str"),
    (["news"], TypeError, "must be a str"),
]


@pytest.mark.parametrize(("channel", "error", "message"), WRONG_CHANNELS, ids=lambda value: ascii(value)[:30])
async def test_a_name_that_is_no_channel_is_refused(
    broker: Broker, channel: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"channel.*{message}"):
        await broker.publish(channel, 1)
    with pytest.raises(error, match=f"channel.*{message}"):
        await broker.finish(channel)
    with pytest.raises(error, match=f"channel.*{message}"):
        broker.subscribe(channel)
    with pytest.raises(error, match=f"channel.*{message}"):
        broker.subscribe("news", channel)


def test_a_subscription_to_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="channel"):
        Broker().subscribe()
    with pytest.raises(ValueError, match="channel"):
        Broker().subscribe(*[], last_event_id="earliest")


@pytest.mark.parametrize("where", [5, "event.data > 5", True, [print]], ids=repr)
def test_a_filter_that_can_not_be_called_is_refused(where: Any) -> None:
    with pytest.raises(TypeError, match="'where' must be a function"):
        Broker().subscribe("news", where=where)


def test_a_filter_that_would_have_to_be_awaited_is_refused() -> None:
    async def where(event: object) -> bool:
        return False

    with pytest.raises(TypeError, match="'where' must be a plain function"):
        Broker().subscribe("news", where=where)


@pytest.mark.parametrize("last_event_id", [5, b"abc-1", ["abc-1"], True])
def test_an_id_that_is_no_str_is_refused(last_event_id: Any) -> None:
    with pytest.raises(TypeError, match="'last_event_id' must be a str or None"):
        Broker().subscribe("news", last_event_id=last_event_id)


# -- an event ---------------------------------------------------------------------------------------------------------


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


WRONG_EVENTS: list[tuple[str, Any, dict[str, Any], type[Exception], str]] = [
    ("two datas", 1, {"raw_data": "x"}, ValueError, "'data' and 'raw_data'"),
    ("raw that is no str", None, {"raw_data": b"x"}, TypeError, "'raw_data' must be a str"),
    ("a name of two lines", 1, {"event": "a\nb"}, ValueError, "'event' must be a single line"),
    ("a name with a return", 1, {"event": "a\rb"}, ValueError, "'event' must be a single line"),
    ("a name that is no str", 1, {"event": 5}, TypeError, "'event' must be a str"),
    ("a name that is no UTF-8", 1, {"event": "\ud800"}, ValueError, "'event'.*UTF-8"),
    ("raw that is no UTF-8", None, {"raw_data": "\udfff"}, ValueError, "'raw_data'.*UTF-8"),
    ("data that is no UTF-8", "\ud800", {}, ValueError, "'data'"),
    ("an object", object(), {}, ValueError, "'data'.*JSON"),
    ("an object inside", {"a": [object()]}, {}, ValueError, "'data'.*JSON"),
    ("a model that holds an object", Unsendable(thing=object()), {}, ValueError, "'data'.*JSON"),
    ("a circle", endless(), {}, ValueError, "'data'.*JSON"),
    ("no JSON with a name", object(), {"event": "named"}, ValueError, "'data'.*JSON"),
    ("an event with an id", ServerSentEvent(1, id="5"), {}, ValueError, "'id'.*broker's"),
    ("an event with an empty id", ServerSentEvent(1, id=""), {}, ValueError, "'id'.*broker's"),
    ("a typed event with an id", Depth.create(1.0, id="5"), {}, ValueError, "'id'.*broker's"),
    ("an event without data", ServerSentEvent(event="x"), {}, ValueError, "without data"),
    ("a comment alone", ServerSentEvent(comment="x"), {}, ValueError, "without data"),
    ("a retry alone", ServerSentEvent(retry=5), {}, ValueError, "without data"),
    ("nothing", ServerSentEvent(), {}, ValueError, "without data"),
    ("an event and a name", ServerSentEvent(1), {"event": "x"}, ValueError, "'event'.*ServerSentEvent"),
    ("an event and an empty name", ServerSentEvent(1), {"event": ""}, ValueError, "'event'.*ServerSentEvent"),
    ("an event and raw data", ServerSentEvent(1), {"raw_data": "x"}, ValueError, "'raw_data'.*ServerSentEvent"),
    ("a typed event and its name", Depth.create(1.0), {"event": "depth"}, ValueError, "'event'.*Depth"),
    ("a typed event and raw data", Depth.create(1.0), {"raw_data": ""}, ValueError, "'raw_data'.*Depth"),
    ("an event that is no JSON", ServerSentEvent(object()), {}, ValueError, "'data'.*JSON"),
    ("an event whose comment is no UTF-8", ServerSentEvent(1, comment="\ud800"), {}, ValueError, "'comment'.*UTF-8"),
    ("an event that is too large", "x" * 2_000, {}, ValueError, "max_event_size=1000"),
    ("raw that is too large", None, {"raw_data": "x" * 2_000}, ValueError, "max_event_size=1000"),
    ("a name that is too large", 1, {"event": "x" * 2_000}, ValueError, "max_event_size=1000"),
    ("a comment that is too large", ServerSentEvent(1, comment="\n" * 1_000), {}, ValueError, "max_event_size=1000"),
]


@pytest.mark.parametrize(
    ("data_", "options", "error", "message"),
    [row[1:] for row in WRONG_EVENTS],
    ids=[row[0] for row in WRONG_EVENTS],
)
async def test_what_is_no_event_is_refused_and_nothing_is_stored(
    broker: Broker, data_: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    (before,) = await fill(broker, "news", ["before"])
    with pytest.raises(error, match=message):
        await broker.publish("news", data_, **options)
    (after,) = await fill(broker, "news", ["after"])
    assert data(await take(broker.subscribe("news", last_event_id="earliest"), 2)) == ["before", "after"]
    assert [int(id.partition("-")[2]) for id in (before, after)] == [1, 2]


async def test_data_that_json_can_not_carry_is_the_error_of_a_stream(broker: Broker) -> None:
    with pytest.raises(ItemError):
        await broker.publish("news", object())


async def test_an_event_may_have_just_the_size_that_is_allowed(broker: Broker) -> None:
    largest = 0
    for size in range(900, 1_100):
        try:
            id = await broker.publish("news", raw_data="x" * size)
        except ValueError:
            break
        largest = len(f"data: {'x' * size}\nid: {id}\n\n")
    assert 980 <= largest <= 1_020


async def test_what_looks_odd_is_published_all_the_same(broker: Broker) -> None:
    odd: list[Any] = [None, False, 0, "", [], {}, "data: x\n\nid: 5", "\u2028", "\0", {"": None}]
    await fill(broker, "news", odd)
    assert data(await take(broker.subscribe("news", last_event_id="earliest"), len(odd))) == odd
