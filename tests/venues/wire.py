"""The edge of an exchange: a request as it came in, what is said back, and how a signature is checked."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Protocol
from urllib.parse import parse_qsl

from app.domain.money import ZERO
from tests.venues.orders import ONE


class Intent(Enum):
    """What a request is for."""

    PLACE = "place an order"
    CANCEL = "cancel an order"
    LOOK = "look an order up"
    ACCOUNT = "ask about the account"
    SET = "change a setting"
    LEAVE = "close a position or a part of it"
    MODIFY = "change what stands: levels, prices"
    SESSION = "open, prove or end a session"
    PUBLIC = "ask for public data"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One HTTP request, exactly as sent."""

    host: str
    method: str
    path: str
    query: str
    body: str
    headers: Mapping[str, str]
    intent: Intent
    client_order_id: str | None
    """Of the order it places, cancels or asks about, when it names one."""
    ip: str = "127.0.0.1"
    judged_at: int | None = None
    """When its validity window is checked; None is when it is carried out."""

    @property
    def places(self) -> bool:
        """Whether it is meant to place an order."""
        return self.intent is Intent.PLACE


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is out of the ordinary for one request."""

    fraction: Decimal = ONE
    """Of the order it places, how much one point of the price fills."""
    lag: float = 0.0
    """For how many seconds the order it places stays out of queries."""
    copies: int = 1
    """How many times the order it places is carried out."""


CALM = Conditions()
"""Nothing is."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a status, a JSON body, headers."""

    payload: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The body."""
        return json.dumps(self.payload, separators=(",", ":"))


class Refusal(Exception):
    """The exchange says no, in its own words."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text())
        self.reply = reply


class Dialect(Protocol):
    """One API of an exchange."""

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts it answers on."""

    def describe(self, host: str, method: str, path: str, query: str, body: str) -> tuple[Intent, str | None]:
        """What a request is for, and which client order id it names."""

    def answer(self, request: WireRequest, conditions: Conditions) -> Reply:
        """Carry a request out. What is refused is answered too: this never raises Refusal."""


class Params(Mapping[str, str]):
    """The parameters of a request, with a venue's own words for what is missing or malformed."""

    def __init__(
        self,
        values: Mapping[str, str],
        missing: Callable[[str], Refusal],
        malformed: Callable[[str], Refusal],
    ) -> None:
        self._values = values
        self._missing = missing
        self._malformed = malformed

    def __getitem__(self, name: str) -> str:
        """The text of a parameter."""
        return self._values[name]

    def __iter__(self) -> Any:
        """The names."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._values)

    def required(self, name: str) -> str:
        """The text of a parameter that must be there."""
        value = self._values.get(name, "")
        if not value:
            raise self._missing(name)
        return value

    def amount(self, name: str) -> Decimal | None:
        """A number above or at zero; None without it."""
        value = self._values.get(name, "")
        if not value:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise self._malformed(name) from None
        if not number.is_finite() or number < ZERO:
            raise self._malformed(name)
        return number

    def positive(self, name: str) -> Decimal | None:
        """A number above zero; None without it or when it is zero."""
        return self.amount(name) or None

    def required_amount(self, name: str) -> Decimal:
        """A number that must be there."""
        self.required(name)
        number = self.amount(name)
        assert number is not None
        return number

    def flag(self, name: str) -> bool:
        """A boolean; false without it."""
        return self._values.get(name, "").lower() in ("true", "1")

    def integer(self, name: str) -> int | None:
        """A whole number; None without it."""
        number = self.amount(name)
        return None if number is None else int(number)


def parsed(request_text: str) -> dict[str, str]:
    """The parameters in a query string or a form."""
    return dict(parse_qsl(request_text, keep_blank_values=True))


def signature(secret: str, payload: str) -> str:
    """HMAC-SHA256, in hex."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def is_signed_by(secret: str, payload: str, claimed: str) -> bool:
    """Whether a signature is right."""
    return hmac.compare_digest(signature(secret, payload), claimed)


def plain(amount: Decimal, places: int | None = None) -> str:
    """A number as venues write it: never with an exponent, with `places` behind the point if asked."""
    if places is not None:
        return f"{amount:.{places}f}"
    written = f"{amount:f}"
    return written.rstrip("0").rstrip(".") if "." in written else written
