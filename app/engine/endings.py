"""Endings: what becomes of an order by other words than its venue's report: refused, vanished, taken back, let go."""

from datetime import datetime, timedelta

from app.domain.exits import CloseReason, Protection
from app.domain.money import ZERO, exact
from app.domain.orders import OrderStatus, Purpose
from app.engine import projecting, trades
from app.engine.trades import Trade
from app.store.orders import Order

_LATE_LOOK = timedelta(seconds=30)


def let_go(trade: Trade, now: datetime) -> None:
    """Stop looking after a trade whose connection goes: what only our monitor protected is protected no more.

    What waits is not sent. What is on its way may still be answered; what rests unconfirmed is a human's to look for.
    """
    for order in trade.orders:
        if order.status is OrderStatus.SENDING:
            continue
        order.due_at = None
        if order.status is OrderStatus.PENDING:
            order.status, order.message = (
                OrderStatus.CANCELLED,
                "Its connection was deleted before it was sent.",
            )
            order.updated_at = now
        elif order.status is OrderStatus.OPEN and order.purpose is Purpose.ENTRY:
            order.status, order.message = OrderStatus.NEEDS_REVIEW, trades.LEFT_OPEN
            order.updated_at = now
    _forget_wishes(trade)
    projecting.refresh(trade, now)
    if trade.position is not None:
        trade.position.protect_due_at = trade.position.protect_by = None
        if trade.position.protection is Protection.SOFTWARE:
            trade.position.protection = Protection.NONE


def _forget_wishes(trade: Trade) -> None:
    """Nobody can close any more what somebody has wanted closed."""
    if trade.entry is not None:
        trade.entry.reason = None
    if trade.position is not None and trade.position.remaining_quantity:
        trade.position.leave_reason = trade.position.close_reason = None


def supersede(trade: Trade, leg: Order, now: datetime) -> None:
    """Record that a leg stands no more, because another has taken its place or its position has ended."""
    leg.status = OrderStatus.CANCELLED
    leg.message = "Another one has taken its place, or its position has ended."
    leg.due_at = None
    leg.updated_at = now
    projecting.refresh(trade, now)


def intend_end(trade: Trade, order: Order, code: str | None, message: str, now: datetime) -> None:
    """Note why an order that rests is being taken back; it counts when the venue says that it has ended."""
    order.code, order.message = code, message
    order.updated_at = now
    projecting.refresh(trade, now)


def unwant_entry(trade: Trade, reason: CloseReason, now: datetime) -> None:
    """Let the entry open nothing more: what rests of it is taken back, and whatever it fills until then is closed."""
    entry = trade.entry
    if entry is not None and entry.is_live:
        entry.reason = reason
        projecting.refresh(trade, now)


def refuse(trade: Trade, order: Order, code: str, message: str, now: datetime) -> None:
    """Record that the venue certainly did not and will not take an order."""
    order.status = OrderStatus.REJECTED
    order.code, order.message = code, message
    order.due_at = None
    order.updated_at = now
    projecting.refresh(trade, now)


def leave_unwatched(trade: Trade, order: Order, now: datetime) -> None:
    """While a close is in doubt nobody watches the stop of what it has taken the legs from; what a venue carries on
    the position itself stays."""
    position = trade.position
    if (
        order.purpose is Purpose.CLOSE
        and position is not None
        and position.protection is not Protection.NATIVE
    ):
        position.expose(now)


def vanish(trade: Trade, order: Order, now: datetime) -> None:
    """Record that an order that rested at the venue is no longer there, and nobody can say what became of it.

    The venue is asked once more later: a fill may be slower to show than the order was to go.
    """
    order.status = OrderStatus.CANCELLED
    order.code = trades.VANISHED
    order.due_at = now + _LATE_LOOK
    order.message = "The order is no longer at the venue."
    order.updated_at = now
    if order.purpose is Purpose.PROTECTION and order.trigger_price is not None and trade.position is not None:
        trade.position.expose(now)
    miss_stop(trade, order, now)
    projecting.refresh(trade, now)


def miss_stop(trade: Trade, order: Order, now: datetime) -> None:
    """Remember that the venue's stop is gone without having done its work, where no close of ours has taken it away."""
    is_stop = order.purpose is Purpose.PROTECTION and order.trigger_price is not None
    if is_stop and trade.position is not None and trade.live_close is None:
        trade.position.miss_stop(now)


def put_back(trade: Trade, order: Order, message: str, due_at: datetime, now: datetime) -> None:
    """Record that an attempt certainly was not executed: the order is intended again, from `due_at`.

    A close in review that another has followed is not: there is one close to be sent. Nor is an entry that nobody
    wants any more.
    """
    order.status = OrderStatus.PENDING
    order.message = message
    order.due_at = due_at
    _take_up_again(order)
    if order.purpose is Purpose.CLOSE and any(
        _is_to_be_sent(each) for each in trade.orders if each is not order
    ):
        order.status, order.due_at = OrderStatus.CANCELLED, None
    order.misses = 0
    order.updated_at = now
    if order.purpose is Purpose.ENTRY:
        trade.execution.due_at = due_at
        order.due_at = None
        if order.reason is not None:
            order.status, order.message = OrderStatus.CANCELLED, trades.TAKEN_BACK
    projecting.refresh(trade, now)


@exact
def _take_up_again(order: Order) -> None:
    """What was held back of an order that was not executed is part of it again."""
    order.quantity, order.held_back = order.quantity + order.held_back, ZERO


def _is_to_be_sent(order: Order) -> bool:
    return order.purpose is Purpose.CLOSE and order.status in (OrderStatus.PENDING, OrderStatus.SENDING)
