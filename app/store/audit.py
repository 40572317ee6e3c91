"""Audit: who did what to which account, position or switch, when and why. Rows are added and never changed."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.owners import Owner, Role
from app.store.connections import Connection, connection_key
from app.store.schema import Base, Json, Key, Moment, Name, checked


class Action(StrEnum):
    """What was done: to the whole engine, to a connection, to an execution, to a position, to what one hears where."""

    TRADING = "trading"
    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    TEST = "test"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    MODE = "mode"
    CLOSE_ALL = "close_all"
    DAILY_LOSS = "daily_loss"
    CANCEL = "cancel"
    RESOLVE = "resolve"
    EDIT = "edit"
    CLOSE = "close"
    BREAK = "break"
    CHANNELS = "channels"


class AuditEntry(Base):
    """One thing that somebody did. The database itself refuses to change or delete it."""

    __tablename__ = "execution_audit"

    id: Mapped[Key]
    action: Mapped[Action] = mapped_column(checked(Action, "action"))
    actor_role: Mapped[Role | None] = mapped_column(checked(Role, "actor_role"))
    actor_id: Mapped[Name | None]
    """Null, like the role, for what the engine did by itself."""
    connection_id: Mapped[UUID | None] = mapped_column(connection_key())
    execution_id: Mapped[UUID | None] = mapped_column(ForeignKey("execution_logs.id"))
    position_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("execution_positions.id", deferrable=True, initially="DEFERRED")
    )
    reason: Mapped[str | None] = mapped_column(String(500))
    detail: Mapped[Json] = mapped_column(default=dict)
    """The change itself: {"before": "active", "after": "halted"}. Never a secret."""
    created_at: Mapped[Moment]

    __table_args__ = (
        Index("ix_execution_audit_connection", "connection_id", "id"),
        Index("ix_execution_audit_actor", "actor_role", "actor_id", "id"),
    )

    @property
    def actor(self) -> Owner | None:
        """Who did it; None for the engine itself."""
        if self.actor_role is None or self.actor_id is None:
            return None
        return Owner(self.actor_role, self.actor_id)


def visible_to(owner: Owner) -> Any:
    """The condition that an entry is this owner's to read: what they did, and what was done to what they own."""
    own = select(Connection.id).where(Connection.owner_role == owner.role, Connection.owner_id == owner.id)
    did = (AuditEntry.actor_role == owner.role) & (AuditEntry.actor_id == owner.id)
    return did | AuditEntry.connection_id.in_(own)


def record(
    session: AsyncSession,
    action: Action,
    actor: Owner | None,
    reason: str | None,
    now: datetime,
    *,
    connection_id: UUID | None = None,
    execution_id: UUID | None = None,
    position_id: UUID | None = None,
    **detail: Any,
) -> None:
    """Write down who did what and why, in the transaction that does it."""
    session.add(
        AuditEntry(
            action=action,
            actor_role=actor.role if actor else None,
            actor_id=actor.id if actor else None,
            connection_id=connection_id,
            execution_id=execution_id,
            position_id=position_id,
            reason=reason,
            detail=detail,
            created_at=now,
        )
    )
