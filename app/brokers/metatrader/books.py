"""Books: what a broker shows of an account, in the same words for both platforms.

A *ticket* is open: a position or a pending order. An *opening* is what an order of ours filled. A *part* is what left
a position: a deal on MetaTrader 5, a closed ticket on MetaTrader 4, where a partial close also makes a new ticket.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Final

from app.domain.money import ZERO
from app.domain.orders import OrderStatus, Side

_FROM: Final = re.compile(r"from #(\d+)")
_TO: Final = re.compile(r"to #(\d+)")


class Cause(Enum):
    """What closed a part."""

    ORDER = "order"
    STOP = "stop"
    TARGET = "target"
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One open position, or pending order."""

    number: int
    symbol: str
    side: Side
    is_pending: bool
    lots: Decimal
    price: Decimal
    stop: Decimal | None
    target: Decimal | None
    magic: int
    comment: str
    opened_at: datetime | None
    fees: Decimal
    """Paid so far; negative is received."""
    order: int
    """The order that opened it."""
    deal: int
    """The deal that opened it; 0 where there are none, or it is not told."""

    @property
    def came_from(self) -> int | None:
        """The ticket whose rest this is, where the broker says so."""
        found = _FROM.match(self.comment)
        return None if found is None else int(found[1])


@dataclass(frozen=True, slots=True)
class Opening:
    """What one order opened, by one fill of it."""

    deal: int
    order: int
    position: int
    symbol: str
    side: Side
    lots: Decimal
    price: Decimal
    fees: Decimal
    magic: int
    comment: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """What left a position at once. Money in the account's currency; fees are positive when paid."""

    number: int
    order: int
    """The order that closed it; on MetaTrader 4 the ticket itself."""
    position: int
    symbol: str
    side: Side
    """The side that closed it."""
    lots: Decimal
    price: Decimal
    profit: Decimal
    fees: Decimal
    swap: Decimal
    cause: Cause
    magic: int
    comment: str
    at: datetime | None
    came_from: int | None = None

    @property
    def rest(self) -> int | None:
        """The ticket that what was left became, where the broker says so."""
        found = _TO.match(self.comment)
        return None if found is None else int(found[1])


@dataclass(frozen=True, slots=True)
class Ended:
    """A pending order that came to nothing."""

    ticket: int
    symbol: str
    magic: int
    comment: str
    status: OrderStatus
    at: datetime | None


@dataclass(frozen=True, slots=True)
class History:
    """What has happened since some moment; `is_whole` is False where the bridge says there is more."""

    openings: Sequence[Opening] = ()
    parts: Sequence[Part] = ()
    ended: Sequence[Ended] = field(default=())
    is_whole: bool = True


def opening_of(ticket: Ticket) -> Opening:
    """What a ticket itself says of how it was opened. MetaTrader 4 books its commission when it is closed."""
    return Opening(
        deal=ticket.number,
        order=ticket.number,
        position=ticket.number,
        symbol=ticket.symbol,
        side=ticket.side,
        lots=ticket.lots,
        price=ticket.price,
        fees=ZERO,
        magic=ticket.magic,
        comment=ticket.comment,
        at=ticket.opened_at,
    )
