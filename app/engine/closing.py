"""Closing: one path out of a position, whoever asks. A close is an order row first, then an order at the venue.

Before anything is sold the rest of the entry and the native legs are cancelled and confirmed, so that one quantity
is never closed twice. A partial unique index allows one live close per position; whoever comes second is told.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import select

from app.brokers.port import Broker, VenueError
from app.desk import Desk
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.exits import CloseReason, Exit, NativeStyle, Protection
from app.domain.market import MarketType
from app.domain.money import ZERO, exact, floor_to_step, text
from app.domain.orders import OrderStatus, Purpose
from app.domain.owners import Owner
from app.domain.positions import PositionStatus
from app.engine import endings, naming, placing, projecting, protection, strikes, trades
from app.engine.access import broker_of, in_time
from app.engine.trades import Trade
from app.store.audit import Action
from app.store.connections import Connection
from app.store.executions import Execution
from app.store.orders import Order
from app.store.positions import Position

log = structlog.get_logger(__name__)

_AGAIN = timedelta(seconds=1)

_CANCELLABLE = (OrderStatus.OPEN, OrderStatus.NEEDS_REVIEW)

_DOUBTED = timedelta(seconds=30)
"""After how long a close that is in doubt may have another one beside it."""

_MOST_DOUBLINGS = 6


async def request_close(
    desk: Desk, owner: Owner, position_id: UUID, portion: Decimal | None, *, idempotency_key: str | None
) -> Position:
    """Start to close a position at market: all of it, or a portion (0 < p ≤ 1) of what remains.

    Where all that was filled is sold already there is nothing to close but the entry, which is taken back.
    A repeated `idempotency_key` starts nothing new. Raises NotFound, Conflict when the position is closed or another
    close is under way, Invalid when the portion is too small to be an order.
    """
    async with desk.sessions.begin() as session:
        trade, position = await trades.locked_for(session, owner, position_id)
        if idempotency_key and any(order.idempotency_key == idempotency_key for order in trade.orders):
            return position
        if position.status is PositionStatus.CLOSED:
            raise Conflict("conflict", "The position is already closed.")
        if trade.live_close is not None:
            raise Conflict("conflict", "Another close of this position is under way.")
        if position.remaining_quantity and not position.at_hand:
            raise Conflict("conflict", "A close in review may have sold all that is left; resolve it first.")
        if not position.remaining_quantity and portion not in (None, 1):
            raise Conflict(
                "conflict", "Nothing is held; its entry still rests, and closing all of it takes that back."
            )
        order, quantity = None, position.remaining_quantity
        if quantity:
            quantity = closing_quantity(position, portion)
            order = start(trade, quantity, CloseReason.MANUAL, desk.now())
            order.idempotency_key = idempotency_key
        else:
            endings.unwant_entry(trade, CloseReason.MANUAL, desk.now())
        trades.write_down(trade, Action.CLOSE, owner, desk.now(), quantity=text(quantity))
    if order is not None:
        await desk.queue.close_position(order.id)
    return position


def _held(trade: Trade) -> Position:
    if trade.position is None:
        raise NotFound("position")
    return trade.position


@exact
def closing_quantity(position: Position, portion: Decimal | None, of: Decimal | None = None) -> Decimal:
    """The quantity that a portion of what remains means; a rest too small to be sold is closed with it.

    `of` is what the portion is of where that is less than what remains. Raises Invalid with the numbers when the
    portion itself is too small.
    """
    if portion is None or portion == 1:
        return position.at_hand
    price = position.current_price or position.entry_price
    whole_of = position.remaining_quantity if of is None else of
    wanted = floor_to_step(min(whole_of * portion, position.at_hand), position.quantity_step)
    if not position.grain.takes(wanted, price):
        least = f"{text(position.min_quantity)} or more"
        if position.grain.min_notional is not None:
            least += f", worth {text(position.grain.min_notional)} {position.currency} or more"
        raise Invalid("portion", f"The portion comes to {text(wanted)}; the venue takes {least}.")
    return whole(position, wanted)


@exact
def whole(position: Position, quantity: Decimal) -> Decimal:
    """`quantity`, or everything where the rest would be too small ever to be sold."""
    price = position.current_price or position.entry_price
    rest = position.at_hand - quantity
    return quantity if position.grain.takes(rest, price) else position.at_hand


def start(trade: Trade, quantity: Decimal, reason: CloseReason, now: datetime) -> Order:
    """Store the intent to close `quantity`; the caller's transaction commits it."""
    order = projecting.intend_close(trade, _held(trade), quantity, reason, now)
    projecting.refresh(trade, now)
    return order


async def leave(desk: Desk, execution_id: UUID, reason: CloseReason) -> None:
    """Close all of a position now, whoever closes a part of it already; harmless where nothing is left."""
    async with desk.sessions.begin() as session:
        order = leave_whole(await trades.locked(session, execution_id), reason, desk.now())
    if order is not None:
        await carry_out(desk, order.id)


def leave_whole(trade: Trade, reason: CloseReason, now: datetime) -> Order | None:
    """Store the lasting wish to close everything; answers the order to carry out, if one waits to be.

    Where another close is on its way, or was asked for by somebody else, what it leaves is closed as soon as it has
    ended. An entry that still rests is taken back.
    """
    endings.unwant_entry(trade, reason, now)
    order = _start_whole(trade, reason, now)
    if trade.position is not None and (order is None or order.reason is not reason):
        trade.position.leave_reason = reason
    return order


def start_exit(trade: Trade, way_out: Exit, now: datetime) -> Order | None:
    """Store the close that a price asks for; None while another is on its way.

    One of everything takes over a close of a part that waits to be sent: a stop goes before all else.
    """
    quantity = whole(_held(trade), way_out.quantity)
    if quantity == _held(trade).at_hand:
        return start_whole(trade, way_out.reason, now)
    return start(trade, quantity, way_out.reason, now) if trade.live_close is None else None


def start_whole(trade: Trade, reason: CloseReason, now: datetime) -> Order | None:
    """Store the intent to close everything; answers the order to carry out, if one waits to be.

    A close of a part that is not on its way yet becomes one of everything. One that is on its way ends first; after
    each that ended in review the next one is given twice the time.
    """
    doubted = trade.doubted_closes
    if doubted and now < doubted[-1].key.signed_at + _DOUBTED * 2 ** min(len(doubted) - 1, _MOST_DOUBLINGS):
        return None
    return _start_whole(trade, reason, now)


def _start_whole(trade: Trade, reason: CloseReason, now: datetime) -> Order | None:
    position, close = trade.position, trade.live_close
    if position is None or position.status is PositionStatus.CLOSED or not position.at_hand:
        return None
    if close is None:
        return start(trade, position.at_hand, reason, now)
    if close.status is not OrderStatus.PENDING:
        return None
    if close.quantity < position.at_hand:
        close.quantity, close.reason = position.at_hand, reason
        projecting.refresh(trade, now)
    return close


async def carry_out(desk: Desk, order_id: UUID) -> None:
    """Carry a pending close as far as the venue: legs away, quantity fixed, sold, the rest protected again."""
    async with desk.sessions() as session:
        row = (
            await session.execute(
                select(Order, Connection, Execution.signal_id)
                .join(Connection, Connection.id == Order.connection_id)
                .join(Execution, Execution.id == Order.execution_id)
                .where(
                    Order.id == order_id,
                    Order.purpose == Purpose.CLOSE,
                    Order.status == OrderStatus.PENDING,
                    Connection.deleted_at.is_(None),
                )
            )
        ).one_or_none()
    if row is None:
        return
    order, connection, signal_id = row
    with naming.bound(signal_id, order.execution_id, connection.id):
        await _carry_out(desk, order, connection)


async def _carry_out(desk: Desk, order: Order, connection: Connection) -> None:
    try:
        broker = await broker_of(desk, connection)
        if not await _clear_the_way(desk, broker, order.execution_id):
            return
        renamed = await _renamed(desk, broker, order)
        free = await _free(broker, order) if connection.market_type is MarketType.SPOT else None
    except VenueError as failure:
        log.warning("close_put_off", order_id=str(order.id), reason=failure.message)
        return
    claimed = await _claim(desk, broker, order, renamed, free)
    if claimed is not None and await placing.send(desk, broker, claimed):
        await strikes.acknowledged(desk, connection)
    await protection.after(desk, order.execution_id)


async def _clear_the_way(desk: Desk, broker: Broker, execution_id: UUID) -> bool:
    """Cancel native legs, and for a full close the rest of the entry; True when all are confirmed final."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        close = trade.live_close
        if close is None:
            return True
        close.due_at = desk.now() + _AGAIN
        in_the_way = _obstacles(trade, broker)
        if any(leg.trigger_price is not None for leg in in_the_way):
            _held(trade).expose(desk.now())
            _held(trade).protection = Protection.SOFTWARE
        entry = trade.entry
        if entry is not None and entry.is_live and _held(trade).status is PositionStatus.CLOSING:
            in_the_way.append(entry)
    for order in in_the_way:
        # One still on its way can be neither cancelled nor passed over: resolution finds out about it first.
        if order.status not in _CANCELLABLE or not await placing.cancel(desk, broker, order):
            return False
    return True


async def _renamed(desk: Desk, broker: Broker, order: Order) -> Mapping[str, str]:
    """What the venue calls the position just now, by what we call it; without names, or when it is gone, nothing.

    What was closed by hand before is told from what this order will have closed by nothing else. Raises VenueError.
    """
    async with desk.sessions() as session:
        handle = await session.scalar(select(Position.handle).where(Position.id == order.position_id))
    if handle is None:
        return {}
    holdings = await in_time(broker.holdings([handle]))
    return {each.asked_as: each.handle for each in holdings if each.asked_as and each.handle}


def _obstacles(trade: Trade, broker: Broker) -> list[Order]:
    """The legs that have to be gone before anything is sold; what a position carries itself shrinks with it.

    Where exits only ever reduce, one in review is in nobody's way.
    """
    if broker.traits.native_style is NativeStyle.ATTACHED:
        return []
    is_passed_over = OrderStatus.NEEDS_REVIEW if broker.traits.netting else None
    return [leg for leg in trade.live_protection if leg.status is not is_passed_over]


async def _free(broker: Broker, order: Order) -> Decimal | None:
    """What of the coins can be sold now; None unless the venue has said that not all can. Raises VenueError."""
    if order.code != trades.NOT_FREE:
        return None
    balance = (await in_time(broker.account())).balances.get(order.base)
    return ZERO if balance is None else balance.free


async def _claim(
    desk: Desk, broker: Broker, order: Order, renamed: Mapping[str, str], free: Decimal | None
) -> Order | None:
    """Fix what is really left to sell and make the order ours to send; None when nothing can be done now.

    Where not all of it is `free` the rest is held back, for another order.
    """
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, order.execution_id)
        close, position = trade.live_close, _held(trade)
        if close is None or close.id != order.id or close.status is not OrderStatus.PENDING:
            return None
        if _obstacles(trade, broker):
            return None
        wanted = _sellable(close, position)
        quantity = wanted if free is None else _capped(wanted, free, position)
        price = position.current_price or position.entry_price
        if position.grain.takes(wanted, price) and not position.grain.takes(quantity, price):
            close.due_at = now + trades.PAUSE
            close.updated_at = now
            return None
        if not position.grain.takes(quantity, price):
            close.status = OrderStatus.CANCELLED
            close.message = "Nothing was left that the venue would take an order for."
            close.due_at = None
            close.updated_at = now
            projecting.refresh(trade, now)
            return None
        close.quantity, close.held_back = quantity, wanted - quantity
        close.code = close.message = None
        close.handle = renamed.get(position.handle, position.handle) if position.handle else None
        placing.claim(close, broker, now)
    return close


@exact
def _sellable(close: Order, position: Position) -> Decimal:
    return floor_to_step(min(close.quantity, position.at_hand), position.quantity_step)


@exact
def _capped(wanted: Decimal, free: Decimal, position: Position) -> Decimal:
    return floor_to_step(min(wanted, free), position.quantity_step)
