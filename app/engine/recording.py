"""Recording: how a venue's report of an order changes it, and with it the whole trade."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import structlog

from app.domain.exits import CloseReason
from app.domain.money import ZERO, exact, kept, stored, text
from app.domain.orders import (
    FINAL,
    Leg,
    OrderReport,
    OrderStatus,
    Purpose,
    status_after,
    supersedes,
)
from app.domain.positions import PositionStatus, blended_rates, value_fees
from app.engine import endings, naming, projecting, telling, trades
from app.engine.trades import Trade
from app.store.orders import Order

log = structlog.get_logger(__name__)


def apply(
    trade: Trade,
    order: Order,
    report: OrderReport,
    now: datetime,
    *,
    rates: Mapping[str, Decimal],
    holds_coins: bool,
) -> bool:
    """Take over what the venue says of an order; False when it tells nothing new or comes too late.

    `rates` are the present prices of coins that fees were taken in, and `holds_coins` says whether the account holds
    what it bought (spot) or nets it on margin.
    """
    known_status = _known_status(trade, order)
    if not _is_news(trade, order, report, known_status):
        return False
    filled_before = order.filled_quantity
    was_live = order.is_live
    if order.status in FINAL:
        log.warning(
            "order_was_not_final",
            **naming.of_order(trade.execution, order),
            filled=text(report.filled_quantity),
        )
        order.code = order.message = None
    if trade.position is not None:
        trade.position.funding += report.funding - order.funding
    order.profit, order.funding = report.profit, report.funding
    order.status = status_after(known_status, report)
    order.exchange_order_id = report.exchange_order_id
    order.filled_quantity = report.filled_quantity
    order.average_price = None if report.average_price is None else stored(report.average_price)
    _count_fees(order, report, rates, holds_coins=holds_coins)
    order.leg = report.leg
    _explain_end(order, report)
    order.acknowledged_at = order.acknowledged_at or now
    order.misses, order.missed_at = 0, None
    order.due_at = None
    if report.filled_quantity > filled_before:
        order.filled_at = report.time or now
    if order.purpose is Purpose.PROTECTION and report.leg is not None:
        order.reason = _stop_reason(trade, order) if report.leg is Leg.STOP else CloseReason.TAKE_PROFIT
    order.updated_at = now
    if order.status in FINAL and not order.filled_quantity:
        endings.miss_stop(trade, order, now)
    if order.purpose is not Purpose.ENTRY and report.filled_quantity > filled_before:
        telling.exit_filled(trade.session, trade.execution, order, now)
    projecting.refresh(trade, now)
    if was_live:
        _carry_on(trade, order, now)
    if report.handle is not None:
        rename(trade, report.handle)
    _end_others(trade, order, now)
    return True


def _is_news(trade: Trade, order: Order, report: OrderReport, known_status: OrderStatus) -> bool:
    """Whether a report tells something that is not known, and is to be believed."""
    known = (order.status, order.filled_quantity, order.exchange_order_id)
    if known == (report.status, report.filled_quantity, report.exchange_order_id):
        return False
    return not _has_fired(trade, order) and supersedes(known_status, order.filled_quantity, report)


def rename(trade: Trade, handle: str) -> None:
    """Remember what the venue calls the position from now on: for what is sent about it, and what stands on it."""
    if trade.position is None:
        return
    trade.position.handle = handle
    for leg in trade.live_protection:
        if leg.handle is not None:
            leg.handle = handle


def _end_others(trade: Trade, leg: Order, now: datetime) -> None:
    """When what stands on a position has fired, whatever else was set on it is gone with it."""
    if leg.handle is not None and leg.leg is not None:
        for other in trade.live_protection:
            endings.supersede(trade, other, now)


def _has_fired(trade: Trade, leg: Order) -> bool:
    """Whether what stood on a position was taken already, as another leg's: of all that are set only one is there."""
    return (
        leg.handle is not None
        and leg.purpose is Purpose.PROTECTION
        and any(
            other.purpose is Purpose.PROTECTION and other.filled_quantity > ZERO
            for other in trade.orders
            if other is not leg
        )
    )


def _known_status(trade: Trade, order: Order) -> OrderStatus:
    """The status to hold a report against: of an order that vanished its venue never said that it was final."""
    # A close that vanished may have been followed by another.
    is_doubtful = (
        order.code == trades.VANISHED
        and order.purpose is not Purpose.CLOSE
        and not _is_succeeded(trade, order)
    )
    return OrderStatus.OPEN if is_doubtful else order.status


def _count_fees(
    order: Order, report: OrderReport, rates: Mapping[str, Decimal], *, holds_coins: bool
) -> None:
    """Take over the fees, and what they are worth at the rates of when each was taken."""
    taken = {currency: stored(amount) for currency, amount in report.fees.items()}
    counted = {currency: kept(amount) for currency, amount in order.fees.items()}
    known = {coin: kept(rate) for coin, rate in order.fee_rates.items()}
    blended = blended_rates(known, counted, taken, rates)
    fees = value_fees(
        taken, order.base, order.currency, order.average_price, blended, holds_coins=holds_coins
    )
    order.fees = {currency: text(amount) for currency, amount in taken.items()}
    order.fee_rates = {coin: text(stored(rate)) for coin, rate in blended.items()}
    order.base_fee, order.fee_value = fees.base, fees.value
    order.fees_complete = fees.complete and report.fees_told


def _is_succeeded(trade: Trade, leg: Order) -> bool:
    """Whether another leg stands, or has fired, on the same position of a venue that names positions.

    What is set on a position has no name of its own: what is found there is that other leg.
    """
    return leg.handle is not None and any(
        other.purpose is Purpose.PROTECTION and (other.is_live or other.filled_quantity > ZERO)
        for other in trade.orders
        if other is not leg
    )


def _explain_end(order: Order, report: OrderReport) -> None:
    """Why an order ended: what we took it back for, else what the venue says of it."""
    if order.status is OrderStatus.FILLED and order.code is not None:
        # Whoever wanted it back came too late.
        order.code = order.message = None
    if order.code is None:
        order.message = report.message or order.message
    is_over = order.expires_at is not None and report.time is not None and order.expires_at <= report.time
    if order.status is OrderStatus.EXPIRED and order.purpose is Purpose.ENTRY and is_over:
        order.code = trades.LAPSED
    elif order.status is OrderStatus.CANCELLED and order.code == trades.LAPSED:
        # Its venue knows no end for an order; we have kept the time for it.
        order.status = OrderStatus.EXPIRED


def _stop_reason(trade: Trade, order: Order) -> CloseReason:
    """What leaving at the stop of a protective order is called; one of an earlier plan is a plain stop-loss."""
    position = trade.position
    if position is None or order.trigger_price != position.stop_loss:
        return CloseReason.STOP_LOSS
    return position.stop_reason


@exact
def _carry_on(trade: Trade, close: Order, now: datetime) -> None:
    """A close that its venue has cut short, or that was held back in part, goes on with another order for the rest.

    Not at a target, which is a price and not a wish to leave: the monitor sees whether that price still stands.
    """
    position = trade.position
    if close.purpose is not Purpose.CLOSE or close.status not in (*trades.CUT_SHORT, OrderStatus.FILLED):
        return
    if position is None or position.status is PositionStatus.CLOSED or trade.live_close is not None:
        return
    unfilled = close.quantity - close.filled_quantity if close.status in trades.CUT_SHORT else ZERO
    rest = min(unfilled + close.held_back, position.at_hand)
    price = position.current_price or position.entry_price
    if close.reason in (None, CloseReason.TAKE_PROFIT) or not position.grain.takes(rest, price):
        return
    following = projecting.intend_close(trade, position, rest, close.reason, now)
    if close.held_back:
        # Who looks first finds out what is free.
        following.code, following.due_at = trades.NOT_FREE, now + trades.PAUSE
    projecting.refresh(trade, now)
