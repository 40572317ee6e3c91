"""What can be traded and what it costs at the moment: instruments and quotes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from app.domain.money import exact
from app.domain.orders import Side


class MarketType(StrEnum):
    """Where an instrument trades. On spot the coins are held; a swap nets positions on margin."""

    SPOT = "spot"
    SWAP = "swap"
    FX = "fx"


class QuantityUnit(StrEnum):
    """What a quantity counts: base units for crypto, lots for FX."""

    BASE = "base"
    LOTS = "lots"


BOTH_SIDES: Final = frozenset(Side)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol of a venue with the venue's rules for orders in it.

    Quantities are base units (lots for FX), prices are in the quote currency, money is in `currency`.
    """

    symbol: str
    base: str
    quote: str
    settle: str | None
    market_type: MarketType
    quantity_step: Decimal
    price_tick: Decimal
    min_quantity: Decimal
    max_quantity: Decimal | None = None
    min_notional: Decimal | None = None
    maintenance_margin: Decimal = Decimal(0)
    """Fraction of the notional below which the venue liquidates; 0 where there is no margin."""
    quantity_unit: QuantityUnit = QuantityUnit.BASE
    counted_in: str | None = None
    """The account's currency, where the venue counts every profit in it."""
    opens: frozenset[Side] = BOTH_SIDES
    """By orders of which sides the venue lets positions be opened."""
    stop_level: Decimal = Decimal(0)
    """How far from the price a stop has to be, in quote currency."""

    @property
    def currency(self) -> str:
        """What profit and loss are counted in: the account's currency, a swap's settle currency, else the quote's."""
        return self.counted_in or self.settle or self.quote


@dataclass(frozen=True, slots=True)
class Worth:
    """What one unit of quantity comes to in the instrument's `currency` at this moment."""

    move: Decimal = Decimal(1)
    """What a price move of one costs on it."""
    notional: Decimal | None = None
    """What it is worth; None where that is its price times `move`."""
    commission: Decimal = Decimal(0)
    """What entering and leaving it costs beside any fee rate."""

    @exact
    def at(self, price: Decimal) -> Decimal:
        """The notional of one unit when it costs `price`."""
        return price * self.move if self.notional is None else self.notional


PLAIN: Final = Worth()
"""Base units, and money in the quote currency."""


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask of one symbol, and when the venue said so (aware UTC)."""

    symbol: str
    bid: Decimal
    ask: Decimal
    time: datetime
    worth: Worth | None = PLAIN
    """What a unit of quantity comes to in money; None where there is no rate for that."""
    is_session: bool = True
    """False while the venue says that its market is closed: an old quote is no fault then."""

    def entering(self, side: Side) -> Decimal:
        """The price an order of `side` is filled at: buys pay the ask, sells get the bid."""
        return self.ask if side is Side.BUY else self.bid

    def leaving(self, entry_side: Side) -> Decimal:
        """The price at which a position opened by `entry_side` is left: longs on the bid, shorts on the ask."""
        return self.bid if entry_side is Side.BUY else self.ask

    @property
    @exact
    def spread(self) -> Decimal:
        """Ask − bid."""
        return self.ask - self.bid

    @property
    @exact
    def spread_percent(self) -> Decimal:
        """Spread ÷ mid, in per cent."""
        return self.spread / ((self.ask + self.bid) / 2) * 100

    def is_usable(self, now: datetime, max_age: timedelta) -> bool:
        """Whether decisions may rest on it: fresh, positive and not crossed."""
        return now - self.time <= max_age and 0 < self.bid <= self.ask
