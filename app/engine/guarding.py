"""Guarding: every stop is watched by somebody. Who does is proven, armed, and held to the owner's deadline.

A stop that the venue is to hold is protected when the venue has acknowledged it, one that is ours to watch when the
monitor has seen a sound price for it. What is neither in time is closed at market: an unwatched stop is no stop.

A stop that was watched may come out of sight: there is no price for one of ours, or the venue does not show its own.
Then the owner is told, once, and the position counts as unprotected until that is over; it is not closed for it. A
price that nobody knows triggers nothing, and a stop that is not shown most probably stands: the monitor watches it
as well, and sells only when the venue has confirmed that its own is cancelled.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select

from app.brokers.port import Broker
from app.desk import Desk
from app.domain.exits import CloseReason, Protection
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.engine import closing, naming, protection, telling, trades
from app.engine.rooms import apart
from app.engine.triggers import Quotes
from app.store import executions, sights
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

PROOF: Final = timedelta(seconds=60)
"""How old the venue's word on a protective order may be; the monitor asks in every round and notes it this often."""

DOUBT: Final = 3 * PROOF
"""How long the venue may not show a stop before our monitor watches it as well and the owner is told."""

BLIND: Final = timedelta(seconds=60)
"""How long there may be no price for a stop of our own before the owner is told."""

LOOKS: Final = 2
"""In how many rounds at least the monitor may look for a price before a stop of its own counts as unwatched."""


async def prove(desk: Desk, asked: Iterable[Order], shown: Collection[UUID]) -> None:
    """Note which positions have a stop that the venue has just shown to stand there, with every leg of it.

    `shown` are those of the orders `asked` for that rest there.
    """
    stops: dict[UUID, list[Order]] = defaultdict(list)
    for order in asked:
        is_stop = order.purpose is Purpose.PROTECTION and order.trigger_price is not None
        if is_stop and order.position_id is not None:
            stops[order.position_id].append(order)
    whole = {
        position_id: legs[0].execution_id
        for position_id, legs in stops.items()
        if all(leg.id in shown and leg.status is OrderStatus.OPEN for leg in legs)
    }
    if not whole:
        return
    now = desk.now()
    new = {each for each in whole if any(_is_new(leg, now) for leg in stops[each])}
    async with desk.sessions.begin() as session:
        # Once a minute, less the length of a round, so that it is never older than a minute; and all of the first
        # minute of a stop, so that one that has been shown is told from one that is not shown yet.
        await sights.see_stops(session, whole.keys() - new, now, now - PROOF + desk.monitor_every)
        await sights.see_stops(session, new, now, now)
        doubted = await sights.doubted(session, whole)
    await apart(_believe(desk, whole[position_id]) for position_id in doubted)


def _is_new(leg: Order, now: datetime) -> bool:
    return leg.acknowledged_at is not None and now - leg.acknowledged_at < PROOF


async def _believe(desk: Desk, execution_id: UUID) -> None:
    """The venue shows again what it had not shown for long: its stop is the one that counts."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        position = (await trades.locked(session, execution_id)).position
        if position is None or position.stop_doubted_at is None:
            return
        position.stop_doubted_at = None
        position.stop_seen_at = position.protect_due_at = now
        telling.watched_again(session, position, "the venue shows it", now)
    await protection.after(desk, execution_id)


async def arm(
    desk: Desk,
    held: Iterable[tuple[Broker, Position]],
    quotes: Quotes,
    marks: Mapping[UUID, Decimal],
) -> None:
    """Note which stops there is a price for now, and protect the positions that waited for one.

    Where a market is closed there is none to be had, and none to be missed.
    """
    everything = list(held)
    priced = [position for _, position in everything if position.id in marks]
    resting = [
        position
        for broker, position in everything
        if (quote := quotes.get((broker.market_key, position.symbol))) is not None and not quote.is_session
    ]
    seen = {position.id for position in (*priced, *resting) if position.stop_loss is not None}
    if seen:
        async with desk.sessions.begin() as session:
            await sights.see_prices(session, seen, desk.now())
    await apart(_arm(desk, position.execution_id) for position in priced if position.waits_for_a_price)


async def _arm(desk: Desk, execution_id: UUID) -> None:
    now = desk.now()
    async with desk.sessions.begin() as session:
        # Under the trade's lock, like every change of a position; one in work is armed in the next round.
        free = await executions.lock_free(session, [execution_id])
        for position in await sights.waiting_for_a_price(session, free):
            position.secure(now)
            position.price_seen_at = now
            if position.price_lost_at is not None:
                telling.watched_again(session, position, "there is a price for it", now)
                position.price_lost_at = None


async def miss(desk: Desk, connection_ids: Collection[UUID]) -> None:
    """Tell the owners of stops that have come out of sight, and count them as unprotected; after each look."""
    if not connection_ids:
        return
    async with desk.sessions() as session:
        missed = await sights.unwatched(session, connection_ids, *_bounds(desk))
    await apart(_miss(desk, position) for position in missed)


async def _miss(desk: Desk, seen: Position) -> None:
    now = desk.now()
    async with desk.sessions.begin() as session:
        await trades.locked(session, seen.execution_id)
        found = await sights.unwatched(session, [seen.connection_id], *_bounds(desk), seen.execution_id)
        for position in found:
            if position.protection is Protection.SOFTWARE:
                last, position.price_lost_at = position.price_seen_at, now
                tell = telling.price_lost
            else:
                last, position.stop_doubted_at = position.stop_seen_at, now
                position.protection = Protection.SOFTWARE
                tell = telling.stop_doubted
            position.lose_sight(max(filter(None, (last, position.protected_at)), default=now))
            if position.delisted_at is None:
                # Otherwise they know already, and why.
                tell(session, position, now)
            log.warning(
                "stop_out_of_sight", **naming.of_position(position), since=str(position.unprotected_since)
            )


def _bounds(desk: Desk) -> tuple[datetime, datetime]:
    return desk.now() - BLIND, desk.now() - DOUBT


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
        if protection.is_in_doubt(position, now):
            # The venue says that it is gone: what was closed by hand needs no protection, and must not be sold again.
            position.give_time(now)
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
