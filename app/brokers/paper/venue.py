"""The paper venue as a broker like any other: it is asked, it answers in running totals, and it may refuse.

Every call first lets the account's resting orders meet the prices since the last one, under the account's row
lock and in one transaction with what was asked. A call that fails leaves nothing behind: as prices are a function
of time, the next one settles to the same fills.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.brokers.directory import Access
from app.brokers.paper.admission import admitted
from app.brokers.paper.book import filled_since, opened, outlined
from app.brokers.paper.listings import Board, Listing, PaperMarket, recorded_market, synthetic_market
from app.brokers.paper.live import LiveMarket, PublicSources
from app.brokers.paper.matching import Books, matched, standings_of
from app.brokers.paper.tape import Recordings
from app.brokers.paper.terms import RECORDING, SYNTHETIC, Terms
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
from app.domain.holdings import Fill, Payment
from app.domain.market import Instrument, MarketType, Quote
from app.domain.money import ZERO
from app.domain.orders import OrderKey, OrderReport, OrderRequest, OrderStatus, TriggerSource, client_order_id
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

    def __init__(
        self,
        sessions: Sessions,
        recorded: PaperMarket | None,
        now: Callable[[], datetime],
        sources: PublicSources | None = None,
    ) -> None:
        self._sessions = sessions
        self._recorded = recorded
        self._sources = sources
        self._boards: dict[tuple[str, ...], Board] = {}
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
            access.connection_id, terms, traits, await self._board(terms), self._sessions, self._now
        )

    async def close(self) -> None:
        """Forget the markets; the sessions are their owner's to close."""
        self._boards.clear()

    async def _board(self, terms: Terms) -> Board:
        """The board of an account, shared by all that see the same prices."""
        if terms.prices == RECORDING:
            return self._played()
        key = (terms.prices, terms.seed if terms.prices == SYNTHETIC else terms.market_type.value)
        if key not in self._boards:
            self._boards[key] = await self._made(terms)
        return self._boards[key]

    async def _made(self, terms: Terms) -> Board:
        if terms.prices == SYNTHETIC:
            return synthetic_market(terms.seed)
        if self._sources is None:
            raise Refused("Prices of exchanges cannot be had here.", code=TERMS_NOT_SERVED)
        return LiveMarket(await self._sources(terms.prices, terms.market_type), self._now)

    def _played(self) -> Board:
        if self._recorded is None:
            raise Refused(
                "No recording is played here: start the engine with --candles SYMBOL=FILE.csv.",
                code=TERMS_NOT_SERVED,
            )
        return self._recorded


def open_paper(
    sessions: Sessions,
    recordings: Recordings | None,
    now: Callable[[], datetime],
    sources: PublicSources | None = None,
) -> PaperVenue:
    """The venue of one process; `sources` finds the public prices of exchanges.

    Recordings are read here, once; raises RecordingError.
    """
    recorded = recorded_market(recordings) if recordings is not None and recordings.files else None
    return PaperVenue(sessions, recorded, now, sources)


@dataclass(slots=True)
class Visit:
    """An account during one call: settled until `moment`; what `books` are at its end is written down."""

    books: Books
    listings: Mapping[str, Listing]
    moment: datetime

    def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """The quotes of the moment, of those symbols that have one."""
        return _quotes_of(self.listings, symbols, self.moment)


class PaperBroker:
    """One paper account. It keeps nothing in memory: any number of them on one account agree."""

    def __init__(
        self,
        connection_id: UUID,
        terms: Terms,
        traits: Traits,
        board: Board,
        sessions: Sessions,
        now: Callable[[], datetime],
    ) -> None:
        self._connection_id = connection_id
        self._terms = terms
        self._traits = traits
        self._board = board
        self._sessions = sessions
        self._now = now

    @property
    def traits(self) -> Traits:
        """How this venue behaves for this connection."""
        return self._traits

    @property
    def market_key(self) -> str:
        """Equal for all connections that see the same prices."""
        return self._board.key

    def client_order_id(self, order_id: UUID, attempt: int) -> str:
        """The id under which an attempt is sent: 32 hex digits."""
        return client_order_id(order_id, attempt)

    async def instruments(self, meant: Collection[str] = ()) -> Mapping[str, Instrument]:
        """Everything listed, spot and swap; an account trades those of its own market type."""
        del meant
        return await self._board.instruments()

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Quote]:
        """The present quotes; symbols that are unknown, or not quoted yet, are left out."""
        return _quotes_of(await self._board.known(symbols, None), symbols, self._now())

    async def references(self, source: TriggerSource, symbols: Sequence[str]) -> Mapping[str, Decimal]:  # noqa: ARG002 - the port's shape
        """None: mark, last trade and index are one price here, and stops go by what they trade at."""
        return {}

    async def account(self) -> Account:
        """Balances and equity by currency, including everything that has happened until now."""
        async with self._visit() as visit:
            quotes = visit.quotes(visit.books.ledger.nets)
            standings = standings_of(visit.books, visit.listings, quotes, self._terms)
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
        async with self._visit([name], [request.symbol]) as visit:
            if self._now() - request.signed_at > self._traits.validity:
                raise Unreachable("The request was stale when it arrived and was not executed.")
            if name in visit.books.tickets:
                raise Uncertain("duplicate client order id")
            quotes = visit.quotes([request.symbol, *visit.books.ledger.nets])
            visit.books = admitted(
                visit.books,
                request,
                visit.books.taken + 1,
                visit.listings,
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
        except (Uncertain, Unreachable):
            return dict.fromkeys(names, CANNOT_SAY)
        return {name: tickets[name].report() if name in tickets else ABSENT for name in names}

    async def conflict(self, symbol: str) -> str | None:
        """None: the book takes the connection's leverage and asks for no margin mode."""
        del symbol
        return None

    async def holdings(self, handles: Collection[str] = ()) -> Sequence[Holding]:
        """Coins on spot, by their symbol in the account's currency; net positions on swap."""
        del handles  # positions have no names here
        async with self._visit() as visit:
            ledger = visit.books.ledger
        if self._terms.market_type is MarketType.SWAP:
            return [
                Holding(symbol, PositionSide.opened_by(net.entry_side), net.quantity.copy_abs())
                for symbol, net in ledger.nets.items()
                if net.quantity
            ]
        listed = (await self._board.instruments()).values()
        money = {self._terms.currency, *(instrument.quote for instrument in listed)}
        return [
            Holding(self._symbol_of(coin, listed), PositionSide.LONG, total)
            for coin, total in ledger.balances.items()
            if total > ZERO and coin not in money
        ]

    async def fills(
        self, symbol: str, since: datetime, ours: Sequence[OrderKey], handle: str | None = None
    ) -> Sequence[Fill]:
        """What other orders than `ours` have filled since then: an order here is filled as one trade."""
        del handle
        async with self._visit():
            pass  # what the prices did until now is written down
        async with self._book() as session:
            tickets = await filled_since(session, self._connection_id, symbol, since)
        known = {key.client_order_id for key in ours}
        return [ticket.as_fill() for ticket in tickets if ticket.request.client_order_id not in known]

    async def payments(self, since: datetime) -> Sequence[Payment]:
        """None: this venue charges nothing for holding."""
        del since
        return []

    async def resting(self, symbols: Sequence[str] | None) -> Sequence[Resting]:
        """Every order that rests in these symbols, or in all."""
        async with self._visit() as visit:
            return [
                Resting(
                    symbol=ticket.request.symbol,
                    client_order_id=ticket.request.client_order_id,
                    exchange_order_id=str(ticket.number),
                    side=ticket.request.side,
                    quantity=ticket.request.quantity,
                )
                for ticket in visit.books.resting
                if symbols is None or ticket.request.symbol in symbols
            ]

    async def close(self) -> None:
        """Nothing to let go of: sessions and market belong to the venue."""

    @asynccontextmanager
    async def _visit(
        self, client_order_ids: Iterable[str] = (), symbols: Iterable[str] = ()
    ) -> AsyncIterator[Visit]:
        """The account, locked and settled, with its resting orders and those of these ids.

        `symbols` are those whose prices are needed beside those of its orders and positions. Raises Uncertain when
        the database fails, whether or not it had committed, and Unreachable when prices cannot be had.
        """
        seen = await self._looked_up(symbols)
        async with self._book() as session:
            page = await opened(session, self._connection_id, self._terms, client_order_ids, self._now())
            if seen.lacks(page.books):
                raise Unreachable("The account changed while its prices were asked for; ask again.")
            since = page.account.settled_at
            # Another process may have settled by a clock ahead of ours: time never runs back here.
            moment = max(self._now(), since)
            books = matched(page.books, seen.listings, self._terms, since, moment)
            visit = Visit(books, seen.listings, moment)
            yield visit
            known_until = self._board.settled_by(since, moment)
            if visit.books is not page.books:
                page.write(session, visit.books, moment)
            elif books.symbols and known_until - since > UNSETTLED:
                page.write(session, visit.books, known_until)

    @asynccontextmanager
    async def _book(self) -> AsyncIterator[AsyncSession]:
        """The database, in one transaction. Raises Uncertain when it fails, whether or not it had committed."""
        try:
            async with self._sessions.begin() as session:
                yield session
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Uncertain(f"The paper venue's book failed: {type(error).__name__}.") from error

    async def _looked_up(self, symbols: Iterable[str]) -> "_Prices":
        """The prices a visit needs, asked for before anything is locked. Raises VenueError."""
        if not self._board.is_asked:
            return _Prices(await self._board.known(symbols, None), None)
        async with self._book() as session:
            outline = await outlined(session, self._connection_id)
        asked = {*symbols, *outline.symbols}
        return _Prices(await self._board.known(asked, outline.settled_at), frozenset(asked))

    def _symbol_of(self, coin: str, listed: Iterable[Instrument]) -> str:
        """The spot symbol of a coin, in the account's own currency where it is listed."""
        own = f"{coin}/{self._terms.currency}"
        symbols = sorted(
            instrument.symbol
            for instrument in listed
            if instrument.base == coin and instrument.market_type is MarketType.SPOT
        )
        return own if own in symbols or not symbols else symbols[0]


@dataclass(frozen=True, slots=True)
class _Prices:
    """The prices a visit works with, and for which symbols they were asked; None is for all there are."""

    listings: Mapping[str, Listing]
    asked: frozenset[str] | None

    def lacks(self, books: Books) -> bool:
        """Whether the account holds or wants something that was not asked for."""
        return self.asked is not None and not self.asked.issuperset(books.symbols)


def _quotes_of(listings: Mapping[str, Listing], symbols: Iterable[str], moment: datetime) -> dict[str, Quote]:
    quotes = [listings[symbol].quote(moment) for symbol in symbols if symbol in listings]
    return {quote.symbol: quote for quote in quotes if quote is not None}
