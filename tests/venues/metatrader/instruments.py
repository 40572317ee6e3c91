"""What a MetaTrader broker lists: symbols with their terms, and their present prices."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from app.domain.orders import Side


class TradeMode(StrEnum):
    """Which orders a symbol takes."""

    FULL = "FullAccess"
    CLOSE_ONLY = "CloseOnly"
    LONG_ONLY = "LongOnly"
    SHORT_ONLY = "ShortOnly"
    DISABLED = "Disabled"


class Execution(StrEnum):
    """How market orders are executed: at whatever the market gives, or at the price that was asked for."""

    MARKET = "Market"
    INSTANT = "Instant"


@dataclass(frozen=True, slots=True)
class Listing:
    """The terms of one symbol, and its bid when the broker opens. Levels, spread and swaps are in points."""

    base: str
    quote: str
    bid: Decimal
    digits: int = 5
    spread: int = 10
    contract_size: Decimal = Decimal(100_000)
    min_lots: Decimal = Decimal("0.01")
    max_lots: Decimal = Decimal(100)
    lot_step: Decimal = Decimal("0.01")
    stops_level: int = 0
    freeze_level: int = 0
    execution: Execution = Execution.MARKET
    forex: bool = True
    """Whether profit and margin are counted the way of currencies; else the way of CFDs."""
    swap_long: Decimal = Decimal("-5.7")
    swap_short: Decimal = Decimal("1.2")
    takes_expiration: bool = True

    @property
    def point(self) -> Decimal:
        """The smallest move of the price."""
        return Decimal(1).scaleb(-self.digits)

    @property
    def pair(self) -> str:
        """The name the rest of the world uses."""
        return f"{self.base}/{self.quote}"


class Market:
    """A listing under the broker's own name, with its present price."""

    def __init__(self, listing: Listing, suffix: str) -> None:
        self.listing = listing
        self.name = f"{listing.base}{listing.quote}{suffix}"
        self.bid = listing.bid
        self.spread = listing.spread * listing.point
        self.mode = TradeMode.FULL
        self.is_open = True
        """Whether its session runs. Outside it there are no quotes and no trades."""

    @property
    def ask(self) -> Decimal:
        """What buyers pay."""
        return self.bid + self.spread

    @property
    def point(self) -> Decimal:
        """The smallest move of the price."""
        return self.listing.point

    def entering(self, side: Side) -> Decimal:
        """What a market order of `side` gets."""
        return self.ask if side is Side.BUY else self.bid

    def leaving(self, side: Side) -> Decimal:
        """What a position of `side` is closed at."""
        return self.bid if side is Side.BUY else self.ask

    def bid_when_leaving_at(self, side: Side, price: Decimal) -> Decimal:
        """The bid at which a position of `side` can be left at `price`."""
        return price if side is Side.BUY else price - self.spread

    def bid_when_entering_at(self, side: Side, price: Decimal) -> Decimal:
        """The bid at which an order of `side` is filled at `price`."""
        return price - self.spread if side is Side.BUY else price


LISTINGS = (
    Listing("EUR", "USD", Decimal("1.10000")),
    Listing("GBP", "USD", Decimal("1.25000"), spread=12),
    Listing("USD", "JPY", Decimal("150.000"), digits=3),
    Listing("EUR", "GBP", Decimal("0.88000")),
    Listing("NOK", "SEK", Decimal("0.99000")),
    Listing("XAU", "USD", Decimal("2000.00"), digits=2, spread=20, contract_size=Decimal(100), forex=False),
    Listing("BTC", "USD", Decimal("20000.00"), digits=2, spread=100, contract_size=Decimal(1), forex=False),
)

UNLISTED_RATES = {("SEK", "USD"): Decimal("0.095")}
"""What the broker's own back office converts at where it lists no pair."""
