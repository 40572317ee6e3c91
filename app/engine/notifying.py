"""Notifying: what an owner is told, written in the transaction that causes it, and marked as read."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk
from app.domain.errors import NotFound
from app.domain.owners import Owner
from app.store.notifications import WITH_DELIVERIES, Notification, NotificationType, owned_by


def notify(
    session: AsyncSession,
    owner: Owner,
    type: NotificationType,
    title: str,
    message: str,
    *,
    now: datetime,
    data: Mapping[str, Any] | None = None,
    connection_id: UUID | None = None,
    signal_id: UUID | None = None,
    position_id: UUID | None = None,
) -> None:
    """Tell an owner something; it becomes visible when the session's transaction commits."""
    session.add(
        Notification(
            owner_role=owner.role,
            owner_id=owner.id,
            type=type,
            title=title,
            message=message,
            data=dict(data or {}),
            connection_id=connection_id,
            signal_id=signal_id,
            position_id=position_id,
            created_at=now,
        )
    )


async def mark_read(desk: Desk, owner: Owner, notification_id: UUID) -> Notification:
    """Mark one as read, and give it with its deliveries; reading it again keeps the first time. Raises NotFound."""
    async with desk.sessions.begin() as session:
        await session.execute(
            update(Notification)
            .where(Notification.id == notification_id, owned_by(owner))
            .values(read_at=func.coalesce(Notification.read_at, desk.now()))
        )
        row = await session.scalar(
            select(Notification)
            .where(Notification.id == notification_id, owned_by(owner))
            .options(WITH_DELIVERIES)
        )
    if row is None:
        raise NotFound("notification")
    return row


async def mark_all_read(desk: Desk, owner: Owner) -> int:
    """Mark all of the owner's unread notifications; answers how many there were."""
    async with desk.sessions.begin() as session:
        unread = select(Notification.id).where(owned_by(owner), Notification.read_at.is_(None))
        marked = await session.scalars(
            update(Notification)
            .where(Notification.id.in_(unread))
            .values(read_at=desk.now())
            .returning(Notification.id)
        )
        return len(marked.all())
