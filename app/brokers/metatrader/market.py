"""The market as one account sees it: a broker's own symbols, its quotes, and what a lot is worth in the account."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.brokers.metatrader import rates, wire
from app.brokers.metatrader.commissions import per_lot
from app.brokers.metatrader.listings import Listing, candidates, listing_4, listing_5
from app.brokers.metatrader.session import Session
from app.brokers.metatrader.wire import Record, ServerTime
from app.brokers.port import Refused, VenueError
from app.domain.market import Instrument, Quote
from app.domain.money import ZERO

log = structlog.get_logger(__name__)

LISTINGS_LAST: Final = timedelta(minutes=10)
"""For so long what a broker says of a symbol is believed."""

COMMISSIONS_LAST: Final = timedelta(hours=1)
COMMISSIONS_SINCE: Final = timedelta(days=30)

QUIET: Final = timedelta(seconds=60)
"""A quote this old raises the question whether its market is open; and no money is converted by it."""

AHEAD: Final = timedelta(seconds=60)
"""A broker's clock may be so far ahead of ours; time zones are further apart."""


class AccountMarket:
    """Symbols and quotes of one account."""

    def __init__(self, session: Session, now: Callable[[], datetime]) -> None:
        self._session = session
        self._now = now
        self._names: tuple[datetime, Sequence[str]] | None = None
        self._listings: dict[str, tuple[datetime, Listing]] = {}
        self._commissions: tuple[datetime, Mapping[str, Decimal]] | None = None
        self._currency: str | None = None

    async def instruments(self, meant: Collection[str]) -> Mapping[str, Instrument]:
        """The symbols that one of `meant` may mean, by the broker's own names. Raises VenueError."""
        wanted = candidates(await self._all_names(), meant)
        found = await asyncio.gather(*(self.listing(name) for name in wanted))
        return {each.instrument.symbol: each.instrument for each in found}

    async def listing(self, name: str) -> Listing:
        """One symbol. Raises Refused `symbol_unknown`, and VenueError."""
        known = self._listings.get(name)
        if known is not None and self._now() - known[0] < LISTINGS_LAST:
            return known[1]
        if name not in await self._all_names():
            raise Refused(f"{name} is not listed here.", code="symbol_unknown")
        params = Record.of(await self._session.ask("SymbolParams", symbol=name))
        read = listing_5 if self._session.platform.has_deals else listing_4
        listing = read(name, params, await self.currency())
        self._listings[name] = (self._now(), listing)
        return listing

    async def currency(self) -> str:
        """What the account counts in. Raises VenueError."""
        if self._currency is None:
            self._currency = Record.of(await self._session.ask("AccountSummary")).text("currency").upper()
        return self._currency

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes with what a lot is worth; unknown symbols are left out. Raises VenueError."""
        names, currency = await self._all_names(), await self.currency()
        listings = await asyncio.gather(*(self.listing(each) for each in symbols if each in names))
        needs = {need for listing in listings for need in rates.needs_of(listing, currency)}
        pairs = {pair: rates.symbol_for(pair, names) for need in needs for pair in need.pairs}
        wanted = {each.instrument.symbol for each in listings}
        told = await self._told_with(wanted, {name for name in pairs.values() if name is not None})
        fresh = {symbol: quote for symbol, quote in told.items() if quote.is_usable(self._now(), QUIET)}
        by_currency = {
            need.source: found
            for need in needs
            if (found := rates.rate(*(fresh.get(pairs[pair] or "") for pair in need.pairs))) is not None
        }
        commissions = await self._known_commissions(listings)
        return {
            listing.instrument.symbol: replace(
                quote,
                worth=rates.worth(listing, currency, by_currency, commissions[quote.symbol], quote.ask),
                is_session=await self._is_session(listing, quote),
            )
            for listing in listings
            if (quote := told.get(listing.instrument.symbol)) is not None
        }

    async def price(self, symbol: str) -> Quote:
        """The present quote of one symbol. Raises VenueError."""
        found = (await self._told({symbol})).get(symbol)
        if found is None:
            raise Refused(f"{symbol} has no price.", code="quote_stale")
        return found

    async def _told_with(self, wanted: Collection[str], others: Collection[str]) -> Mapping[str, Quote]:
        """Quotes of what is `wanted`, with `others` that only money is converted by: no exit waits for those."""
        if others:
            try:
                return await self._told({*wanted, *others})
            except VenueError as failure:
                log.warning(
                    "conversion_unavailable", market=self._session.platform.id, reason=failure.message
                )
        return await self._told(wanted)

    async def _all_names(self) -> Sequence[str]:
        if self._names is None or self._now() - self._names[0] > LISTINGS_LAST:
            platform = self._session.platform
            told = await self._session.has(platform.symbols)
            if told is None:
                told = await self._session.ask("SymbolList" if platform.symbols == "Symbols" else "Symbols")
            self._names = (self._now(), wire.names(told))
        return self._names[1]

    async def _told(self, symbols: Collection[str]) -> Mapping[str, Quote]:
        """Quotes as the broker tells them."""
        rows = await self._rows(sorted(symbols))
        quotes = self._read(rows, await self._session.server_time())
        if any(each.time - self._now() > AHEAD for each in quotes):
            quotes = self._read(rows, await self._session.server_time(anew=True))
        return {each.symbol: replace(each, time=self._past(each.time)) for each in quotes}

    async def _rows(self, wanted: Sequence[str]) -> Sequence[Record]:
        if len(wanted) > 1:
            told = await self._session.has("GetQuoteMany", symbols=wanted)
            if told is not None:
                return wire.records(told)
        path = self._session.platform.quote
        answers = await asyncio.gather(*(self._session.ask(path, symbol=each) for each in wanted))
        return [Record.of(answer) for answer in answers]

    def _read(self, told: Iterable[Record], server: ServerTime) -> Sequence[Quote]:
        return [
            Quote(each.text("symbol"), each.amount("bid"), each.amount("ask"), moment)
            for each in told
            if (moment := server.read(each.text("time"))) is not None
        ]

    def _past(self, moment: datetime) -> datetime:
        """When a quote was made. What is too far ahead counts as old: how old, a wrong clock does not say."""
        now = self._now()
        return now - (moment - now) if moment - now > AHEAD else min(moment, now)

    async def _is_session(self, listing: Listing, quote: Quote) -> bool:
        """Whether the symbol trades; asked only where the quote makes one wonder."""
        if quote.bid > ZERO and self._now() - quote.time <= QUIET:
            return True
        if not self._session.platform.has_deals:
            # There is no word for it here, but no price either: and its hours as the broker has set them.
            told = listing.is_session(self._now(), await self._session.server_time())
            return told is not False and quote.bid > ZERO
        try:
            told = await self._session.has("IsTradeSession", symbol=listing.instrument.symbol)
        except VenueError as failure:
            log.warning("session_unknown", symbol=listing.instrument.symbol, reason=failure.message)
            return True
        return told is not False

    async def _known_commissions(self, listings: Sequence[Listing]) -> Mapping[str, Decimal | None]:
        """Of one lot in and out, by symbol: as the broker states it, else as it last charged it, else unknown."""
        if any(each.commission is None for each in listings):
            now = self._now()
            if self._commissions is None or now - self._commissions[0] > COMMISSIONS_LAST:
                try:
                    self._commissions = (now, await per_lot(self._session, now - COMMISSIONS_SINCE, now))
                except VenueError as failure:
                    # Quotes are what exits wait for.
                    log.warning("commissions_unknown", reason=failure.message)
        charged = self._commissions[1] if self._commissions else {}
        return {
            each.instrument.symbol: charged.get(each.instrument.symbol)
            if each.commission is None
            else each.commission
            for each in listings
        }
