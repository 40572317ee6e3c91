"""What the contract tests need of a venue: one account on it, and a hand on its price and its clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
"""A quantity every venue takes, in base units; in lots where those are of one base unit."""


@dataclass
class Handles:
    """What is held under which of the venue's own names, oldest first; empty where positions have none."""

    held: list[tuple[str, Decimal]] = field(default_factory=list)
    newest: str | None = None
    """The last one heard of, whether or not anything is held under it."""

    def note(self, request: OrderRequest, report: OrderReport) -> None:
        """Take an entry in, and what an exit has left of one out."""
        if report.handle is None or not report.filled_quantity:
            return
        self.newest = report.handle
        if request.handle is None:
            self.held.append((report.handle, report.filled_quantity))
            return
        left = [(name, lots) for name, lots in self.held if name != request.handle]
        was = next((lots for name, lots in self.held if name == request.handle), Decimal(0))
        rest = [(report.handle, was - report.filled_quantity)] if was > report.filled_quantity else []
        self.held = rest + left

    def holding(self, quantity: Decimal) -> str | None:
        """The oldest of which so much is held, or else the newest."""
        fitting = (name for name, lots in self.held if lots >= quantity)
        return next(fitting, self.newest)


class Stage(Protocol):
    """One fresh account with 100,000 units of its currency, trading one symbol."""

    handles: Handles
    """What was opened through `place` and is held still."""

    @property
    def contract(self) -> Decimal:
        """How many coins one unit of quantity is: one, where quantities are not lots."""

    @property
    def currency(self) -> str:
        """What money is counted in."""

    def entry_fees(self, report: OrderReport) -> Mapping[str, Decimal]:
        """What the fill of an entry must have cost."""

    @property
    def broker(self) -> Broker:
        """The broker of the account, as of now: ask again after the price or the clock has moved."""

    @property
    def symbol(self) -> str:
        """What is traded; it costs START when a test begins."""

    @property
    def market_type(self) -> MarketType:
        """Spot, or at a leverage of 5."""

    def now(self) -> datetime:
        """The venue's clock."""

    async def move(self, price: int) -> None:
        """Let the price walk straight to `price`, through everything between."""

    async def advance(self, seconds: int) -> None:
        """Let time pass while the price stands still."""

    def thin(self, fraction: str) -> bool:
        """Let one point of the price fill this fraction of an order only; False where orders are filled whole."""

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
        handle=stage.handles.holding(quantity) if reduce_only else None,
    )


async def place(stage: Stage, request: OrderRequest) -> OrderReport:
    """Send an order, and remember what it opened by the venue's name for it."""
    report = await stage.broker.place(request)
    stage.handles.note(request, report)
    return report


async def buy(stage: Stage, quantity: Decimal = UNIT) -> OrderReport:
    """Open a long at market."""
    return await place(stage, order(stage, Side.BUY, OrderType.MARKET, quantity))


async def sell(stage: Stage, quantity: Decimal = UNIT) -> OrderReport:
    """Leave it at market."""
    return await place(stage, order(stage, Side.SELL, OrderType.MARKET, quantity, reduce_only=True))


async def sell_everything(stage: Stage) -> list[OrderReport]:
    """Leave whatever is held, position by position where they have names."""
    parts = [lots for _, lots in stage.handles.held] or [await held(stage)]
    return [await sell(stage, lots) for lots in parts]


def charged(stage: Stage, report: OrderReport) -> Mapping[str, Decimal]:
    """The broker's fee rate on what was filled."""
    assert report.average_price is not None
    return {stage.currency: report.filled_quantity * report.average_price * stage.broker.traits.fee_rate}


async def held(stage: Stage) -> Decimal:
    """What the account holds of the symbol, in base units; below zero for shorts."""
    holdings = [each for each in await stage.broker.holdings() if each.symbol == stage.symbol]
    return sum((each.quantity * each.side.entry_side.sign for each in holdings), Decimal(0))


async def quote(stage: Stage) -> Quote:
    """The present quote."""
    return (await stage.broker.quotes([stage.symbol]))[stage.symbol]


async def instrument(stage: Stage) -> Instrument:
    """The rules of the symbol."""
    return (await stage.broker.instruments([stage.symbol]))[stage.symbol]
