"""Funding: what positions were charged and paid for being held, one row per payment of a venue, each once."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.holdings import Payment
from app.domain.orders import LIVE, Purpose
from app.domain.positions import PositionStatus
from app.store.connections import connection_key
from app.store.orders import Order
from app.store.positions import Position
from app.store.schema import Amount, Base, Key, Moment, Name, new_id


class FundingRow(Base):
    """One payment and the position it was for, whole as the venue made it; negative was paid."""

    __tablename__ = "execution_funding"

    id: Mapped[Key]
    connection_id: Mapped[UUID] = mapped_column(connection_key())
    position_id: Mapped[UUID] = mapped_column(ForeignKey("execution_positions.id"), index=True)
    symbol: Mapped[Name]
    venue_id: Mapped[str] = mapped_column(String(128))
    """The venue's own name for it."""
    amount: Mapped[Amount]
    currency: Mapped[Name]
    time: Mapped[Moment]
    created_at: Mapped[Moment]

    __table_args__ = (
        Index("uq_execution_funding_payment", "connection_id", "symbol", "venue_id", unique=True),
    )


async def keep(session: AsyncSession, position: Position, payment: Payment, now: datetime) -> bool:
    """Write a payment down; False where it is known already."""
    written = await session.scalar(
        insert(FundingRow)
        .values(
            id=new_id(),
            connection_id=position.connection_id,
            position_id=position.id,
            symbol=payment.symbol,
            venue_id=payment.id,
            amount=payment.amount,
            currency=payment.currency,
            time=payment.time,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["connection_id", "symbol", "venue_id"])
        .returning(FundingRow.id)
    )
    return written is not None


async def known(session: AsyncSession, connection_id: UUID, since: datetime) -> Collection[tuple[str, str]]:
    """The payments from `since` on that are written down, by symbol and the venue's name."""
    rows = await session.execute(
        select(FundingRow.symbol, FundingRow.venue_id).where(
            FundingRow.connection_id == connection_id, FundingRow.time >= since
        )
    )
    return {(symbol, name) for symbol, name in rows}


async def payable(session: AsyncSession, connection_id: UUID, since: datetime) -> list[Position]:
    """Positions that are open, or were at `since` or later: what was paid since may be for them."""
    rows = await session.scalars(
        select(Position)
        .where(
            Position.connection_id == connection_id,
            or_(Position.status != PositionStatus.CLOSED, Position.closed_at >= since),
        )
        .order_by(Position.opened_at)
    )
    return list(rows)


async def may_open(session: AsyncSession, connection_id: UUID) -> bool:
    """Whether an entry is under way, which may open a position at any moment."""
    found = await session.scalar(
        select(Order.id)
        .where(Order.connection_id == connection_id, Order.purpose == Purpose.ENTRY, Order.status.in_(LIVE))
        .limit(1)
    )
    return found is not None
