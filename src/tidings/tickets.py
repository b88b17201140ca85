"""Tickets: what opens a stream once, for those who can't send a login with it.

A browser's `EventSource` sets no headers, and what stands in a URL is written to logs. So the page, which has a login,
asks for a ticket and puts that into the URL: a few seconds later, and once it was used, it is worth nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException

from tidings.broker import Broker
from tidings.errors import PublishError, TicketRefused

try:
    from itsdangerous import BadData, URLSafeTimedSerializer
except ImportError as error:
    raise ImportError("tidings.tickets needs itsdangerous: pip install 'tidings[tickets]'") from error

__all__ = ["Ticket", "Tickets"]

_SECRET_BYTES: Final = 16
"""A shorter secret could be guessed."""

_SHORTEST_LIFE: Final = 2.0
"""Seconds. A ticket says in whole seconds when it was issued, so it lives for up to one less."""

_LONGEST_LIFE: Final = 3_600.0
"""Seconds. What opens a stream for longer is a login, and doesn't belong into a URL."""

_TICKET_BYTES: Final = 2_048
"""What every proxy lets pass in a URL, and more than a ticket needs."""

_SKEW: Final = 60.0
"""Seconds by which the clocks of machines may differ: for so long a ticket is remembered after its end."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says.

    Attributes:
        subject: for whom it was issued.
        data: what else was given to `Tickets.issue`.
    """

    subject: str
    data: dict[str, Any]


class Tickets:
    """Issues tickets, and redeems each once, in whichever process that shares the secret and the broker's log.

    Args:
        secret: signs them, 16 bytes at least: `secrets.token_urlsafe(32)` makes one. Of several the last signs, and all
            are recognized: a new one is put behind the old one, which may go when its tickets have expired.
        broker: remembers which were used.
        max_age: seconds for which a ticket is worth something, 2 to 3,600; it may be up to one less.

    Raises:
        TypeError, ValueError: an argument can't be used.
    """

    def __init__(self, secret: str | bytes | Iterable[str | bytes], broker: Broker, *, max_age: float = 30.0) -> None:
        given = [secret] if isinstance(secret, str | bytes) else list(secret)
        if not all(isinstance(key, str | bytes) for key in given):
            raise TypeError("'secret' must be a str or bytes, or several of them")
        keys = [key.encode() if isinstance(key, str) else key for key in given]
        if not keys or min(map(len, keys)) < _SECRET_BYTES:
            raise ValueError(f"'secret' must have {_SECRET_BYTES} bytes at least: secrets.token_urlsafe() makes one")
        if not isinstance(max_age, int | float) or isinstance(max_age, bool):
            raise TypeError(f"'max_age' must be seconds, not {max_age!r}")
        if not _SHORTEST_LIFE <= max_age <= _LONGEST_LIFE:
            raise ValueError(f"'max_age' must be {_SHORTEST_LIFE:g} to {_LONGEST_LIFE:g} seconds, not {max_age!r}")
        self._serializer = URLSafeTimedSerializer(
            keys,
            salt=b"tidings.tickets",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
        self._broker = broker
        self._max_age = max_age

    def issue(self, subject: str, **data: Any) -> str:
        """A new ticket, which may stand in a URL as it is.

        Args:
            subject: for whom it is.
            data: what else the stream is to know of its reader; what JSON can carry. It is signed, but anybody who
                sees the ticket can read it.

        Raises:
            TypeError: the subject is no `str`, or JSON can't carry the data.
            ValueError: the subject is empty, or the ticket has more than 2,048 bytes.
        """
        if not isinstance(subject, str):
            raise TypeError(f"'subject' must be a str, not {type(subject).__name__}")
        if not subject:
            raise ValueError("'subject' must not be empty")
        ticket = self._serializer.dumps([secrets.token_urlsafe(16), subject, data])
        if len(ticket) > _TICKET_BYTES:
            raise ValueError(f"the ticket has {len(ticket)} bytes, more than {_TICKET_BYTES}: give it less data")
        return ticket

    async def redeem(self, ticket: str) -> Ticket:
        """What the ticket says; from now on it is used.

        Raises:
            BrokerClosed: the broker is not open.
            PublishError: it may or may not be used now.
            TicketRefused: it is worth nothing; `reason` says why.
        """
        if not ticket:
            raise TicketRefused("missing")
        if len(ticket) > _TICKET_BYTES or not ticket.isascii():
            raise TicketRefused("forged")
        try:
            (id, subject, data), issued = self._serializer.loads(ticket, return_timestamp=True)
        except BadData:
            raise TicketRefused("forged") from None
        # Not by the library's own max_age: to that a clock that is a second behind the issuer's is an error.
        left = self._max_age - (time.time() - issued.timestamp())
        if left <= 0:
            raise TicketRefused("expired")
        if not await self._broker.claim(f"ticket:{id}", left + _SKEW):
            raise TicketRefused("used")
        return Ticket(subject, data)

    async def required(self, ticket: str = "") -> Ticket:
        """`redeem` for an endpoint: as a dependency of FastAPI it takes the query parameter `ticket`.

        Raises:
            HTTPException: 401, it is missing, expired or used: the client needs a new one. 403, it is forged. 503, it
                can't be redeemed now.
        """
        try:
            return await self.redeem(ticket)
        except TicketRefused as refused:
            forged = refused.reason == "forged"
            challenge = None if forged else {"www-authenticate": 'Bearer error="invalid_token"'}
            raise HTTPException(403 if forged else 401, f"The ticket is {refused.reason}.", challenge) from None
        except PublishError as error:
            raise HTTPException(503, "Tickets can't be redeemed, try again later.", {"retry-after": "5"}) from error
