"""Sights: what was last seen of the stops of open positions, by the venue's word or by a price."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.exits import Protection
from app.domain.positions import PositionStatus
from app.store.positions import Position


async def waiting_for_a_price(session: AsyncSession, execution_ids: Sequence[UUID]) -> Sequence[Position]:
    """Those of these executions' positions that wait for a price, as they stand now; their locks are held."""
    rows = await session.scalars(
        select(Position)
        .where(
            Position.execution_id.in_(execution_ids),
            Position.unprotected_since.is_not(None),
            Position.protection == Protection.SOFTWARE,
            Position.protect_due_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
    return rows.all()


async def unwatched(
    session: AsyncSession,
    connection_ids: Collection[UUID],
    priced_before: datetime,
    shown_before: datetime,
    execution_id: UUID | None = None,
) -> Sequence[Position]:
    """Open positions of which nobody has known for long whether their stop is watched, and nobody was told so.

    Either there was no price for a stop of our own since `priced_before`, or the venue has not shown the one that it
    is to hold since `shown_before`. With `execution_id` only that execution's, as it stands now.
    """
    watched, by = Position.protected_at, Position.protection
    wanted = (
        select(Position)
        .where(
            Position.connection_id.in_(connection_ids),
            Position.status == PositionStatus.OPEN,
            Position.stop_loss.is_not(None),
            watched.is_not(None),
            or_(
                (by == Protection.SOFTWARE)
                # Where the plan is just being brought to the venue, an earlier stop may stand there.
                & or_(Position.protect_due_at.is_(None), Position.protect_due_at <= priced_before)
                & Position.price_lost_at.is_(None)
                & (func.greatest(watched, Position.price_seen_at) <= priced_before),
                (by == Protection.NATIVE)
                & Position.stop_doubted_at.is_(None)
                & (func.greatest(watched, Position.stop_seen_at) <= shown_before),
            ),
        )
        .order_by(Position.id)
        .execution_options(populate_existing=True)
    )
    if execution_id is not None:
        wanted = wanted.where(Position.execution_id == execution_id)
    return (await session.scalars(wanted)).all()


async def doubted(session: AsyncSession, position_ids: Collection[UUID]) -> Sequence[UUID]:
    """Those of these positions whose stop the venue had not shown for so long that their owners were told."""
    rows = await session.scalars(
        select(Position.id)
        .where(Position.id.in_(position_ids), Position.stop_doubted_at.is_not(None))
        .order_by(Position.id)
    )
    return rows.all()


async def see_prices(session: AsyncSession, position_ids: Collection[UUID], now: datetime) -> None:
    """Note that there is a price for these positions' stops, but for those that somebody is at work on."""
    await session.execute(
        update(Position)
        .where(Position.id.in_(_free(Position.id.in_(position_ids))))
        .values(price_seen_at=now)
        .execution_options(synchronize_session=False)
    )


async def see_stops(
    session: AsyncSession, position_ids: Collection[UUID], now: datetime, stale: datetime
) -> None:
    """Note that the venue has shown these positions' stops, where that was last noted before `stale`."""
    unseen = or_(Position.stop_seen_at.is_(None), Position.stop_seen_at <= stale)
    await session.execute(
        update(Position)
        .where(Position.id.in_(_free(Position.id.in_(position_ids), unseen)))
        .values(stop_seen_at=now)
        .execution_options(synchronize_session=False)
    )


def _free(*conditions: Any) -> Any:
    """The ids of positions that nobody has locked, locked in one order: who waits for nobody blocks nobody."""
    return (
        select(Position.id)
        .where(*conditions)
        .order_by(Position.id)
        .with_for_update(skip_locked=True, key_share=True)
        .scalar_subquery()
    )
