"""The paper venue's book in the database: accounts, orders and net positions, and what is asked of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    ForeignKey,
    Index,
    Select,
    String,
    UniqueConstraint,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.brokers.paper.ledger import Ledger, Net, deposited
from app.brokers.paper.matching import Books
from app.brokers.paper.terms import Terms
from app.brokers.paper.tickets import Ticket
from app.domain import money
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.domain.orders import Leg, OrderRequest, OrderStatus, OrderType, Side
from app.store.schema import Amount, Base, Json, Moment, Name, checked


class PaperAccount(Base):
    """One account. Its row lock is what everything that reads or changes the account queues behind."""

    __tablename__ = "paper_accounts"

    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    balances: Mapped[Json]
    """Total by currency, as decimal strings; on swap the wallet."""
    orders_taken: Mapped[int]
    """How many orders the account has placed: the number of the last one."""
    settled_at: Mapped[Moment]
    """Resting orders have met every price until here."""
    created_at: Mapped[Moment]


class PaperOrder(Base):
    """One order the venue took. A refused one leaves no trace, as at most venues."""

    __tablename__ = "paper_orders"

    account_id: Mapped[UUID] = mapped_column(ForeignKey(PaperAccount.connection_id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    client_order_id: Mapped[Name]
    symbol: Mapped[Name]
    side: Mapped[Side] = mapped_column(checked(Side, "side"))
    type: Mapped[OrderType] = mapped_column(checked(OrderType, "type"))
    quantity: Mapped[Amount]
    price: Mapped[Amount | None]
    trigger_price: Mapped[Amount | None]
    reduce_only: Mapped[bool]
    signed_at: Mapped[Moment]
    expires_at: Mapped[Moment | None]
    status: Mapped[OrderStatus] = mapped_column(checked(OrderStatus, "status"))
    changed_at: Mapped[Moment]
    filled: Mapped[Amount]
    cost: Mapped[Amount]
    """Σ price × quantity of its fills, in quote currency."""
    fees: Mapped[Json]
    leg: Mapped[Leg | None] = mapped_column(checked(Leg, "leg"))
    message: Mapped[str | None] = mapped_column(String(200))

    __table_args__ = (
        UniqueConstraint("account_id", "client_order_id"),
        Index("ix_paper_orders_open", "account_id", postgresql_where=text("status = 'open'")),
    )

    def ticket(self) -> Ticket:
        """The order as the venue's rules take it."""
        request = OrderRequest(
            client_order_id=self.client_order_id,
            symbol=self.symbol,
            side=self.side,
            type=self.type,
            quantity=self.quantity,
            signed_at=self.signed_at,
            price=self.price,
            trigger_price=self.trigger_price,
            reduce_only=self.reduce_only,
            expires_at=self.expires_at,
        )
        return Ticket(
            request=request,
            number=self.number,
            status=self.status,
            time=self.changed_at,
            filled=self.filled,
            cost=self.cost,
            fees={currency: money.parse(amount) for currency, amount in self.fees.items()},
            leg=self.leg,
            message=self.message,
        )

    def take(self, ticket: Ticket) -> None:
        """Write down what became of it."""
        self.status = ticket.status
        self.changed_at = ticket.time
        self.filled = ticket.filled
        self.cost = ticket.cost
        self.fees = {currency: money.text(amount) for currency, amount in ticket.fees.items()}
        self.leg = ticket.leg
        self.message = ticket.message


class PaperPosition(Base):
    """The net position of one swap symbol; `quantity` is below zero for shorts, zero when flat."""

    __tablename__ = "paper_positions"

    account_id: Mapped[UUID] = mapped_column(ForeignKey(PaperAccount.connection_id), primary_key=True)
    symbol: Mapped[Name] = mapped_column(primary_key=True)
    quantity: Mapped[Amount]
    cost: Mapped[Amount]
    """Σ price × signed quantity of what is open."""


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one account that a call works with, and the books they amount to."""

    account: PaperAccount
    orders: Mapping[str, PaperOrder]
    positions: Mapping[str, PaperPosition]
    books: Books

    def write(self, session: AsyncSession, books: Books, settled_at: datetime) -> None:
        """Put down what differs from what was read."""
        self.account.settled_at = settled_at
        if books is self.books:
            return
        self.account.balances = {
            currency: money.text(total) for currency, total in books.ledger.balances.items()
        }
        self.account.orders_taken = books.taken
        for name, ticket in books.tickets.items():
            if ticket is not self.books.tickets.get(name):
                self._write_order(session, ticket)
        for symbol, net in books.ledger.nets.items():
            if net is not self.books.ledger.nets.get(symbol):
                self._write_position(session, symbol, net)

    def _write_order(self, session: AsyncSession, ticket: Ticket) -> None:
        row = self.orders.get(ticket.request.client_order_id)
        if row is None:
            row = _row_of(self.account.connection_id, ticket)
            session.add(row)
        row.take(ticket)

    def _write_position(self, session: AsyncSession, symbol: str, net: Net) -> None:
        row = self.positions.get(symbol)
        if row is None:
            row = PaperPosition(account_id=self.account.connection_id, symbol=symbol)
            session.add(row)
        row.quantity, row.cost = net.quantity, net.cost


@dataclass(frozen=True, slots=True)
class Outline:
    """What of an account decides which prices it needs: its symbols, and until when it is settled."""

    symbols: frozenset[str]
    settled_at: datetime | None
    """None for an account that was never used."""


async def outlined(session: AsyncSession, connection_id: UUID) -> Outline:
    """The outline of an account as it is, without a lock."""
    settled_at = await session.scalar(
        select(PaperAccount.settled_at).where(PaperAccount.connection_id == connection_id)
    )
    wanted = select(PaperOrder.symbol).where(
        PaperOrder.account_id == connection_id, PaperOrder.status == OrderStatus.OPEN
    )
    held = select(PaperPosition.symbol).where(
        PaperPosition.account_id == connection_id, PaperPosition.quantity != ZERO
    )
    return Outline(frozenset(await session.scalars(wanted.union(held))), settled_at)


async def opened(
    session: AsyncSession, connection_id: UUID, terms: Terms, client_order_ids: Iterable[str], now: datetime
) -> Page:
    """The account under its row lock, made on first use, with its resting orders and those of these ids."""
    account = (await session.scalars(_locked(connection_id))).one_or_none()
    if account is None:
        await session.execute(_new_account(connection_id, terms, now))
        account = (await session.scalars(_locked(connection_id))).one()
    orders = await _orders(session, connection_id, client_order_ids)
    positions = await _positions(session, connection_id) if terms.market_type is MarketType.SWAP else []
    books = Books(
        Ledger(
            {currency: money.parse(total) for currency, total in account.balances.items()},
            {row.symbol: Net(row.quantity, row.cost) for row in positions},
        ),
        {row.client_order_id: row.ticket() for row in orders},
        account.orders_taken,
    )
    return Page(
        account,
        {row.client_order_id: row for row in orders},
        {row.symbol: row for row in positions},
        books,
    )


async def filled_since(
    session: AsyncSession, connection_id: UUID, symbol: str, since: datetime
) -> list[Ticket]:
    """The orders of a symbol that have filled and last changed since then, oldest change first."""
    rows = await session.scalars(
        select(PaperOrder)
        .where(
            PaperOrder.account_id == connection_id,
            PaperOrder.symbol == symbol,
            PaperOrder.changed_at >= since,
            PaperOrder.filled > money.ZERO,
        )
        .order_by(PaperOrder.changed_at, PaperOrder.number)
    )
    return [row.ticket() for row in rows]


def _locked(connection_id: UUID) -> Select[PaperAccount]:
    return select(PaperAccount).where(PaperAccount.connection_id == connection_id).with_for_update()


def _new_account(connection_id: UUID, terms: Terms, now: datetime) -> Insert:
    start = deposited(terms.currency, terms.balance)
    return (
        insert(PaperAccount)
        .values(
            connection_id=connection_id,
            balances={currency: money.text(total) for currency, total in start.balances.items()},
            orders_taken=0,
            settled_at=now,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )


async def _orders(
    session: AsyncSession, connection_id: UUID, client_order_ids: Iterable[str]
) -> list[PaperOrder]:
    # As a literal: with a bound value a prepared statement could not use the partial index.
    resting: ColumnElement[bool] = literal_column("paper_orders.status = 'open'", Boolean)
    named = PaperOrder.client_order_id.in_(list(client_order_ids))
    rows = await session.scalars(
        select(PaperOrder).where(PaperOrder.account_id == connection_id, or_(resting, named))
    )
    return list(rows)


async def _positions(session: AsyncSession, connection_id: UUID) -> list[PaperPosition]:
    rows = await session.scalars(select(PaperPosition).where(PaperPosition.account_id == connection_id))
    return list(rows)


def _row_of(account_id: UUID, ticket: Ticket) -> PaperOrder:
    request = ticket.request
    return PaperOrder(
        account_id=account_id,
        number=ticket.number,
        client_order_id=request.client_order_id,
        symbol=request.symbol,
        side=request.side,
        type=request.type,
        quantity=request.quantity,
        price=request.price,
        trigger_price=request.trigger_price,
        reduce_only=request.reduce_only,
        signed_at=request.signed_at,
        expires_at=request.expires_at,
    )
