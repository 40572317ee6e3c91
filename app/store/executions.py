"""Executions: one signal on one connection and what became of it, for ever."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.money import ZERO
from app.domain.orders import OrderType, Side
from app.domain.owners import Owner, Role
from app.store.connections import connection_key
from app.store.schema import Amount, Base, JsonList, Key, Moment, Name, checked


class ExecutionStatus(StrEnum):
    """`denied`: we said no. `rejected`: the venue said no. `partial` is final: part filled, the rest gone."""

    PENDING = "pending"
    SENDING = "sending"
    OPEN = "open"
    EXECUTED = "executed"
    PARTIAL = "partial"
    DENIED = "denied"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    NEEDS_REVIEW = "needs_review"


UNDER_WAY = (
    ExecutionStatus.PENDING,
    ExecutionStatus.SENDING,
    ExecutionStatus.OPEN,
    ExecutionStatus.NEEDS_REVIEW,
)
"""States in which an entry may still open something."""


class Execution(Base):
    """The work row of an entry: while it is `pending` it is the queue, whatever Redis knows."""

    __tablename__ = "execution_logs"

    id: Mapped[Key]
    signal_id: Mapped[UUID] = mapped_column(ForeignKey("execution_signals.id"))
    connection_id: Mapped[UUID] = mapped_column(connection_key())
    owner_role: Mapped[Role] = mapped_column(checked(Role, "owner_role"))
    owner_id: Mapped[Name]
    status: Mapped[ExecutionStatus] = mapped_column(checked(ExecutionStatus, "status"))
    code: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str | None]
    symbol: Mapped[Name]
    direction: Mapped[Side] = mapped_column(checked(Side, "direction"))
    order_type: Mapped[OrderType] = mapped_column(checked(OrderType, "order_type"))
    requested_quantity: Mapped[Amount | None]
    filled_quantity: Mapped[Amount] = mapped_column(server_default=text("0"), default=ZERO)
    average_price: Mapped[Amount | None]
    fees: Mapped[JsonList] = mapped_column(server_default=text("'[]'::jsonb"), default=list)
    client_order_id: Mapped[str | None] = mapped_column(String(64))
    exchange_order_id: Mapped[str | None] = mapped_column(String(128))
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    tries: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    """How often the venue was unreachable; drives the back-off."""
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What the claim decided beside the order itself: exit plan and the venue's grain (see engine/trades.py)."""
    signal_events: Mapped[JsonList] = mapped_column(server_default=text("'[]'::jsonb"), default=list)
    """What later events about the signal came to here, in the order they were applied (see engine/updating.py)."""
    due_at: Mapped[Moment | None]
    """When the sweep takes it up; null once it is no longer pending."""
    received_at: Mapped[Moment]
    queued_at: Mapped[Moment | None]
    sent_at: Mapped[Moment | None]
    acknowledged_at: Mapped[Moment | None]
    filled_at: Mapped[Moment | None]
    created_at: Mapped[Moment]
    updated_at: Mapped[Moment]

    __table_args__ = (
        UniqueConstraint("signal_id", "connection_id"),
        Index("ix_execution_logs_owner", "owner_role", "owner_id", "id"),
        Index("ix_execution_logs_connection", "connection_id", "status"),
        Index("ix_execution_logs_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return Owner(self.owner_role, self.owner_id)


def owned_by(owner: Owner) -> Any:
    """The condition that an execution is this owner's."""
    return (Execution.owner_role == owner.role) & (Execution.owner_id == owner.id)


async def of_owner(session: AsyncSession, owner: Owner, execution_id: UUID) -> Execution | None:
    """The owner's execution, or None for anybody else's."""
    return await session.scalar(select(Execution).where(Execution.id == execution_id, owned_by(owner)))


async def lock_free(session: AsyncSession, execution_ids: Sequence[UUID]) -> Sequence[UUID]:
    """Lock those of the executions that nobody else has locked; answers which."""
    rows = await session.scalars(
        select(Execution.id)
        .where(Execution.id.in_(execution_ids))
        .order_by(Execution.id)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return rows.all()


async def locked(session: AsyncSession, execution_id: UUID) -> Execution | None:
    """The execution under its row lock."""
    return await session.scalar(
        select(Execution)
        .where(Execution.id == execution_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
