"""The paper venue as a broker like any other: it is asked, it answers in running totals, and it may refuse.

Every call first lets the account's resting orders meet the prices since the last one, under the account's row
lock and in one transaction with what was asked. A call that fails leaves nothing behind: as prices are a function
of time, the next one settles to the same fills.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.brokers.directory import Access
from app.brokers.paper.admission import admitted
from app.brokers.paper.book import filled_since, opened
from app.brokers.paper.listings import PaperMarket, recorded_market, synthetic_market
from app.brokers.paper.matching import Books, matched, standings_of
from app.brokers.paper.tape import Recordings
from app.brokers.paper.terms import Prices, Terms
from app.brokers.port import (
    ABSENT,
    CANNOT_SAY,
    TERMS_NOT_SERVED,
    Account,
    Balance,
    Holding,
    Permissions,
    Refused,
    Resting,
    Silence,
    Traits,
    Uncertain,
    Unreachable,
)
from app.domain.holdings import Fill
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO
from app.domain.orders import OrderKey, OrderReport, OrderRequest, OrderStatus, client_order_id
from app.domain.positions import PositionSide

VALIDITY: Final = timedelta(seconds=5)
SETTLE: Final = timedelta(seconds=8)

READ_LAG: Final = timedelta(seconds=5)
"""The book never lags behind itself; this leaves the engine's own records time to catch up."""

UNSETTLED: Final = timedelta(minutes=1)
"""How far an account's settled time may lag behind while nothing happens: it spares a write at every look."""

Sessions = async_sessionmaker[AsyncSession]


class PaperVenue:
    """Opens paper accounts. Markets are shared by all that see the same prices."""

    def __init__(self, sessions: Sessions, recorded: PaperMarket | None, now: Callable[[], datetime]) -> None:
        self._sessions = sessions
        self._recorded = recorded
        self._synthetic: dict[str, PaperMarket] = {}
        self._now = now

    async def open(self, access: Access) -> "PaperBroker":
        """The account of a connection. Raises Refused for terms it cannot serve."""
        terms = Terms.read(access)
        traits = Traits(
            netting=terms.market_type is MarketType.SWAP,
            native_protection=access.native_protection,
            fee_rate=terms.fee_rate,
            slippage=terms.allowance,
            validity=VALIDITY,
            settle=SETTLE,
            read_lag=READ_LAG,
        )
        return PaperBroker(
            access.connection_id, terms, traits, self._market(terms), self._sessions, self._now
        )

    async def close(self) -> None:
        """Forget the markets; the sessions are their owner's to close."""
        self._synthetic.clear()

    def _market(self, terms: Terms) -> PaperMarket:
        if terms.prices is Prices.SYNTHETIC:
            if terms.seed not in self._synthetic:
                self._synthetic[terms.seed] = synthetic_market(terms.seed)
            return self._synthetic[terms.seed]
        if self._recorded is None:
            raise Refused(
                "No recording is played here: start the engine with --candles SYMBOL=FILE.csv.",
                code=TERMS_NOT_SERVED,
            )
        return self._recorded


def open_paper(sessions: Sessions, recordings: Recordings | None, now: Callable[[], datetime]) -> PaperVenue:
    """The venue of one process. Recordings are read here, once; raises RecordingError."""
    recorded = recorded_market(recordings) if recordings is not None and recordings.files else None
    return PaperVenue(sessions, recorded, now)


@dataclass(slots=True)
class Visit:
    """An account during one call: settled until `moment`; what `books` are at its end is written down."""

    books: Books
    moment: datetime


class PaperBroker:
    """One paper account. It keeps nothing in memory: any number of them on one account agree."""

    def __init__(
        self,
        connection_id: UUID,
        terms: Terms,
        traits: Traits,
        market: PaperMarket,
        sessions: Sessions,
        now: Callable[[], datetime],
    ) -> None:
        self._connection_id = connection_id
        self._terms = terms
        self._traits = traits
        self._market = market
        self._sessions = sessions
        self._now = now

    @property
    def traits(self) -> Traits:
        """How this venue behaves for this connection."""
        return self._traits

    @property
    def market_key(self) -> str:
        """Equal for all connections that see the same prices."""
        return self._market.key

    def client_order_id(self, order_id: UUID, attempt: int) -> str:
        """The id under which an attempt is sent: 32 hex digits."""
        return client_order_id(order_id, attempt)

    async def instruments(self) -> Mapping[str, Instrument]:
        """Everything listed, spot and swap; an account trades those of its own market type."""
        return {symbol: listing.instrument for symbol, listing in self._market.listings.items()}

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes; symbols that are unknown, or not quoted yet, are left out."""
        return self._quotes_at(symbols, self._now())

    async def account(self) -> Account:
        """Balances and equity by currency, including everything that has happened until now."""
        async with self._visit() as visit:
            quotes = self._quotes_at(visit.books.ledger.nets, visit.moment)
            standings = standings_of(visit.books, self._market.listings, quotes, self._terms)
        return Account(
            identity=str(self._connection_id),
            balances={
                currency: Balance(free=max(standing.free, ZERO), total=standing.total)
                for currency, standing in standings.items()
            },
            equity={currency: standing.equity for currency, standing in standings.items()},
            permissions=Permissions(trade=True, withdraw=False),
            as_of=visit.moment,
        )

    async def place(self, request: OrderRequest) -> OrderReport:
        """Take one order, once. Raises Refused, Unreachable when stale, Uncertain for an id that is taken."""
        name = request.client_order_id
        async with self._visit([name]) as visit:
            if self._now() - request.signed_at > self._traits.validity:
                raise Unreachable("The request was stale when it arrived and was not executed.")
            if name in visit.books.tickets:
                raise Uncertain("duplicate client order id")
            quotes = self._quotes_at([request.symbol, *visit.books.ledger.nets], visit.moment)
            visit.books = admitted(
                visit.books,
                request,
                visit.books.taken + 1,
                self._market.listings,
                quotes,
                self._terms,
                visit.moment,
            )
        return visit.books.tickets[name].report()

    async def cancel(self, key: OrderKey) -> OrderReport:
        """Take an order back; one that is final already is reported as it is. Raises VenueError."""
        name = key.client_order_id
        async with self._visit([name]) as visit:
            ticket = visit.books.tickets.get(name)
            if ticket is None:
                raise Refused("There is no such order.")
            if ticket.is_open:
                ticket = ticket.ended(OrderStatus.CANCELLED, visit.moment, "Cancelled on request.")
                visit.books = visit.books.with_tickets([ticket])
        return ticket.report()

    async def find(self, key: OrderKey) -> OrderReport | Silence:
        """What the venue knows of one order."""
        return (await self.survey([key]))[key.client_order_id]

    async def survey(self, keys: Sequence[OrderKey]) -> Mapping[str, OrderReport | Silence]:
        """What the venue knows of many, in one transaction; CANNOT_SAY for all when it fails."""
        names = [key.client_order_id for key in keys]
        try:
            async with self._visit(names) as visit:
                tickets = visit.books.tickets
        except Uncertain:
            return dict.fromkeys(names, CANNOT_SAY)
        return {name: tickets[name].report() if name in tickets else ABSENT for name in names}

    async def holdings(self) -> Sequence[Holding]:
        """Coins on spot, by their symbol in the account's currency; net positions on swap."""
        async with self._visit() as visit:
            ledger = visit.books.ledger
        if self._terms.market_type is MarketType.SWAP:
            return [
                Holding(symbol, PositionSide.opened_by(net.entry_side), net.quantity.copy_abs())
                for symbol, net in ledger.nets.items()
                if net.quantity
            ]
        return [
            Holding(self._symbol_of(coin), PositionSide.LONG, total)
            for coin, total in ledger.balances.items()
            if total > ZERO and coin not in self._money
        ]

    async def fills(self, symbol: str, since: datetime, ours: Sequence[OrderKey]) -> Sequence[Fill]:
        """What other orders than `ours` have filled since then: an order here is filled as one trade."""
        async with self._visit():
            pass  # what the prices did until now is written down
        async with self._book() as session:
            tickets = await filled_since(session, self._connection_id, symbol, since)
        known = {key.client_order_id for key in ours}
        return [ticket.as_fill() for ticket in tickets if ticket.request.client_order_id not in known]

    async def resting(self, symbols: Sequence[str]) -> Sequence[Resting]:
        """Every order that rests in these symbols."""
        async with self._visit() as visit:
            return [
                Resting(ticket.request.symbol, ticket.request.client_order_id)
                for ticket in visit.books.resting
                if ticket.request.symbol in symbols
            ]

    async def close(self) -> None:
        """Nothing to let go of: sessions and market belong to the venue."""

    @asynccontextmanager
    async def _visit(self, client_order_ids: Iterable[str] = ()) -> AsyncIterator[Visit]:
        """The account, locked and settled, with its resting orders and those of these ids.

        Raises Uncertain when the database fails, whether or not it had committed.
        """
        async with self._book() as session:
            page = await opened(session, self._connection_id, self._terms, client_order_ids, self._now())
            since = page.account.settled_at
            # Another process may have settled by a clock ahead of ours: time never runs back here.
            moment = max(self._now(), since)
            books = matched(page.books, self._market.listings, self._terms, since, moment)
            visit = Visit(books, moment)
            yield visit
            if visit.books is not page.books or (books.is_exposed and moment - since > UNSETTLED):
                page.write(session, visit.books, moment)

    @asynccontextmanager
    async def _book(self) -> AsyncIterator[AsyncSession]:
        """The database, in one transaction. Raises Uncertain when it fails, whether or not it had committed."""
        try:
            async with self._sessions.begin() as session:
                yield session
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Uncertain(f"The paper venue's book failed: {type(error).__name__}.") from error

    def _quotes_at(self, symbols: Iterable[str], moment: datetime) -> dict[str, Quote]:
        listings = self._market.listings
        quotes = [listings[symbol].quote(moment) for symbol in symbols if symbol in listings]
        return {quote.symbol: quote for quote in quotes if quote is not None}

    @property
    def _money(self) -> frozenset[str]:
        """The currencies that coins are bought with."""
        quoted = {listing.instrument.quote for listing in self._market.listings.values()}
        return frozenset({self._terms.currency, *quoted})

    def _symbol_of(self, coin: str) -> str:
        """The spot symbol of a coin, in the account's own currency where it is listed."""
        own = f"{coin}/{self._terms.currency}"
        listed = sorted(
            symbol
            for symbol, listing in self._market.listings.items()
            if listing.instrument.base == coin and listing.instrument.market_type is MarketType.SPOT
        )
        return own if own in listed or not listed else listed[0]
