"""Orders: what we ask of a venue, what it says became of it, and how reports are merged."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from app.domain.money import ZERO, exact


class Side(StrEnum):
    """Direction of an order."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> "Side":
        """The side that closes what this one opened."""
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        """+1 for buys, −1 for sells."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    """How an order is filled.

    `stop` waits at its trigger price and then sells at market; `take_profit` waits at its price;
    `oco` is both at once, and whichever is reached first takes the quantity.
    """

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    TAKE_PROFIT = "take_profit"
    OCO = "oco"


class TriggerSource(StrEnum):
    """Which price of a swap wakes its stops: the venue's fair price, its last trade, or the index behind it."""

    MARK = "mark"
    LAST = "last"
    INDEX = "index"


class Purpose(StrEnum):
    """Why an order exists: to open a position, to protect it at the venue, or to leave it now."""

    ENTRY = "entry"
    PROTECTION = "protection"
    CLOSE = "close"


class OrderStatus(StrEnum):
    """Where an order of ours stands.

    `pending` intended, not on its way. `sending` claimed: it may or may not have reached the venue.
    `open` acknowledged and live. The rest is final; a final order may be filled in part.
    """

    PENDING = "pending"
    SENDING = "sending"
    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    NEEDS_REVIEW = "needs_review"


LIVE = frozenset({OrderStatus.PENDING, OrderStatus.SENDING, OrderStatus.OPEN, OrderStatus.NEEDS_REVIEW})
"""States in which an order may still change what we hold."""

FINAL = frozenset(OrderStatus) - LIVE

_ON_THE_WAY = (OrderStatus.PENDING, OrderStatus.SENDING, OrderStatus.NEEDS_REVIEW, OrderStatus.OPEN)
"""The live states in the order in which they are gone through."""


class Leg(StrEnum):
    """Which leg of a protective order was filled."""

    STOP = "stop"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class OrderKey:
    """What it takes to ask a venue about an order of ours."""

    client_order_id: str
    exchange_order_id: str | None
    symbol: str
    type: OrderType
    signed_at: datetime
    handle: str | None = None
    """The position the order is about, as the venue's `OrderReport.handle` named it."""
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    quantity: Decimal | None = None
    """What was asked for, where the venue can be held to it."""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One order as it is put to a venue. Quantity in base units (lots for FX), prices in quote currency.

    `signed_at` is the time of the claim, not of the send: a request that was held up is stale on arrival
    and a venue with a validity window refuses it.
    """

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    signed_at: datetime
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    expires_at: datetime | None = None
    handle: str | None = None
    """The position it closes or protects, where the venue's positions have names of their own."""
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    """What an entry carries from the first moment, where a venue's orders can (see NativeStyle.ATTACHED)."""
    trigger_source: TriggerSource | None = None
    """Which price reaches the trigger, where the venue offers a choice. A target has one where it waits as stops do."""

    @property
    def key(self) -> OrderKey:
        """The key under which the venue is asked about it."""
        return OrderKey(
            self.client_order_id,
            None,
            self.symbol,
            self.type,
            self.signed_at,
            self.handle,
            self.price,
            self.trigger_price,
            self.quantity,
        )


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What a venue says of an order, in running totals: hearing one twice changes nothing."""

    client_order_id: str
    exchange_order_id: str
    status: OrderStatus
    filled_quantity: Decimal
    average_price: Decimal | None
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    """Fees paid so far by currency; positive is paid."""
    fees_told: bool = True
    """Whether the venue says what its fills cost; else `fees` is empty, and what was paid is not known."""
    leg: Leg | None = None
    time: datetime | None = None
    """When the venue last changed the order."""
    message: str | None = None
    handle: str | None = None
    """By what later orders about this position name it, where the venue asks for that. Nobody else reads it."""
    profit: Decimal | None = None
    """What the venue booked for an exit before fees, in the position's currency; None where prices say it."""
    funding: Decimal = ZERO
    """Swap booked with an exit, in the position's currency; negative is paid."""
    trigger_price: Decimal | None = None
    """Where its stop waits now; None where the venue does not tell. Owners move stops by hand."""
    price: Decimal | None = None
    """The same of its limit or target."""
    quantity: Decimal | None = None
    """Its whole size now, in base units; None where the venue does not tell. Owners resize orders by hand."""


def client_order_id(order_id: UUID, attempt: int) -> str:
    """32 lower-case hex digits, the same for the same order and attempt: the shape most venues take."""
    return hashlib.sha256(f"{order_id}:{attempt}".encode()).hexdigest()[:32]


def resembles(name: str, ours: str) -> bool:
    """Whether a client order id has the shape of one of ours: it may be one that our books have lost."""
    if ours.isdecimal():
        return name.isdecimal() and abs(len(name) - len(ours)) <= _FEWER_DIGITS
    prefix = "0x" if ours.startswith("0x") else ""
    digits = ours.removeprefix(prefix)
    if _is_hexadecimal(digits):
        return (
            len(name) == len(ours) and name.startswith(prefix) and _is_hexadecimal(name.removeprefix(prefix))
        )
    return len(name) == len(ours) and name.isalnum() == ours.isalnum()


_FEWER_DIGITS = 2
"""How many digits a small one of our numbers may lack."""


def _is_hexadecimal(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")


def supersedes(known_status: OrderStatus, known_filled: Decimal, report: OrderReport) -> bool:
    """Whether a report may be believed over what is recorded.

    Late news never moves an order back: a final order stays final unless more of it was filled than was known then,
    an acknowledged one acknowledged, and the filled quantity never falls.
    """
    if known_status in FINAL:
        return report.filled_quantity > known_filled
    if report.status in LIVE and _ON_THE_WAY.index(report.status) < _ON_THE_WAY.index(known_status):
        return False
    return report.filled_quantity >= known_filled


def status_after(known_status: OrderStatus, report: OrderReport) -> OrderStatus:
    """Where an order stands after a report that is believed: what was final once does not live again."""
    return known_status if known_status in FINAL and report.status in LIVE else report.status


@exact
def merged_fees(fees: Sequence[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """Total per currency."""
    total: dict[str, Decimal] = {}
    for entry in fees:
        for currency, amount in entry.items():
            total[currency] = total.get(currency, ZERO) + amount
    return total
