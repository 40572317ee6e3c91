"""Public markets: listings and quotes of one exchange, asked for without a key and shared by all who look there.

They are asked for with the urgency of protection: few requests serve every account, and no exit is found without them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from app.brokers.crypto.exchange import Call, Surroundings, calling
from app.brokers.crypto.markets import Listed, known_of, listings_of
from app.brokers.crypto.outcomes import of_keyless_read
from app.brokers.crypto.quotes import Quotes, price_of
from app.brokers.crypto.ways import Quoting, Trigger
from app.brokers.limits.buckets import Urgency
from app.brokers.port import Uncertain, VenueError
from app.domain.market import Instrument, Quote

Bar = tuple[Decimal, Decimal, Decimal, Decimal]
"""Open, high, low, close."""

REFRESH: Final = timedelta(hours=1)
"""How old a market table may be before it is asked for again; symbols are listed and suspended all the time."""

FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(minutes=15)
"""How long a venue that did not tell its table is left alone: twice as long each time."""


class PublicMarket:
    """One exchange without an account. The market table it loads is lent to every account there."""

    def __init__(
        self,
        key: str,
        exchange: Any,
        surroundings: Surroundings,
        quoted_by: Sequence[Quoting] = tuple(Quoting),
    ) -> None:
        self.key = key
        self._exchange = exchange
        self._surroundings = surroundings
        self._quotes = Quotes(exchange, quoted_by, surroundings.clock)
        self._listings: Mapping[str, Listed] = {}
        self._known: Mapping[str, Listed] = {}
        self._due_at: datetime | None = None
        """When the table is asked for again; None while there is none."""
        self._failures = 0
        """How often in a row it was asked for in vain."""
        self._loading: asyncio.Task[VenueError | None] | None = None

    async def listings(self) -> Mapping[str, Listed]:
        """Everything open for trading, by unified symbol. Raises VenueError while nothing was loaded yet.

        A table that is older than it should be is answered all the same, while another one is on its way.
        """
        if self._due_at is None or self._surroundings.now() >= self._due_at:
            if self._loading is None or self._loading.done():
                self._loading = asyncio.create_task(self._load())
            if self._due_at is None:
                # All who wait share the attempt; that one of them gives up ends it for nobody.
                failure = await asyncio.shield(self._loading)
                if failure is not None:
                    raise failure
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
        return await self._quotes.of(known, self._surroundings.now)

    async def references(self, trigger: Trigger, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """The present prices that stops may go by, by symbol; those unknown are left out. Raises VenueError."""
        listings = await self.listings()
        known = [symbol for symbol in symbols if symbol in listings]
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                answers = await getattr(self._exchange, trigger.method)(known, {}) if known else {}
                found = {symbol: price_of(answers.get(symbol), trigger.field) for symbol in known}
            except Exception as error:  # noqa: BLE001 - as above
                raise of_keyless_read(error, call) from None
        return {symbol: price for symbol, price in found.items() if price is not None}

    async def minutes(self, symbol: str, since: datetime, until: datetime) -> Mapping[datetime, Bar]:
        """The one-minute candles that open in [since, until): open, high, low, close by opening time.

        At most as many as the venue tells at once, the oldest first; none where it tells none. Raises VenueError.
        """
        if not self._exchange.has["fetchOHLCV"] or "1m" not in (self._exchange.timeframes or {}):
            return {}
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                start = int(since.timestamp() * 1000)
                rows = await self._exchange.fetch_ohlcv(symbol, "1m", start, None, {})
                bars = {datetime.fromtimestamp(int(row[0]) / 1000, UTC): _bar(row) for row in rows}
            except Exception as error:  # noqa: BLE001 - as above
                raise of_keyless_read(error, call) from None
        return {opened: bar for opened, bar in bars.items() if since <= opened < until}

    async def close(self) -> None:
        """Let go of the exchange object; the session is shared."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        await self._exchange.close()

    async def _load(self) -> VenueError | None:
        """Ask for the market table, and say when to ask again; what went wrong, if anything did."""
        with calling(Call(urgency=Urgency.PROTECTION)) as call:
            try:
                markets = await self._exchange.load_markets(True, {})
                listings = listings_of(markets, self._exchange.precisionMode)
                known = known_of(markets, self._exchange.precisionMode)
                if not call.is_clean or not listings:
                    raise Uncertain("The venue's market table cannot be read.")
            except Exception as error:  # noqa: BLE001 - classes raise anything; each is told as what it proves
                if self._due_at is not None:
                    pause = min(FIRST_PAUSE * (1 << min(self._failures, 10)), LONGEST_PAUSE)
                    self._due_at = self._surroundings.now() + pause
                self._failures += 1
                return of_keyless_read(error, call)
        self._listings, self._known = listings, {**self._known, **known}
        self._due_at, self._failures = self._surroundings.now() + REFRESH, 0
        return None


def _bar(row: Sequence[Any]) -> Bar:
    open_, high, low, close = (Decimal(str(price)) for price in row[1:5])
    return open_, high, low, close
