"""What the engine asks of a venue, and the three ways in which a venue may fail to do it.

    VenueError
    ├── Refused       the venue certainly did not do it and will say no again
    ├── Unreachable   it certainly never arrived or was not executed; asking again is safe
    └── Uncertain     anything else: it may have happened. Never resent on the strength of this

A failed query is never "flat" and never "not found": `find` answers a report, `ABSENT` from a clean look-up,
`CANNOT_SAY`, or `AMBIGUOUS` where there are two.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final, Protocol
from uuid import UUID

from app.domain.exits import NativeStyle
from app.domain.holdings import Fill, Payment
from app.domain.market import Instrument, Quote
from app.domain.orders import OrderKey, OrderReport, OrderRequest, Side, TriggerSource
from app.domain.positions import PositionSide


class VenueError(Exception):
    """What a venue did with a request it did not simply carry out."""

    def __init__(self, message: str, *, code: str = "rejected_by_venue") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


TERMS_NOT_SERVED = "terms_not_served"
"""The code of a refusal to open a connection at all: its terms ask for something that is not offered."""

CREDENTIALS_REFUSED = "credentials_refused"
"""The code of whatever fails because the venue does not accept the account's credentials."""

BANNED = "banned_by_venue"
"""The code of whatever fails because the venue has shut us out for a while."""


class Refused(VenueError):
    """The venue certainly did not do it and would say no again; `code` may name a reason of the catalogue."""


class Unreachable(VenueError):
    """The request certainly never arrived, or was certainly not executed (rate limit, stale on arrival)."""


class Uncertain(VenueError):
    """It may have been executed: a time-out, a 5xx, a broken answer. Only a look-up can tell."""


class Silence(Enum):
    """Why a look-up brought no report."""

    ABSENT = "absent"
    """A clean look-up says that there is no such order."""
    CANNOT_SAY = "cannot_say"
    """The look-up failed, or the venue does not answer such questions."""
    AMBIGUOUS = "ambiguous"
    """More than one thing there may be that order: only a person can choose."""


ABSENT = Silence.ABSENT
CANNOT_SAY = Silence.CANNOT_SAY
AMBIGUOUS = Silence.AMBIGUOUS


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of an account. `free` can be spent now; `total` includes what orders and positions hold."""

    free: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the credentials may do; None where the venue does not tell."""

    trade: bool | None
    withdraw: bool | None
    transfer: bool | None = None
    """Whether they can move funds to other accounts of the same venue; no loss by itself, and not needed either."""


def identity_of_key(venue: str, digest: str) -> str:
    """What stands for an account whose venue does not name it: two of its keys are two."""
    return f"{venue}:{_KEY}:{digest}"


def is_of_key(identity: str) -> bool:
    """Whether an identity tells keys apart rather than accounts."""
    return identity.split(":")[1:2] == [_KEY]


_KEY: Final = "key"


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the venue describes it.

    `equity` per currency: on swap the wallet plus unrealised PnL, on spot the total of that currency.
    `identity` is the venue's own name for the account (UID, login) behind the venue's, equal for two connections to
    the same one; `identity_of_key` where the venue names none.
    """

    identity: str
    balances: Mapping[str, Balance]
    equity: Mapping[str, Decimal]
    permissions: Permissions
    as_of: datetime
    """The moment before which everything is included."""
    leverage: Decimal | None = None
    """Where the venue sets one leverage for the whole account."""
    barred: str | None = None
    """The code of the catalogue that denies every entry as long as the account is like this."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What the venue says the account holds in one symbol (base units), whoever opened it."""

    symbol: str
    side: PositionSide
    quantity: Decimal
    asked_as: str | None = None
    """The handle it was asked for by; None for what nobody asked for, and where positions have no names."""
    handle: str | None = None
    """By what later orders name it from now on, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Resting:
    """One order that rests at the venue, whoever placed it; a conditional one counts."""

    symbol: str
    client_order_id: str | None
    """As it was sent: ours are recognised by it. None where the venue has none."""
    exchange_order_id: str | None = None
    side: Side | None = None
    quantity: Decimal | None = None
    """Its whole size in base units; None, like what else is None here, where the venue does not tell."""


class Funding(Enum):
    """Whether positions are charged and paid for being held, and whether the venue lists that."""

    NONE = "none"
    """They are not, or it is booked with their exits."""
    TOLD = "told"
    UNTOLD = "untold"


@dataclass(frozen=True, slots=True)
class Traits:
    """How a venue behaves, as data.

    `validity` is how long after its claim an order may still be accepted, `settle` the time after which an order
    that cannot be found will not appear any more (validity, the venue's own processing, clock skew).
    """

    netting: bool
    """Whether the account nets what it holds per symbol. Its exits then only ever reduce: one too many opens nothing,
    and however little they are worth, the venue takes them."""
    native_protection: bool
    fee_rate: Decimal
    slippage: Decimal
    validity: timedelta
    settle: timedelta
    native_style: NativeStyle = NativeStyle.BRACKET
    """What the venue can hold of an exit plan, where `native_protection` says that it is to."""
    trigger_sources: tuple[TriggerSource, ...] = ()
    """Which prices may wake stops, the usual one first; empty where the venue offers no choice."""
    expires_orders: bool = True
    """Whether the venue itself ends a resting order at its `expires_at`; else we take it back."""
    funding: Funding = Funding.NONE
    clean_misses: int = field(default=2)
    """How many clean look-ups without a find, after `settle`, prove an order absent."""
    read_lag: timedelta = timedelta(seconds=10)
    """How far what the venue says of holdings may lag behind its own fills: two looks this far apart that agree,
    with nothing of ours moving in between, are believed."""


class Market(Protocol):
    """Public market data of a venue; connections with the same `market_key` share it."""

    @property
    def market_key(self) -> str:
        """Equal for all connections that see the same prices."""

    async def instruments(self, meant: Collection[str] = ()) -> Mapping[str, Instrument]:
        """Every instrument by its symbol, or at least those that one of `meant` may mean. Raises VenueError."""

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes, in as few requests as the venue allows; unknown symbols are left out."""

    async def references(self, source: TriggerSource, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """The present prices of a source that its stops may go by, in quote currency; those unknown are left out.

        Asked of venues that offer the source only. Raises VenueError.
        """


class Broker(Market, Protocol):
    """One account at a venue. Open for as long as its directory keeps it."""

    @property
    def traits(self) -> Traits:
        """How this venue behaves for this connection."""

    def client_order_id(self, order_id: UUID, attempt: int) -> str:
        """The id under which an attempt is sent, in the shape the venue takes."""

    async def account(self) -> Account:
        """Balances, equity and permissions. Raises VenueError."""

    async def conflict(self, symbol: str) -> str | None:
        """Why the account's own settings (leverage, margin mode) are in the way of an entry in a symbol, in words.

        None where they are not, or `place` may change them. This only asks. Raises VenueError.
        """

    async def place(self, request: OrderRequest) -> OrderReport:
        """Send one order, once. Raises Refused, Unreachable or Uncertain."""

    async def cancel(self, key: OrderKey) -> OrderReport:
        """Take an order back and report what became of it; an order already final is reported as it is.

        Raises VenueError; Refused when the venue has no such order.
        """

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """What the venue knows of one order."""

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """The same for many orders, by client order id, in as few requests as the venue allows."""

    async def holdings(self, handles: Collection[str] = ()) -> Sequence[Holding]:
        """Everything the account holds, the positions called by `handles` each by itself where the venue has names.

        Raises VenueError; an empty answer means flat. What is held in a symbol that is no longer listed is told
        too, or the answer is a failure.
        """

    async def fills(
        self, symbol: str, since: datetime, ours: Sequence[OrderKey], handle: str | None = None
    ) -> Sequence[Fill]:
        """The account's trades in a symbol from `since` on, oldest first, without those of the orders `ours`.

        With a handle only what left that position. It says what was done by hand, and what the venue forced. Asked
        only when something is gone, never on a schedule. Raises VenueError; a venue that keeps no such list raises
        Refused, and exits are then valued at the mark.
        """

    async def payments(self, since: datetime) -> Sequence[Payment]:
        """The funding that was charged and paid in all symbols from `since` on, oldest first.

        Asked where `traits.funding` says that it is told. Raises VenueError.
        """

    async def resting(self, symbols: Sequence[str] | None) -> Sequence[Resting]:
        """Every order that rests in these symbols, or in all of them, in as few requests as the venue allows.

        Only orders of ours that we think ended are cancelled on the strength of it. Raises VenueError; Refused where
        it is not told, and for all symbols where it is told symbol by symbol.
        """

    async def close(self) -> None:
        """Let go of sessions and sockets."""
