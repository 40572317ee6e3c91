"""What the paper venue lists: each pair as spot and as a linear swap, on one tape of prices."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, Final, Protocol

from app.brokers.paper.recording import Recording, RecordingError, read_candles
from app.brokers.paper.synthetic import Synthetic
from app.brokers.paper.tape import BEFORE_START, Candle, Pace, Recordings, Tape, price_at, quoted_at, reached
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO, ceil_to_step, exact
from app.domain.orders import Side

MIN_NOTIONAL: Final = Decimal(5)
"""Smallest order, in quote currency."""

MAINTENANCE_MARGIN: Final = Decimal("0.005")
"""What swaps of this size ask for at most venues. The paper venue liquidates below it."""

HALF_SPREAD: Final = Decimal("0.0001")
"""Bid and ask of the synthetic market stand this fraction of the base price from the middle."""

_PAIR: Final = re.compile(r"(?P<base>[A-Z0-9]{1,20})/(?P<quote>[A-Z0-9]{1,20})")

_SYNTHETIC: Final = (
    # pair, base price, tick
    ("BTC/USDT", "60000", "0.01"),
    ("ETH/USDT", "3000", "0.01"),
    ("BNB/USDT", "600", "0.01"),
    ("SOL/USDT", "150", "0.01"),
    ("LTC/USDT", "80", "0.01"),
    ("AVAX/USDT", "30", "0.001"),
    ("LINK/USDT", "15", "0.001"),
    ("DOT/USDT", "6", "0.001"),
    ("XRP/USDT", "0.5", "0.0001"),
    ("ADA/USDT", "0.4", "0.0001"),
    ("DOGE/USDT", "0.12", "0.00001"),
    ("TRX/USDT", "0.11", "0.00001"),
    ("BTC/USDC", "60000", "0.01"),
    ("ETH/USDC", "3000", "0.01"),
    ("SOL/USDC", "150", "0.01"),
)


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol, its rules and its prices. The tape tells the middle between bid and ask."""

    instrument: Instrument
    tape: Tape
    half_spread: Decimal
    """Quote currency; 0 where the tape knows no spread."""
    told_at: datetime | None = None
    """When an exchange told the present price; None where the tape is a function of time."""

    @exact
    def price_for(self, side: Side, middle: Decimal) -> Decimal:
        """What an order of `side` trades at: buys at the ask, sells at the bid."""
        return middle + side.sign * self.half_spread

    @exact
    def middle_for(self, side: Side, price: Decimal) -> Decimal:
        """Where the middle stands when an order of `side` trades at `price`."""
        return price - side.sign * self.half_spread

    def quote(self, moment: datetime) -> Quote | None:
        """Bid and ask at `moment`; None before the tape has begun."""
        point = reached(self.tape, moment)
        if point == BEFORE_START:
            return None
        middle = price_at(self.tape, point)
        return Quote(
            symbol=self.instrument.symbol,
            bid=self.price_for(Side.SELL, middle),
            ask=self.price_for(Side.BUY, middle),
            time=self.told_at or quoted_at(self.tape, moment),
        )


class Board(Protocol):
    """What a paper account sees of a market: what is listed, and what it costs and has cost."""

    @property
    def key(self) -> str:
        """Equal where the prices are."""

    @property
    def is_asked(self) -> bool:
        """Whether prices have to be asked for, symbol by symbol, before an account is looked at."""

    async def instruments(self) -> Mapping[str, Instrument]:
        """Everything listed, by unified symbol. Raises VenueError."""

    async def known(self, symbols: Iterable[str], since: datetime | None) -> Mapping[str, Listing]:
        """These symbols, and others as it comes, with their prices from `since` on (None: the present alone).

        Symbols that are not listed, or not quoted at the moment, are left out. Raises VenueError.
        """

    def settled_by(self, since: datetime, moment: datetime) -> datetime:
        """Until when everything that happened after `since` is known at `moment`."""


@dataclass(frozen=True, slots=True)
class PaperMarket:
    """A board whose prices are functions of time; `key` is equal where they are."""

    key: str
    listings: Mapping[str, Listing]
    """By unified symbol, spot and swap together."""

    is_asked: ClassVar[bool] = False

    async def instruments(self) -> Mapping[str, Instrument]:
        """Everything listed."""
        return {symbol: listing.instrument for symbol, listing in self.listings.items()}

    async def known(self, _symbols: Iterable[str], _since: datetime | None) -> Mapping[str, Listing]:
        """Everything listed: all prices are known at all times."""
        return self.listings

    def settled_by(self, _since: datetime, moment: datetime) -> datetime:
        """Until when everything is known at `moment`."""
        return moment


@exact
def synthetic_market(seed: str) -> PaperMarket:
    """The seeded market. A coin costs the same in every currency it is quoted in."""
    listings: dict[str, Listing] = {}
    for pair, price, tick in _SYNTHETIC:
        base, quote = pair.split("/")
        tape = Synthetic(seed, base, Decimal(price), Decimal(tick))
        half_spread = ceil_to_step(Decimal(price) * HALF_SPREAD, Decimal(tick))
        listings |= _listed(base, quote, Decimal(price), Decimal(tick), tape, half_spread)
    return PaperMarket(f"paper:synthetic:{seed}", listings)


def recorded_market(recordings: Recordings) -> PaperMarket:
    """The pairs whose candles were given. A recording knows no spread. Raises RecordingError."""
    pace = Pace(recordings.started_at, recordings.speed)
    listings: dict[str, Listing] = {}
    for pair, file in recordings.files.items():
        named = _PAIR.fullmatch(pair)
        if named is None:
            raise RecordingError(f"{file}: a recording is of a pair like BTC/USDT, not of {pair!r}")
        candles = read_candles(file)
        tape = Recording(candles, pace)
        listings |= _listed(named["base"], named["quote"], candles[0].open, finest_tick(candles), tape, ZERO)
    return PaperMarket("paper:recording", listings)


@exact
def finest_tick(candles: tuple[Candle, ...]) -> Decimal:
    """One unit in the last decimal place that any price of these candles uses."""
    prices = {price.normalize() for each in candles for price in (each.open, each.high, each.low, each.close)}
    exponents = [exponent for price in prices if isinstance(exponent := price.as_tuple().exponent, int)]
    return Decimal(1).scaleb(min(0, *exponents))


@exact
def step_for(price: Decimal) -> Decimal:
    """The power of ten, at most 1, of which one is worth 0.1 to 1 quote unit at `price`."""
    return Decimal(1).scaleb(min(0, -(price.adjusted() + 1)))


def _listed(
    base: str, quote: str, price: Decimal, tick: Decimal, tape: Tape, half_spread: Decimal
) -> dict[str, Listing]:
    """A pair as spot and as a swap settled in its quote currency, by symbol."""
    step = step_for(price)
    spot = Instrument(
        symbol=f"{base}/{quote}",
        base=base,
        quote=quote,
        settle=None,
        market_type=MarketType.SPOT,
        quantity_step=step,
        price_tick=tick,
        min_quantity=step,
        min_notional=MIN_NOTIONAL,
    )
    swap = Instrument(
        symbol=f"{base}/{quote}:{quote}",
        base=base,
        quote=quote,
        settle=quote,
        market_type=MarketType.SWAP,
        quantity_step=step,
        price_tick=tick,
        min_quantity=step,
        min_notional=MIN_NOTIONAL,
        maintenance_margin=MAINTENANCE_MARGIN,
    )
    return {each.symbol: Listing(each, tape, half_spread) for each in (spot, swap)}
