"""What the contract tests need of a venue: one account on it, and a hand on its price and its clock."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol
from uuid import uuid4

from app.brokers.port import Broker
from app.domain.market import Instrument, MarketType, Quote
from app.domain.orders import OrderReport, OrderRequest, OrderType, Side

START = Decimal(20000)
"""What the symbol costs when a test begins, in quote currency."""

UNIT = Decimal("0.5")
"""A quantity every venue takes, in base units."""


class Stage(Protocol):
    """One fresh account with 100,000 quote units, trading one symbol."""

    @property
    def broker(self) -> Broker:
        """The broker of the account, as of now: ask again after the price or the clock has moved."""

    @property
    def symbol(self) -> str:
        """What is traded; it costs START when a test begins."""

    @property
    def market_type(self) -> MarketType:
        """Spot, or swap at a leverage of 5."""

    def now(self) -> datetime:
        """The venue's clock."""

    async def move(self, price: int) -> None:
        """Let the price walk straight to `price`, through everything between."""

    async def advance(self, seconds: int) -> None:
        """Let time pass while the price stands still."""

    async def restart(self) -> None:
        """Close the broker and open another one on the same account."""


def order(
    stage: Stage,
    side: Side,
    kind: OrderType,
    quantity: Decimal = UNIT,
    *,
    price: int | None = None,
    trigger: int | None = None,
    reduce_only: bool = False,
    lifetime: timedelta | None = None,
) -> OrderRequest:
    """A request as the engine makes it, signed now."""
    return OrderRequest(
        client_order_id=stage.broker.client_order_id(uuid4(), 1),
        symbol=stage.symbol,
        side=side,
        type=kind,
        quantity=quantity,
        signed_at=stage.now(),
        price=None if price is None else Decimal(price),
        trigger_price=None if trigger is None else Decimal(trigger),
        reduce_only=reduce_only,
        expires_at=None if lifetime is None else stage.now() + lifetime,
    )


async def buy(stage: Stage, quantity: Decimal = UNIT) -> OrderReport:
    """Open a long at market."""
    return await stage.broker.place(order(stage, Side.BUY, OrderType.MARKET, quantity))


async def sell(stage: Stage, quantity: Decimal = UNIT) -> OrderReport:
    """Leave it at market."""
    return await stage.broker.place(order(stage, Side.SELL, OrderType.MARKET, quantity, reduce_only=True))


async def held(stage: Stage) -> Decimal:
    """What the account holds of the symbol, in base units; below zero for shorts."""
    holdings = [each for each in await stage.broker.holdings() if each.symbol == stage.symbol]
    return sum((each.quantity * each.side.entry_side.sign for each in holdings), Decimal(0))


async def quote(stage: Stage) -> Quote:
    """The present quote."""
    return (await stage.broker.quotes([stage.symbol]))[stage.symbol]


async def instrument(stage: Stage) -> Instrument:
    """The rules of the symbol."""
    return (await stage.broker.instruments())[stage.symbol]
