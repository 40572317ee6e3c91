"""Placing: one call to the venue for one claimed order, and what is recorded of each way it may end.

The claim is committed before, the outcome is recorded after; no transaction is open while the venue is asked.
An order whose outcome is unknown stays `sending`, with `due_at` telling resolution when to look it up.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from app.brokers.port import ABSENT, CANNOT_SAY, Broker, Refused, Silence, Unreachable, VenueError
from app.desk import Desk
from app.domain.exits import CloseReason
from app.domain.market import MarketType
from app.domain.orders import OrderReport, OrderStatus, Purpose
from app.engine import endings, recording, strikes, telling, trades, valuing
from app.engine.trades import Trade
from app.store import connections
from app.store.connections import Connection
from app.store.orders import Order

log = structlog.get_logger(__name__)

_FIRST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(seconds=30)
_FIRST_LOOK = timedelta(seconds=2)


def backoff(tries: int) -> timedelta:
    """1, 2, 4 … 30 seconds."""
    return min(_FIRST_WAIT * (1 << min(tries, 10)), _LONGEST_WAIT)


def claim(order: Order, broker: Broker, now: datetime) -> None:
    """Make an order ours to send: the next attempt, its client order id and signing time, stored before any byte.

    From the end of its validity on it is looked for, whoever is to send it may be dead: to find it proves it at once.
    """
    order.attempt += 1
    order.status = OrderStatus.SENDING
    order.client_order_id = broker.client_order_id(order.id, order.attempt)
    order.exchange_order_id = None
    order.signed_at = now
    order.due_at = now + min(broker.traits.validity, broker.traits.settle)
    order.misses, order.missed_at = 0, None
    order.updated_at = now


async def send(desk: Desk, broker: Broker, order: Order) -> bool:
    """Put a claimed order to the venue, once, and record the outcome under its attempt; True when it was taken."""
    words = {"order_id": str(order.id), "attempt": order.attempt}
    try:
        report = await broker.place(order.request())
    except VenueError as failure:
        await _record_failure(desk, order, failure, words)
        await strikes.of_order(desk, order.connection_id, failure)
        return False
    log.info("order_acknowledged", **words, status=report.status, filled=str(report.filled_quantity))
    await record(desk, broker, order, report)
    return True


async def _record_failure(desk: Desk, order: Order, failure: VenueError, words: Mapping[str, object]) -> None:
    if isinstance(failure, Refused):
        log.info("order_refused", **words, reason=failure.message)
        await _record_refusal(desk, order, failure)
    elif isinstance(failure, Unreachable):
        log.info("order_not_executed", **words, reason=failure.message)
        await _record_not_executed(desk, order, failure)
    else:
        # It may have been executed. Nothing is resent on the strength of an error: resolution asks by client id.
        log.warning("order_uncertain", **words, reason=failure.message)
        await _look_soon(desk, order)


async def record(desk: Desk, broker: Broker, order: Order, report: OrderReport) -> bool:
    """Take over a report, unless another attempt has taken over meanwhile; True when it told something new."""
    rates = await valuing.rates_of(desk, broker, order, report)
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        return await take_over(trade, order, report, rates, desk.now())


async def take_over(
    trade: Trade, order: Order, report: OrderReport, rates: Mapping[str, Decimal], now: datetime
) -> bool:
    """The same within the caller's transaction, on the trade under its lock; `rates` as `valuing` finds them."""
    current = trade.order(order.id)
    if current.attempt != order.attempt:
        return False
    connection = await trade.session.get_one(Connection, order.connection_id)
    is_spot = connection.market_type is MarketType.SPOT
    filled = current.filled_quantity
    is_news = recording.apply(trade, current, report, now, rates=rates, holds_coins=is_spot)
    if connection.deleted_at is not None and is_news:
        endings.let_go(trade, now)
        if (
            trade.position is not None
            and current.purpose is Purpose.ENTRY
            and current.filled_quantity > filled
        ):
            telling.opened_unmanaged(trade.session, trade.position, connection, now)
    return is_news


async def cancel(desk: Desk, broker: Broker, order: Order) -> bool:
    """Take a live order back; True when it is known to be final, whatever it filled until then."""
    try:
        report: OrderReport | Silence = await broker.cancel(order.key)
    except Refused:
        # "No such order" after we know it was there: it was filled or is gone. The look-up says which.
        report = await _found(broker, order)
    except VenueError as failure:
        log.warning("cancel_unconfirmed", order_id=str(order.id), reason=failure.message)
        return False
    if isinstance(report, Silence):
        return False
    await record(desk, broker, order, report)
    return report.status not in (OrderStatus.OPEN, OrderStatus.SENDING)


async def release(desk: Desk, broker: Broker, leg: Order) -> bool:
    """End a leg of a position that has ended in our books; True when it is known to be final.

    Nothing is taken off at the venue: if the position is open there after all, it keeps its stop.
    """
    report = await _found(broker, leg)
    if isinstance(report, OrderReport) and report.status is not OrderStatus.OPEN:
        await record(desk, broker, leg, report)
    elif isinstance(report, Silence) and report is not ABSENT:
        return False
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, leg.execution_id)
        current = trade.order(leg.id)
        if current.is_live and current.attempt == leg.attempt:
            endings.supersede(trade, current, now)
    return True


async def _found(broker: Broker, order: Order) -> OrderReport | Silence:
    try:
        return await broker.find(order.key)
    except VenueError as failure:
        log.warning("lookup_failed", order_id=str(order.id), reason=failure.message)
        return CANNOT_SAY


async def _look_soon(desk: Desk, order: Order) -> None:
    """An order in doubt may well be there: to find it proves it at once, only its absence takes the settle time."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if _is_ours(current, order):
            current.due_at = now + _FIRST_LOOK
            endings.leave_unwatched(trade, current, now)


async def _record_refusal(desk: Desk, order: Order, refusal: Refused) -> None:
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if not _is_ours(current, order):
            return
        is_first = current.refused_at is None
        current.refused_at = current.refused_at or now
        current.code = refusal.code
        if _is_given_up(trade, current):
            endings.refuse(trade, current, refusal.code, refusal.message, now)
        else:
            endings.put_back(trade, current, refusal.message, now + backoff(current.attempt), now)
            await _let_go_where_deleted(trade, current, now)
        is_over = current.purpose is Purpose.CLOSE and current.status is OrderStatus.REJECTED
        if current.purpose is not Purpose.ENTRY and (is_first or is_over):
            is_held = _is_held_elsewhere(trade, current)
            telling.exit_refused(
                session, trade.execution, current, refusal.message, now, is_held_elsewhere=is_held
            )
    if order.purpose is not Purpose.ENTRY:
        # What there is nothing to reduce for may have been closed by hand: the next round asks the venue.
        async with desk.sessions.begin() as session:
            await connections.reconcile_at(session, order.connection_id, now)


async def _record_not_executed(desk: Desk, order: Order, failure: Unreachable) -> None:
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        current = trade.order(order.id)
        if not _is_ours(current, order):
            return
        if current.purpose is Purpose.PROTECTION:
            endings.refuse(trade, current, trades.NEVER_ARRIVED, failure.message, now)
        else:
            endings.put_back(trade, current, failure.message, now + backoff(current.attempt), now)
        await _let_go_where_deleted(trade, current, now)


async def _let_go_where_deleted(trade: Trade, order: Order, now: datetime) -> None:
    """Send nothing again for a connection that was deleted while the venue was asked."""
    connection = await trade.session.get_one(Connection, order.connection_id)
    if connection.deleted_at is not None:
        endings.let_go(trade, now)


def _is_given_up(trade: Trade, order: Order) -> bool:
    """Whether a refusal ends an order.

    Leaving is not optional: what a stop, a target or the source asks for is tried again for as long as it takes,
    except where it would be too small for ever. An owner hears of it and can ask again, except for coins that are
    held by other orders, and for what was filled although they want nothing held.
    """
    if order.purpose is not Purpose.CLOSE or trade.position is None:
        return True
    if order.code in trades.TOO_SMALL:
        # A target too small by itself, and what nobody wants held, waits until more is to be left than it alone.
        may_wait = order.reason is CloseReason.TAKE_PROFIT or trades.is_unwanted(trade)
        return not may_wait or trades.is_refused_for_size(order, trade.position)
    is_asked_for = order.reason is CloseReason.MANUAL and not trades.is_unwanted(trade)
    return is_asked_for and not _is_held_elsewhere(trade, order)


def _is_held_elsewhere(trade: Trade, order: Order) -> bool:
    """Whether an exit was refused because the account has coins, and cannot part with them all."""
    position = trade.position
    is_exit = order.purpose is Purpose.CLOSE and position is not None and not position.netting
    return is_exit and order.code == trades.NOT_FREE


def _is_ours(current: Order, sent: Order) -> bool:
    """Whether the attempt we sent is still the one in force and undecided."""
    return current.attempt == sent.attempt and current.status is OrderStatus.SENDING
