"""Channels: where owners want to hear what they are told. A delivery is one notification on its way over one of them.

A channel is never deleted: what is told in a trade's transaction must not fail because its owner has just removed it.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.domain.owners import Owner, Role
from app.store.schema import Base, JsonList, Key, Moment, Name, checked


class ChannelKind(StrEnum):
    """How a channel reaches its owner."""

    WEBHOOK = "webhook"
    EMAIL = "email"
    TELEGRAM = "telegram"
    DISCORD = "discord"


class DeliveryStatus(StrEnum):
    """How far a delivery has come."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Channel(Base):
    """One way to reach one owner. Removing keeps the row and wipes the credentials."""

    __tablename__ = "execution_notification_channels"

    id: Mapped[Key]
    owner_role: Mapped[Role] = mapped_column(checked(Role, "owner_role"))
    owner_id: Mapped[Name]
    name: Mapped[Name]
    kind: Mapped[ChannelKind] = mapped_column(checked(ChannelKind, "kind"))
    types: Mapped[JsonList] = mapped_column(default=list)
    """The types of notifications it carries."""
    target: Mapped[str | None] = mapped_column(String(2048))
    """A webhook's URL, an e-mail address, a Telegram chat; null where the credentials say it all."""
    credentials_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    """A webhook's signing secret, or the whole URL of a Discord webhook, which is as good as a password."""
    credentials_version: Mapped[int] = mapped_column(default=1)
    credentials_hint: Mapped[str | None] = mapped_column(String(16))
    next_at: Mapped[Moment]
    """When something may be sent again: the lease of whoever sends, and the pause after a failure."""
    failures: Mapped[int] = mapped_column(default=0)
    """How many attempts in a row have failed."""
    last_error: Mapped[str | None] = mapped_column(String(300))
    last_delivered_at: Mapped[Moment | None]
    created_at: Mapped[Moment]
    updated_at: Mapped[Moment]
    removed_at: Mapped[Moment | None]

    __table_args__ = (
        Index(
            "uq_execution_notification_channels_name",
            "owner_role",
            "owner_id",
            "name",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
    )


class Delivery(Base):
    """One notification on its way over one channel; its id is what the receiver knows a repetition by."""

    __tablename__ = "execution_notification_deliveries"

    id: Mapped[Key]
    notification_id: Mapped[UUID] = mapped_column(ForeignKey("execution_notifications.id"))
    channel_id: Mapped[UUID] = mapped_column(ForeignKey("execution_notification_channels.id"))
    status: Mapped[DeliveryStatus] = mapped_column(checked(DeliveryStatus, "status"))
    attempts: Mapped[int]
    """How often it was sent, or was about to be."""
    last_error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[Moment]
    """When its notification was."""
    delivered_at: Mapped[Moment | None]

    channel: Mapped[Channel] = relationship(viewonly=True, lazy="raise")

    __table_args__ = (
        Index("ix_execution_notification_deliveries_notification", "notification_id"),
        Index(
            "ix_execution_notification_deliveries_pending",
            "channel_id",
            "attempts",
            "notification_id",
            postgresql_where=text("status = 'pending'"),
        ),
    )


_PENDING = Delivery.status == DeliveryStatus.PENDING


def owned_by(owner: Owner) -> Any:
    """The condition that a channel is this owner's and not removed."""
    return (Channel.owner_role == owner.role) & (Channel.owner_id == owner.id) & Channel.removed_at.is_(None)


async def of_owner(session: AsyncSession, owner: Owner) -> Sequence[Channel]:
    """The owner's channels, by name."""
    return (await session.scalars(select(Channel).where(owned_by(owner)).order_by(Channel.name))).all()


async def pending(session: AsyncSession, channel_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many deliveries wait for each of these channels; those without any are left out."""
    waiting = select(Delivery.channel_id, func.count()).where(_PENDING, Delivery.channel_id.in_(channel_ids))
    return dict((await session.execute(waiting.group_by(Delivery.channel_id))).all())


async def locked(session: AsyncSession, owner: Owner) -> Sequence[Channel]:
    """The owner's channels, which nobody else changes until this transaction ends; nor does anybody add one."""
    key = func.hashtextextended(f"channels:{owner.role}:{owner.id}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))
    mine = select(Channel).where(owned_by(owner)).order_by(Channel.name).with_for_update(key_share=True)
    return (await session.scalars(mine)).all()


async def due(session: AsyncSession, now: datetime, limit: int) -> Sequence[UUID]:
    """Channels that something waits for and that may be tried, those that have waited longest first."""
    waiting = select(Delivery.id).where(_PENDING, Delivery.channel_id == Channel.id).exists()
    found = select(Channel.id).where(Channel.next_at <= now, waiting).order_by(Channel.next_at).limit(limit)
    return (await session.scalars(found)).all()


async def take(session: AsyncSession, channel_id: UUID, now: datetime, until: datetime) -> Channel | None:
    """Take a channel that may be tried, until `until`; None when another has it, or it rests after a failure."""
    taken: Channel | None = await session.scalar(
        update(Channel)
        .where(Channel.id == channel_id, Channel.next_at <= now)
        .values(next_at=until)
        .returning(Channel)
    )
    return taken


async def give_up(session: AsyncSession, channel_id: UUID, told_by: datetime, why: str) -> None:
    """Give up what waits for a channel and was told at `told_by` or before; what failed before keeps its own error."""
    await session.execute(
        update(Delivery)
        .where(_PENDING, Delivery.channel_id == channel_id, Delivery.created_at <= told_by)
        .values(status=DeliveryStatus.GIVEN_UP, last_error=func.coalesce(Delivery.last_error, why))
    )


async def next_delivery(session: AsyncSession, channel_id: UUID) -> Delivery | None:
    """What is sent next over a channel: the oldest of what was tried least, so that one refused blocks no other."""
    return await session.scalar(
        select(Delivery)
        .where(_PENDING, Delivery.channel_id == channel_id)
        .order_by(Delivery.attempts, Delivery.notification_id)
        .limit(1)
    )
