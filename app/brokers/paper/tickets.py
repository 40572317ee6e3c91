"""Tickets: orders as the venue's book holds them, and the prices they wait for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from app.brokers.paper.ledger import Fill
from app.domain.holdings import Fill as Trade
from app.domain.money import ZERO, exact, stored
from app.domain.orders import Leg, OrderReport, OrderRequest, OrderStatus, OrderType, Side, merged_fees

FORCED: Final = "liquidation-"
"""How the client order ids begin under which the venue itself trades."""


@dataclass(frozen=True, slots=True)
class Level:
    """A price an order waits for: `rising` orders act at it and above, the others at it and below."""

    price: Decimal
    rising: bool
    leg: Leg | None

    def is_reached_by(self, price: Decimal) -> bool:
        """Whether `price`, of the order's own side of the quote, is at the level or beyond."""
        return price >= self.price if self.rising else price <= self.price


@dataclass(frozen=True, slots=True)
class Ticket:
    """One order with its running totals. Quantities in base units, cost in quote currency."""

    request: OrderRequest
    number: int
    """The venue's own number for it, rising within an account."""
    status: OrderStatus
    time: datetime
    """When it last changed."""
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    """Σ price × quantity of its fills."""
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    leg: Leg | None = None
    message: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may still fill."""
        return self.status is OrderStatus.OPEN

    @property
    @exact
    def remaining(self) -> Decimal:
        """What is not filled yet."""
        return self.request.quantity - self.filled

    @exact
    def with_fill(self, fill: Fill, leg: Leg | None, time: datetime) -> "Ticket":
        """The ticket after one more fill."""
        filled = self.filled + fill.quantity
        return replace(
            self,
            status=OrderStatus.FILLED if filled == self.request.quantity else OrderStatus.OPEN,
            time=time,
            filled=filled,
            cost=self.cost + stored(fill.quantity * fill.price),
            fees=merged_fees([self.fees, {fill.fee_currency: fill.fee}]),
            leg=leg,
        )

    def ended(self, status: OrderStatus, time: datetime, message: str) -> "Ticket":
        """The ticket after it was taken out of the book with what it had filled until then."""
        return replace(self, status=status, time=time, message=message)

    @exact
    def report(self) -> OrderReport:
        """What the venue says of it."""
        return OrderReport(
            client_order_id=self.request.client_order_id,
            exchange_order_id=str(self.number),
            status=self.status,
            filled_quantity=self.filled,
            average_price=stored(self.cost / self.filled) if self.filled else None,
            fees=dict(self.fees),
            leg=self.leg,
            time=self.time,
            message=self.message,
            trigger_price=self.request.trigger_price,
            price=self.request.price,
        )

    @exact
    def as_fill(self) -> Trade:
        """All it has filled, as one trade."""
        return Trade(
            exchange_order_id=str(self.number),
            side=self.request.side,
            quantity=self.filled,
            price=stored(self.cost / self.filled),
            time=self.time,
            fees=dict(self.fees),
            forced=self.request.client_order_id.startswith(FORCED),
        )


def levels_of(request: OrderRequest) -> tuple[Level, ...]:
    """What an order waits for. A sell's profit lies above and its stop below, a buy's the other way round."""
    profit_rises = request.side is Side.SELL
    levels: list[Level] = []
    if request.trigger_price is not None and request.type in (OrderType.STOP, OrderType.OCO):
        levels.append(Level(request.trigger_price, not profit_rises, Leg.STOP))
    if request.price is not None and request.type in (OrderType.TAKE_PROFIT, OrderType.OCO):
        levels.append(Level(request.price, profit_rises, Leg.TARGET))
    if request.price is not None and request.type is OrderType.LIMIT:
        levels.append(Level(request.price, profit_rises, None))
    return tuple(levels)
