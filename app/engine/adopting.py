"""Adopting: an order of ours that the owner changed at the venue is the owner's edit, and the exit plan follows it.

Only the size of a stop is not theirs to choose: it is replaced by one for all that is held. An order that the owner
cancelled is another matter: a position without its stop is what the engine is there to prevent, so it is put back.
The way to take a stop away is to edit the position.
"""

from dataclasses import replace
from datetime import datetime
from decimal import ROUND_UP, Decimal
from typing import Final

import structlog

from app.desk import Desk
from app.domain.exits import CloseReason
from app.domain.money import exact, parse, text
from app.domain.orders import OrderReport, OrderStatus, Purpose
from app.domain.signals import Level
from app.engine import ladders, naming, projecting, telling, trades
from app.engine.trades import Trade
from app.store.orders import Order
from app.store.positions import Position
from app.store.signals import levels_of

log = structlog.get_logger(__name__)

_FINEST_PORTION: Final = Decimal(1).scaleb(-18)


async def adopt(desk: Desk, order: Order, report: OrderReport) -> bool:
    """Follow an order of ours that waits elsewhere, or for another size, than we said; True when it did."""
    if not _is_changed(order, report):
        return False
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if current.status is not OrderStatus.OPEN or current.attempt != order.attempt:
            return False
        if not (_follow_move(trade, current, report, now) | _follow_size(trade, current, report, now)):
            return False
        current.updated_at = now
        log.info("changed_by_hand", **naming.of_order(trade.execution, current))
        projecting.refresh(trade, now)
    return True


def _is_changed(order: Order, report: OrderReport) -> bool:
    if order.purpose is Purpose.CLOSE:
        return False
    is_leg = order.purpose is Purpose.PROTECTION
    return _resized(order, report) or (
        is_leg and (_stop_moved(order, report) or _target_moved(order, report))
    )


def _follow_move(trade: Trade, order: Order, report: OrderReport, now: datetime) -> bool:
    """A leg that waits at another price: the plan follows it."""
    position = trade.position
    if position is None or order.purpose is not Purpose.PROTECTION:
        return False
    stop_moved, target_moved = _stop_moved(order, report), _target_moved(order, report)
    if not stop_moved and not target_moved:
        return False
    if any(_is_where(other, report) for other in trade.live_protection if other is not order):
        # A newer leg of ours has taken its place, and only its answer is missing still.
        return False
    position.refused_leg = None
    if stop_moved:
        order.trigger_price = position.stop_loss = report.trigger_price
        position.stop_reason = CloseReason.STOP_LOSS
        position.edited = sorted({*position.edited, "stop_loss"})
        telling.moved_by_hand(trade.session, position, "stop-loss", order, now)
    if target_moved and order.price is not None and report.price is not None:
        _move_target(position, order.price, report.price)
        order.price = report.price
        telling.moved_by_hand(trade.session, position, "take-profit", order, now)
    return True


@exact
def _follow_size(trade: Trade, order: Order, report: OrderReport, now: datetime) -> bool:
    """An order of another size than we said: a target's is the owner's wish, a stop has to cover what is held."""
    if not _resized(order, report) or report.quantity is None:
        return False
    step = parse((trade.execution.plan or {}).get("quantity_step") or "0")
    if abs(report.quantity - order.quantity) < step:
        # Cut off by the venue, by nobody's hand.
        return False
    before, order.quantity = order.quantity, report.quantity
    position = trade.position
    if order.purpose is Purpose.ENTRY or position is None:
        telling.entry_resized(trade.session, trade.execution, order, before, now)
    elif order.trigger_price is not None:
        telling.stop_resized(trade.session, position, order, now)
    elif order.price is not None:
        _resize_target(position, order.price, report.quantity)
        position.refused_leg = None
        telling.target_resized(trade.session, position, order, now)
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


def _resized(order: Order, report: OrderReport) -> bool:
    """Whether the venue names another size than ours; of a leg that is being filled the rest is left to the plan."""
    rests = _is_waiting(report) or (order.purpose is Purpose.ENTRY and report.status is OrderStatus.OPEN)
    return rests and _differs(order.quantity, report.quantity)


def _differs(ours: Decimal | None, told: Decimal | None) -> bool:
    """Whether the venue names another figure than ours; what it does not name has not changed."""
    return ours is not None and told is not None and told > 0 and ours != told


def _move_target(position: Position, old: Decimal, new: Decimal) -> None:
    """Put the level that was at `old` to `new`; portions and what has been taken stay as they are."""
    levels = [
        replace(level, price=new) if level.price == old else level for level in levels_of(position.levels)
    ]
    position.levels = ladders.stored_levels(_nearest_first(levels, position))
    position.edited = sorted({*position.edited, "take_profits"})
    log.info("target_moved", **naming.of_position(position), old=text(old), new=text(new))


@exact
def _resize_target(position: Position, price: Decimal, quantity: Decimal) -> None:
    """Let the ladder, as it was really placed, take `quantity` at `price`; what is farther away gets what is left."""
    held, left = position.quantity - position.plan_base, Decimal(1)
    levels = []
    for rung in position.take_profits:
        at = parse(rung["price"])
        size = quantity if at == price else parse(rung["quantity"])
        # Rounded up, because the quantity it comes to is rounded down to the step again.
        portion = min((size / held).quantize(_FINEST_PORTION, ROUND_UP), left)
        left -= portion
        if portion:
            levels.append(Level(at, portion))
    position.levels = ladders.stored_levels(levels)
    position.edited = sorted({*position.edited, "take_profits"})


def _nearest_first(levels: list[Level], position: Position) -> list[Level]:
    return sorted(levels, key=lambda level: level.price * position.side.entry_side.sign)
