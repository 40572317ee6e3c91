"""Live prices: a paper market that follows a real exchange, from nothing but its public data.

The price that is seen is the exchange's quote of the moment. What happened between two looks follows from its closed
one-minute candles, each walked as any other; a minute counts as a whole, and only for orders older than it. So a
resting order meets every wick, at the latest a look after the minute's end, and none from before it was placed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol

from app.brokers.paper.listings import Listing
from app.brokers.paper.tape import POINTS, Candle, Pace
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import exact

MINUTE: Final = timedelta(minutes=1)

GRACE: Final = timedelta(seconds=2)
"""How long after its end a minute's candle is taken as final."""

LOOK_BACK: Final = timedelta(hours=12)
"""How far back candles are asked for. What rests longer without a look meets the candles since then."""

KEPT: Final = timedelta(seconds=1)
"""How long a quote serves whoever asks."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = 60
_LEG: Final = _SECONDS // 3
"""A minute's walk has three legs, each as long as the others."""

_NOWHERE: Final = (Decimal("Infinity"), Decimal("-Infinity"))
"""Bounds of no price."""


Bar = tuple[Decimal, Decimal, Decimal, Decimal]
"""Open, high, low, close."""


class PublicSource(Protocol):
    """The public market data of one exchange."""

    @property
    def key(self) -> str:
        """Equal where the prices are."""

    async def instruments(self) -> Mapping[str, Instrument]:
        """Every instrument by its unified symbol. Raises VenueError."""

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes; unknown symbols are left out. Raises VenueError."""

    async def minutes(self, symbol: str, since: datetime, until: datetime) -> Mapping[datetime, Bar]:
        """The one-minute candles that open in [since, until) by opening time.

        Minutes without a trade may be missing; an exchange without candles has none. Raises VenueError.
        """


PublicSources = Callable[[str, MarketType], Awaitable[PublicSource]]
"""Finds the source of an exchange's prices. Raises Refused for an exchange there is not."""


class LiveTape:
    """The prices of one symbol as far as they are known at one moment: closed minutes, and the present middle."""

    pace = Pace(_EPOCH, Decimal(1))
    length: int | None = None

    def __init__(self, minutes: Mapping[int, Candle], middle: Decimal, seen_at: datetime) -> None:
        self._minutes = minutes
        self._middle = middle
        self._seen = self.pace.reached(seen_at) // POINTS

    def jumps_to(self, point: int) -> bool:
        """Minutes open where they open, and a look sees where the price is: between them nothing is known."""
        return point // POINTS // _SECONDS not in self._minutes or point % (POINTS * _SECONDS) == 0

    @exact
    def candle(self, number: int) -> Candle:
        """One second: of the walk of its minute where that is known, else the present middle."""
        minute, second = divmod(number, _SECONDS)
        whole = self._minutes.get(minute)
        if whole is None:
            return Candle(self._middle, self._middle, self._middle, self._middle)
        start, end = _along(whole, second), _along(whole, second + 1)
        return Candle(start, max(start, end), min(start, end), end)

    def extent(self, first: int, last: int) -> tuple[Decimal, Decimal]:
        """Bounds of every price that is known in the seconds `first` to `last`."""
        known = [
            (candle.low, candle.high)
            for minute, candle in self._minutes.items()
            if first // _SECONDS <= minute <= last // _SECONDS
        ]
        if first <= self._seen <= last:
            known.append((self._middle, self._middle))
        return min((low for low, _ in known), default=_NOWHERE[0]), max(
            (high for _, high in known), default=_NOWHERE[1]
        )


def _along(minute: Candle, second: int) -> Decimal:
    """Where the walk of a minute is at a second of it: on the line between two of its four points."""
    points = minute.walk()
    leg, into = divmod(second, _LEG)
    if not into:
        return points[leg]
    return points[leg] + (points[leg + 1] - points[leg]) * into / _LEG


@dataclass(frozen=True, slots=True)
class _Look:
    """A quote, and when it was asked for."""

    quote: Quote | None
    asked_at: datetime


class LiveMarket:
    """One exchange's market as the accounts of one process see it."""

    is_asked = True

    def __init__(self, source: PublicSource, now: Callable[[], datetime]) -> None:
        self._source = source
        self._now = now
        self._seen: dict[str, _Look] = {}
        self._minutes: dict[str, dict[int, Candle]] = {}
        self._asking = asyncio.Lock()

    @property
    def key(self) -> str:
        """Equal where the prices are."""
        return f"paper:{self._source.key}"

    async def instruments(self) -> Mapping[str, Instrument]:
        """Everything that is listed. Raises VenueError."""
        return await self._source.instruments()

    async def known(self, symbols: Iterable[str], since: datetime | None) -> Mapping[str, Listing]:
        """These symbols with their prices from `since` on, as they are known by now. Raises VenueError."""
        instruments = await self.instruments()
        looks = await self._looks({each for each in symbols if each in instruments})
        listings = {}
        for symbol, look in looks.items():
            if look.quote is not None:
                minutes = {} if since is None else await self._closed(symbol, since)
                listings[symbol] = _listing(instruments[symbol], look.quote, minutes, look.asked_at)
        return listings

    def settled_by(self, since: datetime, moment: datetime) -> datetime:
        """Until when everything is known at `moment`: the end of the last closed minute, not before `since`."""
        return max(since, _minute(moment - GRACE) * MINUTE + _EPOCH)

    async def _closed(self, symbol: str, since: datetime) -> Mapping[int, Candle]:
        """The closed minutes that began at or after `since`; those asked for before are not asked for again."""
        now = self._now()
        first, last = _minute(max(since, now - LOOK_BACK) - timedelta.resolution) + 1, _minute(now - GRACE)
        kept = self._minutes.setdefault(symbol, {})
        missing = next((minute for minute in range(first, last) if minute not in kept), None)
        if missing is not None:
            start, end = _EPOCH + missing * MINUTE, _EPOCH + last * MINUTE
            told = await self._source.minutes(symbol, start, end)
            kept |= {_minute(opened): Candle(*prices) for opened, prices in told.items()}
            for minute in [each for each in kept if each < first]:
                del kept[minute]
        return {minute: candle for minute, candle in kept.items() if first <= minute < last}

    async def _looks(self, symbols: Collection[str]) -> Mapping[str, _Look]:
        """The present quotes, a moment old at most, in one request for all that are missing."""
        async with self._asking:
            now = self._now()
            stale = [each for each in sorted(symbols) if not self._is_fresh(each, now)]
            if stale:
                found = await self._source.quotes(stale)
                self._seen |= {each: _Look(found.get(each), now) for each in stale}
        return {each: self._seen[each] for each in symbols}

    def _is_fresh(self, symbol: str, now: datetime) -> bool:
        seen = self._seen.get(symbol)
        return seen is not None and now - seen.asked_at < KEPT


@exact
def _listing(
    instrument: Instrument, quote: Quote, minutes: Mapping[int, Candle], seen_at: datetime
) -> Listing:
    """A symbol whose middle is the quote's, with the quote's own spread and time."""
    middle, half_spread = (quote.bid + quote.ask) / 2, (quote.ask - quote.bid) / 2
    return Listing(instrument, LiveTape(minutes, middle, seen_at), half_spread, quote.time)


def _minute(moment: datetime) -> int:
    """The number of the minute a moment is in."""
    return (moment - _EPOCH) // MINUTE
