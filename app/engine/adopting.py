"""Adopting: an order of ours that the owner moved at the venue is the owner's edit, and the exit plan follows it.

An order that the owner cancelled is another matter: a position without its stop is what the engine is there to
prevent, so it is put back. The way to take a stop away is to edit the position.
"""

from dataclasses import replace
from decimal import Decimal

import structlog

from app.desk import Desk
from app.domain.exits import CloseReason
from app.domain.money import text
from app.domain.orders import OrderReport, OrderStatus, Purpose
from app.domain.signals import Level
from app.engine import naming, telling, trades
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import levels_of

log = structlog.get_logger(__name__)


async def adopt(desk: Desk, order: Order, report: OrderReport) -> bool:
    """Follow a protective order of ours that waits elsewhere than where we put it; True when it did."""
    if order.purpose is not Purpose.PROTECTION or not (
        _stop_moved(order, report) or _target_moved(order, report)
    ):
        return False
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current, position = trade.order(order.id), trade.position
        if position is None or current.status is not OrderStatus.OPEN or current.attempt != order.attempt:
            return False
        if any(_is_where(other, report) for other in trade.live_protection if other is not current):
            # A newer leg of ours has taken its place, and only its answer is missing still.
            return False
        if _stop_moved(current, report):
            current.trigger_price = position.stop_loss = report.trigger_price
            position.stop_reason = CloseReason.STOP_LOSS
            position.edited = sorted({*position.edited, "stop_loss"})
            telling.moved_by_hand(session, position, "stop-loss", current, now)
        if _target_moved(current, report) and current.price is not None and report.price is not None:
            _move_target(position, current.price, report.price)
            current.price = report.price
            telling.moved_by_hand(session, position, "take-profit", current, now)
        current.updated_at = now
        log.info("moved_by_hand", **naming.of_position(position), order_id=str(order.id))
        trades.refresh(trade, now)
    return True


def _is_where(order: Order, report: OrderReport) -> bool:
    """Whether a leg was sent to wait just where the report says."""
    return (order.trigger_price, order.price) == (report.trigger_price, report.price)


def _stop_moved(order: Order, report: OrderReport) -> bool:
    return _is_waiting(report) and _differs(order.trigger_price, report.trigger_price)


def _target_moved(order: Order, report: OrderReport) -> bool:
    return _is_waiting(report) and _differs(order.price, report.price)


def _is_waiting(report: OrderReport) -> bool:
    return report.status is OrderStatus.OPEN and not report.filled_quantity


def _differs(ours: Decimal | None, told: Decimal | None) -> bool:
    """Whether the venue names another price than ours; what it does not name has not moved."""
    return ours is not None and told is not None and told > 0 and ours != told


def _move_target(position: Position, old: Decimal, new: Decimal) -> None:
    """Put the level that was at `old` to `new`; portions and what has been taken stay as they are."""
    levels = [
        replace(level, price=new) if level.price == old else level for level in levels_of(position.levels)
    ]
    position.levels = trades.stored_levels(_nearest_first(levels, position))
    position.edited = sorted({*position.edited, "take_profits"})
    log.info("target_moved", **naming.of_position(position), old=text(old), new=text(new))


def _nearest_first(levels: list[Level], position: Position) -> list[Level]:
    return sorted(levels, key=lambda level: level.price * position.side.entry_side.sign)
