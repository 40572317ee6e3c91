"""Entitlements: which plans a user has, until when, and how many connections they allow."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import String, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.store.schema import Base, Moment


class Entitlement(Base):
    """A user's entitlement; the subscription event with the greatest timestamp wins."""

    __tablename__ = "execution_entitlements"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    plans: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    expires_at: Mapped[Moment | None]
    max_connections: Mapped[int | None]
    stated_at: Mapped[Moment]
    """The timestamp of the event that said so."""
    updated_at: Mapped[Moment]

    def is_current(self, now: datetime) -> bool:
        """Whether it is in force."""
        return self.expires_at is None or now < self.expires_at

    def covers(self, plans: Sequence[str], now: datetime) -> bool:
        """Whether a signal for `plans` (none = for all) is meant for this user."""
        return self.is_current(now) and (not plans or not set(plans).isdisjoint(self.plans))


async def of_user(session: AsyncSession, user_id: str) -> Entitlement | None:
    """The user's entitlement, current or not."""
    return await session.scalar(select(Entitlement).where(Entitlement.user_id == user_id))


async def held(session: AsyncSession, user_id: str) -> Entitlement | None:
    """The same under a shared lock: no event changes it until this transaction ends."""
    return await session.scalar(
        select(Entitlement).where(Entitlement.user_id == user_id).with_for_update(read=True)
    )


async def state(
    session: AsyncSession,
    *,
    user_id: str,
    plans: Sequence[str],
    expires_at: datetime | None,
    max_connections: int | None,
    stated_at: datetime,
    now: datetime,
) -> None:
    """Record what an event says, unless a later one has been heard already."""
    stated = insert(Entitlement).values(
        user_id=user_id,
        plans=list(plans),
        expires_at=expires_at,
        max_connections=max_connections,
        stated_at=stated_at,
        updated_at=now,
    )
    await session.execute(
        stated.on_conflict_do_update(
            index_elements=[Entitlement.user_id],
            set_={
                "plans": stated.excluded.plans,
                "expires_at": stated.excluded.expires_at,
                "max_connections": stated.excluded.max_connections,
                "stated_at": stated.excluded.stated_at,
                "updated_at": stated.excluded.updated_at,
            },
            where=Entitlement.stated_at <= stated.excluded.stated_at,
        )
    )
