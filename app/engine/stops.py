"""Stops: moved as a position gains, by the terms its entry was claimed with. An owner's own stop is left alone."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog

from app.desk import Desk
from app.domain.exits import Protection, Rung
from app.domain.money import parse
from app.domain.positions import PositionStatus
from app.domain.stops import Management, Progress, Stop, targets_taken, tightened
from app.engine import legs, naming, projecting, protection, trades
from app.store.positions import Position
from app.store.signals import levels_of

log = structlog.get_logger(__name__)


TRIED_AGAIN: Final = timedelta(minutes=5)
"""How long a venue that has refused a stop is not asked again for one that moves by itself: it may move every round."""


def overdue(position: Position, now: datetime) -> bool:
    """Whether a position has been held for as long as it may be."""
    longest = Management.read(position.management).max_hold
    return longest is not None and now >= position.opened_at + longest


async def move(desk: Desk, position: Position, mark: Decimal) -> Position:
    """Tighten the stop of a position if what it gained asks for it; answers the position as it stands then.

    A stop that the price is beyond already is not put to the venue: who watches closes at once.
    """
    if _asked_for(position) is None:
        return position
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, position.execution_id)
        current = trade.position
        if current is None or current.status is not PositionStatus.OPEN:
            return current or position
        stop = _asked_for(current)
        if stop is None:
            return current
        current.stop_loss, current.stop_reason = stop.price, stop.reason
        current.protection = Protection.SOFTWARE
        if not legs.refused_since(trade, now - TRIED_AGAIN):
            current.replan()
        projecting.refresh(trade, now)
    log.info("stop_moved", **naming.of_position(current), stop=str(stop.price), reason=stop.reason)
    if mark * current.side.entry_side.sign > stop.price * current.side.entry_side.sign:
        await protection.protect(desk, current.id)
    return current


def _asked_for(position: Position) -> Stop | None:
    if position.best_price is None or "stop_loss" in position.edited or not position.management:
        return None
    side = position.side.entry_side
    rungs = [
        (Rung(parse(rung["price"]), parse(rung["quantity"])), parse(rung["filled_quantity"]))
        for rung in position.take_profits
    ]
    progress = Progress(
        side,
        position.entry_price,
        position.best_price,
        targets_taken(side, levels_of(position.levels), rungs),
    )
    management = Management.read(position.management)
    return tightened(management, progress, position.stop_loss, position.price_tick)
