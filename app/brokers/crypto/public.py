"""Public markets: listings and quotes of one exchange, asked for without a key and shared by all who look there.

They are asked for with the urgency of protection: few requests serve every account, and no exit is found without them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from app.brokers.crypto.clock import VenueClock
from app.brokers.crypto.exchange import Call, Surroundings, calling
from app.brokers.crypto.markets import Listed, decimal, known_of, listings_of
from app.brokers.crypto.outcomes import of_read
from app.brokers.crypto.profiles import Trigger
from app.brokers.limits.buckets import Urgency
from app.brokers.port import Uncertain
from app.domain.market import Instrument, Quote

Bar = tuple[Decimal, Decimal, Decimal, Decimal]
"""Open, high, low, close."""

REFRESH: Final = timedelta(hours=1)
"""How old a market table may be; symbols are listed and suspended all the time."""


class PublicMarket:
    """One exchange without an account. The market table it loads is lent to every account there."""

    def __init__(self, key: str, exchange: Any, surroundings: Surroundings) -> None:
        self.key = key
        self._exchange = exchange
        self._surroundings = surroundings
        self._listings: Mapping[str, Listed] = {}
        self._known: Mapping[str, Listed] = {}
        self._loaded_at: datetime | None = None
        self._loading = asyncio.Lock()

    async def listings(self) -> Mapping[str, Listed]:
        """Everything open for trading, by unified symbol. Raises VenueError while nothing was loaded yet."""
        if self._is_fresh():
            return self._listings
        async with self._loading:
            if not self._is_fresh():
                await self._load()
        return self._listings

    async def known(self) -> Mapping[str, Listed]:
        """The same with what can no longer be traded, and what this process has seen before it went."""
        await self.listings()
        return self._known

    async def lend(self, exchange: Any) -> None:
        """Let an account's exchange object use this market table, and sign by the venue's clock."""
        await self.listings()
        with calling(Call()):
            await self._surroundings.clock.know(self._exchange, self._surroundings.now)
        if exchange.markets is not self._exchange.markets:
            exchange.set_markets_from_exchange(self._exchange)

    async def instruments(self) -> Mapping[str, Instrument]:
        """Every instrument by its unified symbol. Raises VenueError."""
        return {symbol: listed.instrument for symbol, listed in (await self.listings()).items()}

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes in one request where the venue allows. Raises VenueError."""
        listings = await self.listings()
        known = [symbol for symbol in symbols if symbol in listings]
        if not known:
            return {}
        asked_at = self._surroundings.now()
        clock, tickers = self._surroundings.clock, await self._tickers(known)
        quotes = [_quote(ticker, asked_at, clock) for ticker in tickers.values()]
        return {quote.symbol: quote for quote in quotes if quote is not None and quote.symbol in known}

    async def references(self, trigger: Trigger, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """The present prices that stops may go by, by symbol; those unknown are left out. Raises VenueError."""
        listings = await self.listings()
        known = [symbol for symbol in symbols if symbol in listings]
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                answers = await getattr(self._exchange, trigger.method)(known) if known else {}
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None
        found = {symbol: decimal(answers.get(symbol, {}).get(trigger.field)) for symbol in known}
        return {symbol: price for symbol, price in found.items() if price}

    async def minutes(self, symbol: str, since: datetime, until: datetime) -> Mapping[datetime, Bar]:
        """The one-minute candles that open in [since, until): open, high, low, close by opening time.

        At most as many as the venue tells at once, the oldest first; none where it tells none. Raises VenueError.
        """
        if not self._exchange.has["fetchOHLCV"] or "1m" not in (self._exchange.timeframes or {}):
            return {}
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                rows = await self._exchange.fetch_ohlcv(symbol, "1m", since=int(since.timestamp() * 1000))
                bars = {datetime.fromtimestamp(int(row[0]) / 1000, UTC): _bar(row) for row in rows}
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None
        return {opened: bar for opened, bar in bars.items() if since <= opened < until}

    async def close(self) -> None:
        """Let go of the exchange object; the session is shared."""
        await self._exchange.close()

    def _is_fresh(self) -> bool:
        return self._loaded_at is not None and self._surroundings.now() - self._loaded_at < REFRESH

    async def _load(self) -> None:
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                markets = await self._exchange.load_markets(True)
                listings = listings_of(markets, self._exchange.precisionMode)
                known = known_of(markets, self._exchange.precisionMode)
            except Exception as error:  # noqa: BLE001 - classes raise anything; each is told as what it proves
                failure = of_read(error, call)
                if self._loaded_at is None:
                    raise failure from None
                return
        self._listings, self._known = listings, {**self._known, **known}
        self._loaded_at = self._surroundings.now()

    async def _tickers(self, symbols: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        exchange = self._exchange
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                if exchange.has["fetchBidsAsks"] is True:
                    return dict(await exchange.fetch_bids_asks(list(symbols)))
                if exchange.has["fetchTickers"] is True and len(symbols) > 1:
                    return dict(await exchange.fetch_tickers(list(symbols)))
                if exchange.has["fetchTicker"]:
                    return {symbol: await exchange.fetch_ticker(symbol) for symbol in symbols}
            except Exception as error:  # noqa: BLE001 - as above
                raise of_read(error, call) from None
        raise Uncertain(f"{exchange.name} does not tell its prices.")


def _bar(row: Sequence[Any]) -> Bar:
    open_, high, low, close = (Decimal(str(price)) for price in row[1:5])
    return open_, high, low, close


def _quote(ticker: Mapping[str, Any], asked_at: datetime, clock: VenueClock) -> Quote | None:
    """None without both sides, or where they cannot be read. What carries no time is as old as the question."""
    try:
        bid, ask = decimal(ticker.get("bid")), decimal(ticker.get("ask"))
        moment = ticker.get("timestamp")
        told_at = clock.ours(datetime.fromtimestamp(int(moment) / 1000, UTC)) if moment else asked_at
    except (ArithmeticError, ValueError, TypeError, OSError):
        return None
    if bid is None or ask is None or bid <= 0 or ask <= 0:
        return None
    return Quote(symbol=ticker["symbol"], bid=bid, ask=ask, time=told_at)
