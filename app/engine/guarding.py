"""Guarding: every stop is watched by somebody. Who does is proven, armed, and held to the owner's deadline.

A stop that the venue is to hold is protected when the venue has acknowledged it, one that is ours to watch when the
monitor has seen a sound price for it. What is neither in time is closed at market: an unwatched stop is no stop.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import or_, select, update

from app.desk import Desk
from app.domain.exits import CloseReason
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing, naming, telling, trades
from app.store import executions, positions
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

PROOF: Final = timedelta(seconds=60)
"""How old the venue's word on a protective order may be; the monitor asks in every round and notes it this often."""

LOOKS: Final = 2
"""In how many rounds at least the monitor may look for a price before a stop of its own counts as unwatched."""


async def prove(desk: Desk, shown: Iterable[Order]) -> None:
    """Note which positions have a stop that the venue has just shown to stand there."""
    now = desk.now()
    held = {
        order.position_id
        for order in shown
        if order.purpose is Purpose.PROTECTION
        and order.status is OrderStatus.OPEN
        and order.trigger_price is not None
    }
    if not held:
        return
    # Once a minute, less the length of a round, so that it is never older than a minute.
    stale = now - PROOF + desk.monitor_every
    async with desk.sessions.begin() as session:
        await session.execute(
            update(Position)
            .where(
                Position.id.in_(held),
                or_(Position.stop_seen_at.is_(None), Position.stop_seen_at <= stale),
            )
            .values(stop_seen_at=now)
        )


async def arm(desk: Desk, priced: Iterable[Position]) -> None:
    """Positions whose stop is ours to watch and for which there is a sound price now: they are protected."""
    waiting = [position.execution_id for position in priced if position.waits_for_a_price]
    if not waiting:
        return
    now = desk.now()
    async with desk.sessions.begin() as session:
        # Under the trades' locks, like every change of a position; those in work are armed in the next round.
        free = await executions.lock_free(session, waiting)
        for position in await positions.waiting_for_a_price(session, free):
            position.secure(now)


async def enforce(desk: Desk, position_id: UUID) -> None:
    """Close a position whose stop nobody has watched for longer than its owner allows; harmless for any other."""
    now = desk.now()
    async with desk.sessions() as session:
        execution_id = await session.scalar(
            select(Position.execution_id).where(Position.id == position_id, Position.protect_by.is_not(None))
        )
    if execution_id is None:
        return
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position = trade.position
        if position is None or not _is_overdue(desk, position):
            return
        close = closing.start_whole(trade, CloseReason.RISK, now)
        if close is None:
            # A close of a part is on its way; what it leaves is looked at again when the lease of this look is over.
            return
        position.protect_by = None
        telling.unprotected_too_long(session, position, now)
    log.warning("protection_overdue", **naming.of_position(position))
    await closing.carry_out(desk, close.id)


def _is_overdue(desk: Desk, position: Position) -> bool:
    """Its time is over, and nobody closes all of it already."""
    since = position.unprotected_since
    if since is None or position.status is not PositionStatus.OPEN:
        return False
    allowed = timedelta(seconds=position.deadline_seconds)
    if position.waits_for_a_price:
        allowed = max(allowed, LOOKS * desk.monitor_every)
    return desk.now() - since >= allowed
