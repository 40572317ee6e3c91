"""Tariffs: what each venue's limits are, as data, and what its answers say of them.

A limit counts requests, the weights that the class gives them, or orders; for everybody at one address, or for an
account. A venue that is not in the table has one limit, of its address, at the pace that the class keeps.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

from app.brokers.limits.buckets import BUCKET, Charge, Limit, Urgency, spaced
from app.brokers.limits.gate import Gate


class Level(Enum):
    """Whom a venue counts."""

    ADDRESS = "address"
    ACCOUNT = "account"


class Counts(Enum):
    """What a limit counts."""

    REQUESTS = "requests"
    UNITS = "units"
    """What the class says a request costs."""
    ORDERS = "orders"


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of a venue."""

    name: str
    level: Level
    limit: Limit
    counts: Counts
    scale: float = 1.0
    """The venue's units in one of the class's."""
    by_endpoint: bool = False
    """Whether each endpoint has a bucket of its own."""
    used: str = ""
    """The header, in lower case, that tells how much of the present window is gone."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What an answer asks for: nothing more from these, for so many seconds unless it says how many."""

    level: Level
    seconds: float


@dataclass(frozen=True, slots=True)
class Tariff:
    """The limits of one API of a venue."""

    name: str
    """What shares them: the API's host."""
    rules: Sequence[Rule]
    orders: frozenset[str] = frozenset()
    """The paths that place orders when something is posted to them."""
    units: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By method and path, what requests cost in the class's units where its own figure is another."""
    elsewhere: frozenset[str] = frozenset()
    """Sections of the class whose requests go to another API, with limits of its own."""
    silences: Mapping[str, Silence] = field(default_factory=dict)
    """Codes of answers and statuses of HTTP, codes first, beside those that all venues share."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: how it goes out, and what the class says it costs."""

    method: str
    path: str
    units: float
    section: str = ""
    """Of the class's list of end points."""


_SILENCES: Final = {"418": Silence(Level.ADDRESS, 60), "429": Silence(Level.ADDRESS, 5)}

_BINANCE_SILENCES: Final = {"-1015": Silence(Level.ACCOUNT, 10), "-1003": Silence(Level.ADDRESS, 5)}

_USED_WEIGHT: Final = "x-mbx-used-weight-1m"
_ORDERS_10S: Final = "x-mbx-order-count-10s"
_ORDERS_1M: Final = "x-mbx-order-count-1m"

_BINANCE_SPOT: Final = Tariff(
    "api.binance.com",
    (
        # The class counts 0.2 for a weight of 1.
        Rule("weight", Level.ADDRESS, Limit(6000, 60, 600), Counts.UNITS, 5, used=_USED_WEIGHT),
        Rule("orders-10s", Level.ACCOUNT, Limit(50, 10, 20), Counts.ORDERS, used=_ORDERS_10S),
    ),
    orders=frozenset({"order", "orderList/oco"}),
    elsewhere=frozenset({"sapi"}),
    silences=_BINANCE_SILENCES,
)
_BINANCE_USDM: Final = Tariff(
    "fapi.binance.com",
    (
        Rule("weight", Level.ADDRESS, Limit(2400, 60, 240), Counts.UNITS, used=_USED_WEIGHT),
        Rule("orders-10s", Level.ACCOUNT, Limit(300, 10, 100), Counts.ORDERS, used=_ORDERS_10S),
        Rule("orders-1m", Level.ACCOUNT, Limit(1200, 60, 200), Counts.ORDERS, used=_ORDERS_1M),
    ),
    orders=frozenset({"order", "algoOrder"}),
    elsewhere=frozenset({"sapi"}),
    units={
        # The class's 4 stand for the account's limit of orders; of the address's weight an order takes nothing.
        ("POST", "order"): 0,
        ("POST", "algoOrder"): 0,
        # In their second and third versions the class counts 1.
        ("GET", "positionRisk"): 5,
        ("GET", "account"): 5,
        ("GET", "balance"): 5,
    },
    silences=_BINANCE_SILENCES,
)
_BYBIT: Final = Tariff(
    "api.bybit.com",
    (
        Rule("requests", Level.ADDRESS, Limit(600, 5, 100), Counts.REQUESTS),
        # A rolling second per account and endpoint; the class counts in fiftieths of a second.
        Rule("endpoint", Level.ACCOUNT, Limit(50, 1, 25), Counts.UNITS, by_endpoint=True),
    ),
    orders=frozenset({"v5/order/create"}),
    # Ten linear orders or cancels a second; the class reckons with the twenty of spot.
    units={("POST", "v5/order/create"): 5, ("POST", "v5/order/cancel"): 5},
    silences={"403": Silence(Level.ADDRESS, 600), "10006": Silence(Level.ACCOUNT, 1)},
)

_TARIFFS: Final[Mapping[tuple[str, str], Tariff]] = {
    ("binance", "spot"): _BINANCE_SPOT,
    ("binance", "swap"): _BINANCE_USDM,
    ("binanceusdm", "swap"): _BINANCE_USDM,
    ("bybit", "spot"): _BYBIT,
    ("bybit", "swap"): _BYBIT,
}


def tariff_of(exchange: str, market_type: str, pace: float) -> Tariff:
    """The limits of an exchange's API; with `pace`, the class's seconds per unit, where the table has none."""
    return _TARIFFS.get((exchange, market_type)) or Tariff(
        exchange, (Rule("units", Level.ADDRESS, spaced(pace), Counts.UNITS),)
    )


def charges_of(tariff: Tariff, asked: Asked, address: str, account: str | None) -> list[Charge]:
    """What a request takes, and from whom; without an account, from the address alone."""
    charges: list[Charge] = []
    if asked.section in tariff.elsewhere:
        return charges
    for rule in tariff.rules:
        scope, units = address if rule.level is Level.ADDRESS else account, _units(tariff, rule, asked)
        if scope is not None and units > 0:
            charges.append(Charge(_bucket(scope, rule, asked.path), rule.limit, units))
    return charges


def _units(tariff: Tariff, rule: Rule, asked: Asked) -> float:
    is_order = asked.method == "POST" and asked.path in tariff.orders
    match rule.counts:
        case Counts.REQUESTS:
            return 1
        case Counts.ORDERS:
            return float(is_order)
        case Counts.UNITS:
            return tariff.units.get((asked.method, asked.path), asked.units) * rule.scale


_SKEW: Final = 1.0
"""Seconds into a window of the venue in which its figures may still be of the one before."""

_LONGEST_RESET: Final = 60.0
"""Seconds that a header which no venue's documentation vouches for may silence us."""

_FAMILIES: Final = ("x-ratelimit-", "ratelimit-", "x-rate-limit-")


class Toll:
    """What one exchange object pays: its turns at the gate, and what it hears there of the venue's own counts."""

    def __init__(self, gate: Gate, tariff: Tariff, account: str | None) -> None:
        self._gate = gate
        self._tariff = tariff
        self._address = gate.address
        # Whoever asks without a key is one caller among the accounts, and has the address alone to answer for.
        self._account = account
        self._silences = {**_SILENCES, **tariff.silences}

    def turn(self, asked: Asked, urgency: Urgency, patience: float) -> AbstractAsyncContextManager[None]:
        """Wait for a request's turn for so many seconds; inside, it may be sent. Raises Stopped."""
        return self._gate.turn(
            self._account or self._address,
            charges_of(self._tariff, asked, self._address, self._account),
            urgency,
            patience,
        )

    def now(self) -> float:
        """The moment by the clock that the limits are kept by, in seconds since 1970."""
        return self._gate.ledger.now()

    def heed(
        self, asked: Asked, code: str | None, status: int, headers: Mapping[str, str], sent_at: float
    ) -> None:
        """Take over what the answer to a request says of the limits."""
        told = {name.lower(): value for name, value in headers.items()}
        if asked.section not in self._tariff.elsewhere:
            self._learn(asked.path, told, sent_at)
        silence = self._silences.get(code or "") or self._silences.get(str(status))
        if silence is not None:
            given = _retry_after(told.get("retry-after", ""), self.now())
            self._hush(silence.level, silence.seconds if given is None else given)
        elif (seconds := _exhausted(told, self.now())) > 0:
            self._hush(Level.ACCOUNT, min(seconds, _LONGEST_RESET))

    async def tell(self) -> None:
        """Let the other processes know what the venue has asked for."""
        await self._gate.ledger.tell()

    def _scope(self, level: Level) -> str | None:
        return self._address if level is Level.ADDRESS else self._account

    def _hush(self, level: Level, seconds: float) -> None:
        self._gate.ledger.hush(self._scope(level) or self._address, seconds)

    def _learn(self, path: str, told: Mapping[str, str], sent_at: float) -> None:
        for rule in self._tariff.rules:
            scope, used = self._scope(rule.level), _number(told.get(rule.used, ""))
            began = sent_at - sent_at % rule.limit.seconds
            # Clocks differ a little: in a window's first moments the figure may be all of the window before.
            if scope is not None and used is not None and sent_at - began >= _SKEW:
                self._gate.ledger.learn(
                    _bucket(scope, rule, path), rule.limit, used, began + rule.limit.seconds
                )
            if scope is not None and rule.by_endpoint:
                self._learn_endpoint(_bucket(scope, rule, path), rule.limit, told)

    def _learn_endpoint(self, bucket: str, limit: Limit, told: Mapping[str, str]) -> None:
        """Bybit's way: how many requests an endpoint takes in its window, and how many are left."""
        most, left = _number(told.get("x-bapi-limit", "")), _number(told.get("x-bapi-limit-status", ""))
        until = _number(told.get("x-bapi-limit-reset-timestamp", ""))
        if most and left is not None and until is not None:
            used = limit.capacity * (1 - left / most)
            self._gate.ledger.learn(bucket, limit, used, min(until / 1000, self.now() + limit.seconds))


def _bucket(scope: str, rule: Rule, path: str) -> str:
    return BUCKET.join((scope, rule.name, path) if rule.by_endpoint else (scope, rule.name))


def _number(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def _retry_after(text: str, now: float) -> float | None:
    """Seconds from a `Retry-After`, which may be a number or a date."""
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.astimezone(UTC).timestamp() - now)


_MILLISECONDS: Final = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
_SECONDS: Final = datetime(2001, 1, 1, tzinfo=UTC).timestamp()


def _exhausted(told: Mapping[str, str], now: float) -> float:
    """Seconds until something is left again, where a header of the usual names says that nothing is."""
    for family in _FAMILIES:
        reset = _number(told.get(f"{family}reset", ""))
        if _number(told.get(f"{family}remaining", "")) == 0 and reset is not None:
            # Venues write seconds from now, or the moment in seconds or in milliseconds.
            if reset > _MILLISECONDS:
                return reset / 1000 - now
            return reset - now if reset > _SECONDS else reset
    return 0.0
