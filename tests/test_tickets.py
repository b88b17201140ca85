"""Tickets open a stream once, and soon; nothing tells who holds none how to make one."""

import asyncio
import base64
import logging
import string
import traceback
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asgi import fetch
from tidings import Broker, EventSourceResponse, tickets
from tidings.errors import BrokerClosed, PublishError, TicketRefused
from tidings.tickets import Ticket, Tickets

pytestmark = pytest.mark.anyio

SECRET = "a lighthouse keeper's"
OTHER = "some other keeper's secret"


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as broker:
        yield broker


class Clock:
    """In place of the module `time` of tickets and of the library that signs them."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tickets, "time", clock)
    monkeypatch.setattr("itsdangerous.timed.time", clock)
    return clock


async def reason(pending: Any) -> str:
    """Why a ticket is refused."""
    with pytest.raises(TicketRefused) as refused:
        await pending
    assert str(refused.value) == f"the ticket is {refused.value.reason}"
    return refused.value.reason


async def test_a_ticket_says_what_was_put_into_it_once(broker: Broker) -> None:
    office = Tickets(SECRET, broker)
    ticket = office.issue("ada 🐟", channels=["orders", "é"], until=1.5)
    assert set(ticket) <= set(string.ascii_letters + string.digits + "-_.")
    assert await office.redeem(ticket) == Ticket("ada 🐟", {"channels": ["orders", "é"], "until": 1.5})
    for _ in range(2):
        assert await reason(office.redeem(ticket)) == "used"
    assert (await office.redeem(office.issue("ada"))).data == {}


async def test_of_many_who_come_with_one_ticket_one_gets_in(broker: Broker) -> None:
    office = Tickets(SECRET, broker)
    ticket = office.issue("ada")
    results = await asyncio.gather(*(office.redeem(ticket) for _ in range(50)), return_exceptions=True)
    assert results.count(Ticket("ada", {})) == 1
    assert sum(isinstance(result, TicketRefused) and result.reason == "used" for result in results) == 49


async def test_a_used_ticket_is_used_in_every_process_that_shares_the_log(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    async with Broker(url) as one, Broker(url) as other:
        ticket = Tickets(SECRET, one).issue("ada")
        assert (await Tickets(SECRET, other).redeem(ticket)).subject == "ada"
        assert await reason(Tickets(SECRET, one).redeem(ticket)) == "used"


async def test_a_ticket_expires(broker: Broker, clock: Clock) -> None:
    office = Tickets(SECRET, broker, max_age=30)
    young, old, redeemed = office.issue("young"), office.issue("old"), office.issue("redeemed")
    clock.now += 29
    assert (await office.redeem(young)).subject == "young"
    assert (await office.redeem(redeemed)).subject == "redeemed"
    clock.now += 1
    assert await reason(office.redeem(old)) == "expired"
    # One that was redeemed is worth nothing either, on a machine whose clock is behind.
    clock.now -= 50
    assert await reason(office.redeem(redeemed)) == "used"
    assert (await office.redeem(office.issue("new"))).subject == "new"


async def test_an_issuer_whose_clock_is_ahead_does_no_harm(broker: Broker, clock: Clock) -> None:
    office = Tickets(SECRET, broker)
    clock.now += 45
    ticket = office.issue("ada")
    clock.now -= 45
    assert (await office.redeem(ticket)).subject == "ada"
    assert await reason(office.redeem(ticket)) == "used"


async def test_a_used_ticket_is_remembered_for_longer_than_any_machine_takes_it(
    broker: Broker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[float] = []

    async def claim(key: str, seconds: float) -> bool:
        claimed.append(seconds)
        return True

    monkeypatch.setattr(broker, "claim", claim)
    office = Tickets(SECRET, broker, max_age=30)
    ticket = office.issue("ada")
    for ahead in (0, 20, -40):
        clock.now += ahead
        await office.redeem(ticket)
    assert claimed == [90, 70, 110]


NONE = [
    "ada",
    ".",
    "..",
    "a.b.c",
    "é",
    "\ud800",
    "\0",
    "x" * 100_000,
    "WyJpZCIsImFkYSIse31d.aaaa.bbbb",
]


@pytest.mark.parametrize("ticket", NONE)
async def test_what_is_no_ticket_is_forged(broker: Broker, ticket: str) -> None:
    assert await reason(Tickets(SECRET, broker).redeem(ticket)) == "forged"


async def test_no_ticket_at_all_is_missing(broker: Broker) -> None:
    assert await reason(Tickets(SECRET, broker).redeem("")) == "missing"


async def test_a_changed_ticket_is_forged_wherever_it_was_changed(broker: Broker) -> None:
    office = Tickets(SECRET, broker)
    ticket = office.issue("ada", admin=False)
    for place, letter in enumerate(ticket[:-1]):  # in the last one not every bit counts
        changed = ticket[:place] + ("A" if letter != "A" else "B") + ticket[place + 1 :]
        assert await reason(office.redeem(changed)) == "forged"
    assert (await office.redeem(ticket)).subject == "ada"


@given(ticket=st.text(alphabet=string.ascii_letters + string.digits + "-_.", max_size=200))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_nobody_guesses_a_ticket(ticket: str) -> None:
    assert ticket == "" or asyncio.run(reason(Tickets(SECRET, Broker()).redeem(ticket))) == "forged"


async def test_a_ticket_of_another_secret_is_forged_and_claims_nothing(broker: Broker) -> None:
    ticket = Tickets(OTHER, broker).issue("ada")
    assert await reason(Tickets(SECRET, broker).redeem(ticket)) == "forged"
    assert (await Tickets(OTHER, broker).redeem(ticket)).subject == "ada"


async def test_a_ticket_that_is_longer_than_any_is_not_even_looked_at(broker: Broker) -> None:
    office = Tickets(SECRET, broker)
    assert (await office.redeem(office._serializer.dumps(["an id", "ada", {}]))).subject == "ada"
    long = office._serializer.dumps(["another id", "ada", {"data": [number**3 for number in range(1_000)]}])
    assert await reason(office.redeem(long)) == "forged"


async def test_a_large_payload_is_not_unpacked_before_its_signature_is_checked(broker: Broker) -> None:
    packed = base64.urlsafe_b64encode(zlib.compress(b"[" * 1_000_000, 9)).decode().rstrip("=")
    assert len(packed) < 2_000
    assert await reason(Tickets(SECRET, broker).redeem(f".{packed}.aaaa.bbbb")) == "forged"


async def test_secrets_are_changed_one_behind_the_other(broker: Broker) -> None:
    before = Tickets(SECRET, broker)
    both = Tickets([SECRET, OTHER.encode()], broker)
    after = Tickets(OTHER, broker)
    assert (await both.redeem(before.issue("old"))).subject == "old"
    assert (await after.redeem(both.issue("new"))).subject == "new"
    assert await reason(before.redeem(both.issue("new"))) == "forged"
    assert await reason(after.redeem(before.issue("old"))) == "forged"


@pytest.mark.parametrize("secret", ["", "short", b"fifteen bytes..", [], [SECRET, "short"], None, 5, [SECRET, 5]])
def test_a_secret_that_is_none_or_could_be_guessed_is_refused_and_not_repeated(secret: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        Tickets(secret, Broker())
    assert "short" not in str(refused.value)
    assert "fifteen" not in str(refused.value)


@pytest.mark.parametrize("max_age", [0, -1, 1.9, 3_601, float("nan"), float("inf"), "30", True, None])
def test_an_age_that_is_none_too_short_or_too_long_is_refused(max_age: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="'max_age'"):
        Tickets(SECRET, Broker(), max_age=max_age)


def test_what_can_not_be_issued() -> None:
    office = Tickets(SECRET, Broker())
    for subject in (1, None, b"ada"):
        with pytest.raises(TypeError, match="'subject'"):
            office.issue(subject)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'subject'"):
        office.issue("")
    with pytest.raises(TypeError, match="JSON"):
        office.issue("ada", when=object())
    with pytest.raises(ValueError, match="2048"):
        office.issue("ada", data=[number**3 for number in range(1_000)])


async def test_a_broker_that_is_not_open_or_can_not_answer(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Tickets(SECRET, Broker())
    with pytest.raises(BrokerClosed):
        await closed.redeem(closed.issue("ada"))

    async def claim(key: str, seconds: float) -> bool:
        raise PublishError("the server is away")

    office = Tickets(SECRET, broker)
    monkeypatch.setattr(broker, "claim", claim)
    with pytest.raises(PublishError):
        await office.redeem(office.issue("ada"))


def app_with(office: Tickets) -> FastAPI:
    app = FastAPI()

    @app.get("/orders")
    async def orders(ticket: Annotated[Ticket, Depends(office.required)]) -> EventSourceResponse:
        return EventSourceResponse([ticket.subject])

    return app


async def test_a_dependency_of_fastapi_takes_it_from_the_query(broker: Broker, clock: Clock) -> None:
    office = Tickets(SECRET, broker)
    app = app_with(office)
    ticket, late = office.issue("ada"), office.issue("late")
    client = await fetch(app, f"/orders?ticket={ticket}")
    assert (client.status, client.body) == (200, b'data: "ada"\n\n')
    clock.now += 31
    for path, status, why in [
        (f"/orders?ticket={office.issue('ada')}x", 403, "forged"),
        (f"/orders?ticket={late}", 401, "expired"),
        ("/orders?ticket=", 401, "missing"),
        ("/orders", 401, "missing"),
    ]:
        client = await fetch(app, path)
        assert (client.status, client.body) == (status, b'{"detail":"The ticket is %b."}' % why.encode())
        assert ("www-authenticate" in client.headers) is (status == 401)
    clock.now -= 31
    client = await fetch(app, f"/orders?ticket={ticket}")
    assert (client.status, client.body) == (401, b'{"detail":"The ticket is used."}')
    (parameter,) = app.openapi()["paths"]["/orders"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("ticket", "query", False)


async def test_a_log_that_can_not_be_reached_is_503(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(key: str, seconds: float) -> bool:
        raise PublishError("redis://secret-host is away")

    office = Tickets(SECRET, broker)
    monkeypatch.setattr(broker, "claim", claim)
    client = await fetch(app_with(office), f"/orders?ticket={office.issue('ada')}")
    assert client.status == 503
    assert int(client.headers["retry-after"]) > 0
    assert b"secret-host" not in client.body


async def test_nothing_tells_the_secret_or_the_ticket(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    office = Tickets(SECRET, broker)
    told = [repr(office), str(office)]
    ticket = office.issue("ada")
    with caplog.at_level(logging.DEBUG):
        await office.redeem(ticket)
        for worthless in (ticket, ticket[:-5], Tickets(OTHER, broker).issue("ada")):
            try:
                await office.redeem(worthless)
            except TicketRefused as refused:
                told.append("".join(traceback.format_exception(refused)))
                assert worthless[-20:] not in told[-1]
    told.append(caplog.text)
    assert not any(SECRET in text or ticket[:20] in text for text in told)
