"""Projecting: execution and position as their orders' running totals make them, afresh after every change.

Where that leaves something to sell that somebody wants sold, the order that does so is intended here as well.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from app.domain.exits import CloseReason, Protection
from app.domain.money import ZERO, exact
from app.domain.orders import FINAL, OrderStatus, OrderType, Purpose
from app.domain.positions import (
    Figures,
    PositionSide,
    PositionStatus,
    fold,
    is_over,
    unrealized,
)
from app.engine import ladders, openings, telling, trades
from app.engine.trades import Trade
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import Position
from app.store.schema import new_id

_AFTER_ENTRY = {
    OrderStatus.PENDING: ExecutionStatus.PENDING,
    OrderStatus.SENDING: ExecutionStatus.SENDING,
    OrderStatus.OPEN: ExecutionStatus.OPEN,
    OrderStatus.FILLED: ExecutionStatus.EXECUTED,
    OrderStatus.CANCELLED: ExecutionStatus.CANCELLED,
    OrderStatus.REJECTED: ExecutionStatus.REJECTED,
    OrderStatus.EXPIRED: ExecutionStatus.EXPIRED,
    OrderStatus.NEEDS_REVIEW: ExecutionStatus.NEEDS_REVIEW,
}

_ENDED_WITHOUT_ALL = (
    ExecutionStatus.REJECTED,
    ExecutionStatus.CANCELLED,
    ExecutionStatus.EXPIRED,
    ExecutionStatus.PARTIAL,
)
"""States whose code says why not all of an entry was filled."""

_AGAIN = timedelta(seconds=1)
"""When a close that nobody has carried out yet is taken up."""


def refresh(trade: Trade, now: datetime) -> None:
    """Project execution and position from the orders as they stand."""
    entry = trade.entry
    if entry is None:
        return
    was = trade.execution.status
    _project_execution(trade.execution, entry, now)
    if trade.execution.status is not was:
        telling.execution_changed(trade.session, trade.execution, entry, now)
    if entry.filled() is not None:
        _project_position(trade, entry, now)


def _project_execution(execution: Execution, entry: Order, now: datetime) -> None:
    status = _AFTER_ENTRY[entry.status]
    if entry.filled_quantity > ZERO and status in _ENDED_WITHOUT_ALL:
        status = ExecutionStatus.PARTIAL
    execution.status = status
    execution.code = entry.code if status in _ENDED_WITHOUT_ALL else None
    execution.message = entry.message
    execution.filled_quantity = entry.filled_quantity
    execution.average_price = entry.average_price
    execution.fees = [{"currency": currency, "amount": amount} for currency, amount in entry.fees.items()]
    execution.client_order_id = entry.client_order_id
    execution.exchange_order_id = entry.exchange_order_id
    execution.attempts = entry.attempt
    execution.sent_at = entry.signed_at
    execution.acknowledged_at = entry.acknowledged_at
    execution.filled_at = entry.filled_at
    if status is not ExecutionStatus.PENDING:
        execution.due_at = None
    execution.updated_at = now


def _project_position(trade: Trade, entry: Order, now: datetime) -> None:
    filled = entry.filled()
    if filled is None:
        return
    side = PositionSide.opened_by(entry.side)
    exits = [each for order in trade.orders if order is not entry and (each := order.filled()) is not None]
    figures = fold(side, filled, exits, openings.unit_value(trade))
    is_new = False
    if trade.position is None:
        trade.position = openings.open_position(trade, entry, side, figures, now)
        trade.position.expose(now, entry.filled_at)
        trade.session.add(trade.position)
        is_new = True
    position = trade.position
    position.begin_day(now)
    if figures.quantity > position.quantity:
        # Nobody's stop covers what has just been filled.
        position.expose(now, entry.filled_at)
    _take_over(position, figures)
    position.doubtful_quantity = ZERO if position.netting else _unknown(trade.doubted_closes)
    position.take_profits = ladders.cut(position, trade.orders)
    if is_new:
        note = position.take_profits_note if entry.status in FINAL else None
        telling.position_opened(trade.session, position, note, now)
    position.protect_due_at = now
    position.updated_at = now
    if _is_finished(trade, entry, position):
        _finish(trade, position, now)
    else:
        if trade.live_close is None and position.at_hand > ZERO:
            _go_on_leaving(trade, entry, position, now)
        position.status = (
            PositionStatus.CLOSING if _closes_everything(trade, entry, position) else PositionStatus.OPEN
        )
    _remark(position)


@exact
def _unknown(doubted: Sequence[Order]) -> Decimal:
    """What closes in review may have sold beyond what is known of them."""
    return sum((order.quantity - order.filled_quantity for order in doubted), ZERO)


def _go_on_leaving(trade: Trade, entry: Order, position: Position, now: datetime) -> None:
    """Close what was filled after a position had ended, for the reason that ended it; what an entry fills that nobody
    wants any more; and what another close has left of a position that somebody wants closed."""
    if position.close_reason is not None:
        if position.closed_at is not None:
            telling.filled_late(trade.session, position, now)
        position.closed_at = None
        intend_close(trade, position, position.at_hand, position.close_reason, now)
    elif entry.reason is not None:
        intend_close(trade, position, position.at_hand, entry.reason, now)
    elif position.leave_reason is not None:
        intend_close(trade, position, position.at_hand, position.leave_reason, now)
        position.leave_reason = None


def intend_close(
    trade: Trade, position: Position, quantity: Decimal, reason: CloseReason, now: datetime
) -> Order:
    """Add the order that closes `quantity` at market; the sweep carries it out where nobody does so sooner."""
    entry = trade.entry
    if entry is None:
        raise ValueError(f"position {position.id} has no entry order")
    order = Order(
        id=new_id(),
        connection_id=position.connection_id,
        execution_id=position.execution_id,
        position_id=position.id,
        purpose=Purpose.CLOSE,
        symbol=position.symbol,
        base=entry.base,
        currency=entry.currency,
        side=position.side.entry_side.opposite,
        type=OrderType.MARKET,
        quantity=quantity,
        held_back=ZERO,
        reduce_only=True,
        reserved=ZERO,
        reason=reason,
        plan_revision=position.plan_revision,
        status=OrderStatus.PENDING,
        attempt=0,
        filled_quantity=ZERO,
        fees={},
        due_at=_due_at(trade, now),
        created_at=now,
        updated_at=now,
    )
    trade.session.add(order)
    trade.orders.append(order)
    return order


def _due_at(trade: Trade, now: datetime) -> datetime:
    """When a close that is intended now is sent where nobody does so sooner: later where the venue has found nobody to
    sell to a moment ago."""
    last = next((order for order in reversed(trade.orders) if order.purpose is Purpose.CLOSE), None)
    if (
        last is None
        or last.status not in trades.CUT_SHORT
        or not last.acknowledged_at
        or last.filled_quantity
    ):
        return now + _AGAIN
    return max(now + _AGAIN, last.updated_at + trades.PAUSE)


def _take_over(position: Position, figures: Figures) -> None:
    if position.remaining_quantity != figures.remaining:
        # What the venue seemed to hold less than ours was seen beside another quantity.
        position.missing_quantity, position.missing_since = ZERO, None
    position.quantity = figures.quantity
    position.remaining_quantity = figures.remaining
    position.entry_price = figures.entry_price
    position.exit_price = figures.exit_price
    position.gross_pnl = figures.gross_pnl
    position.fees = figures.fees
    position.realized_pnl = figures.realized_pnl + position.funding
    position.pnl_complete = figures.pnl_complete and position.funding_complete


@exact
def pay(position: Position, amount: Decimal, now: datetime) -> None:
    """Book funding on a position under its trade's lock; negative was paid."""
    position.begin_day(now)
    position.funding += amount
    position.realized_pnl += amount
    position.updated_at = now


def miss_funding(position: Position, now: datetime) -> None:
    """Funding of a position is not known: its figures are not complete, and never will be."""
    position.funding_complete = position.pnl_complete = False
    position.updated_at = now


def _is_finished(trade: Trade, entry: Order, position: Position) -> bool:
    """Nothing is left that could be sold, and nothing is under way that could change that."""
    if entry.status not in FINAL:
        return False
    if position.remaining_quantity == ZERO:
        return True
    if trade.live_close is not None or trade.doubted_closes:
        return False
    if any(order.filled_quantity for order in trade.live_protection):
        return False
    price = position.current_price or position.entry_price
    return is_over(position.remaining_quantity, price, position.grain) or any(
        trades.is_refused_for_size(order, position)
        for order in trade.orders
        if order.status is OrderStatus.REJECTED
    )


def _closes_everything(trade: Trade, entry: Order, position: Position) -> bool:
    close = trade.live_close
    if close is None:
        return position.remaining_quantity == ZERO and entry.reason is not None
    return close.quantity + close.held_back - close.filled_quantity >= position.at_hand


def _finish(trade: Trade, position: Position, now: datetime) -> None:
    position.dust = position.remaining_quantity
    position.remaining_quantity = ZERO
    position.end_exposure(now)
    position.price_lost_at = position.stop_doubted_at = None
    position.leave_reason = None
    for close in trade.doubted_closes:
        # All of it is accounted for without this one, so that it has sold nothing and finds nothing any more.
        close.status, close.due_at = OrderStatus.CANCELLED, None
        close.message = "The position has ended without it."
        close.updated_at = now
    position.doubtful_quantity = ZERO
    if position.status is PositionStatus.CLOSED:
        return
    ended = [order for order in trade.orders if order.purpose is not Purpose.ENTRY and order.filled_quantity]
    last = max(ended, key=lambda order: (order.filled_at or now, order.id), default=None)
    position.status = PositionStatus.CLOSED
    position.closed_at = (last.filled_at if last else None) or now
    position.close_reason = (last.reason if last else None) or CloseReason.DUST
    position.protection = Protection.NONE
    telling.position_closed(trade.session, position, now)


def _remark(position: Position) -> None:
    if position.status is PositionStatus.CLOSED:
        position.unrealized_pnl = ZERO
    elif position.current_price is not None:
        position.unrealized_pnl = unrealized(
            position.side,
            position.remaining_quantity,
            position.entry_price,
            position.current_price,
            position.unit_value,
        )
    else:
        position.unrealized_pnl = ZERO
