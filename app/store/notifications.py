"""Notifications: what owners are told, written in the transaction that causes it, and their deliveries with them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ForeignKey,
    Index,
    String,
    bindparam,
    event,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    Mapped,
    Mapper,
    Session,
    mapped_column,
    object_session,
    relationship,
    selectinload,
)

from app.domain.owners import Owner, Role
from app.store.channels import Channel, Delivery, DeliveryStatus
from app.store.connections import Connection, ConnectionStatus, connection_key
from app.store.schema import NEW_ID_SQL, Base, Json, Key, Moment, MomentType, Name, checked


class NotificationType(StrEnum):
    """What a notification is about."""

    EXECUTION = "execution"
    OPEN = "open"
    CLOSE = "close"
    SL_HIT = "sl_hit"
    TP_HIT = "tp_hit"
    LIQUIDATION = "liquidation"
    ERROR = "error"
    RISK = "risk"
    CONNECTION = "connection"


class Notification(Base):
    """One message to one owner."""

    __tablename__ = "execution_notifications"

    id: Mapped[Key]
    owner_role: Mapped[Role] = mapped_column(checked(Role, "owner_role"))
    owner_id: Mapped[Name]
    type: Mapped[NotificationType] = mapped_column(checked(NotificationType, "type"))
    title: Mapped[str] = mapped_column(String(200))
    message: Mapped[str]
    data: Mapped[Json] = mapped_column(default=dict)
    connection_id: Mapped[UUID | None] = mapped_column(connection_key())
    signal_id: Mapped[UUID | None] = mapped_column(ForeignKey("execution_signals.id"))
    position_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("execution_positions.id", deferrable=True, initially="DEFERRED")
    )
    read_at: Mapped[Moment | None]
    created_at: Mapped[Moment]

    deliveries: Mapped[list[Delivery]] = relationship(viewonly=True, lazy="raise", order_by=Delivery.id)

    __table_args__ = (
        Index("ix_execution_notifications_owner", "owner_role", "owner_id", "id"),
        Index(
            "ix_execution_notifications_unread",
            "owner_role",
            "owner_id",
            "id",
            postgresql_where=text("read_at IS NULL"),
        ),
    )


def owned_by(owner: Owner) -> Any:
    """The condition that a notification is this owner's."""
    return (Notification.owner_role == owner.role) & (Notification.owner_id == owner.id)


WITH_DELIVERIES: Final = selectinload(Notification.deliveries).joinedload(Delivery.channel)
"""The option that reads what became of a notification on its owner's channels along with it."""

WAITING: Final = "channels_waiting"
"""What a session notes in its `info`: the channels that its transaction has written deliveries for."""


def _deliver(told: Any) -> Any:
    """The statement that writes a delivery of each of these notifications for each channel that carries its type."""
    carried = (
        (Channel.owner_role == told.owner_role)
        & (Channel.owner_id == told.owner_id)
        & Channel.removed_at.is_(None)
        & Channel.types.has_key(told.type)
    )
    wanted = select(
        literal_column(NEW_ID_SQL),
        told.id,
        Channel.id,
        literal(DeliveryStatus.PENDING, Delivery.status.type),
        literal(0),
        told.created_at,
    ).join(Channel, carried)
    columns = ["id", "notification_id", "channel_id", "status", "attempts", "created_at"]
    return insert(Delivery).from_select(columns, wanted).returning(Delivery.channel_id)


def _note(session: Session, channel_ids: Iterable[UUID]) -> None:
    session.info.setdefault(WAITING, set()).update(channel_ids)


_DELIVER_ONE: Final = _deliver(
    select(Notification).where(Notification.id == bindparam("told_id")).subquery().c
)


@event.listens_for(Notification, "after_insert")
def _deliver_inserted(_: Mapper[Notification], connection: Any, row: Notification) -> None:
    """Nobody can tell an owner something and forget their channels."""
    session = object_session(row)
    assert session is not None, "a row is inserted by its session"
    _note(session, connection.scalars(_DELIVER_ONE, {"told_id": row.id}))


async def tell_active_owners(
    session: AsyncSession,
    type: NotificationType,
    title: str,
    message: str,
    data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Tell every owner of an active connection the same, once, in one statement."""
    owners = (
        select(
            literal_column(NEW_ID_SQL),
            Connection.owner_role,
            Connection.owner_id,
            literal(type, Notification.type.type),
            literal(title),
            literal(message),
            literal(dict(data), JSONB),
            literal(now, MomentType()),
        )
        .where(Connection.status == ConnectionStatus.ACTIVE, Connection.deleted_at.is_(None))
        .group_by(Connection.owner_role, Connection.owner_id)
    )
    columns = ["id", "owner_role", "owner_id", "type", "title", "message", "data", "created_at"]
    told = insert(Notification).from_select(columns, owners).returning(Notification).cte("told")
    _note(session.sync_session, await session.scalars(_deliver(told.c)))
