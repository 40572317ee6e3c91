"""External exits: what left our positions without us, by the owner's hand or by the venue's, is booked.

The venue's trades say at what price and fee, and whether they were forced. What no trade accounts for is valued at
the last price seen, and the position's figures say that they are not complete.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Broker, VenueError
from app.desk import Desk
from app.domain.exits import CloseReason
from app.domain.holdings import Departure, Fill, departures
from app.domain.money import ZERO, exact, stored, text
from app.domain.orders import OrderKey, OrderReport, OrderStatus, OrderType, Purpose, merged_fees
from app.domain.positions import PositionStatus, value_fees
from app.engine import naming, projecting, protection, recording, telling, trades
from app.engine.access import in_time
from app.engine.trades import Trade
from app.store.orders import Order
from app.store.positions import Position
from app.store.schema import new_id

log = structlog.get_logger(__name__)


_TAKEN_ALONG = "Closed by the request that was to take its entry back, which had just been filled."


async def book(
    desk: Desk,
    broker: Broker,
    losers: Sequence[Position],
    gone: Mapping[UUID, Decimal],
    until: datetime,
    renamed: Mapping[str, str],
    doubted: Sequence[Order] = (),
) -> None:
    """Take away from each position what was gone of it at `until`; `losers` come in the order in which they lost.

    `renamed` is what the venue calls positions since, by their handles. What is gone is first what a close of the
    position did that is in review, one of `doubted`. A position that has changed since is left alone: the next look
    starts anew.
    """
    parts: dict[UUID, tuple[Departure, ...]] = {}
    for short in _sharing_fills(losers):
        fills = await _fills(desk, broker, short, until)
        shares = [share for each in short for share in _shares(each, gone[each.id], _of(each, doubted))]
        parts |= departures(shares, fills)
    for position in losers:
        handle = position.handle and renamed.get(position.handle)
        if await _book(desk, position, parts, handle, _of(position, doubted)):
            await protection.after(desk, position.execution_id)


def _of(position: Position, doubted: Sequence[Order]) -> list[Order]:
    return [order for order in doubted if order.position_id == position.id]


@exact
def _shares(position: Position, quantity: Decimal, doubted: Sequence[Order]) -> list[tuple[UUID, Decimal]]:
    """What is gone of a position, by whose doing: its closes in review, the oldest first, then nobody's here."""
    shares = []
    for order in doubted:
        part = min(order.quantity, quantity)
        if part > ZERO:
            shares.append((order.id, part))
            quantity -= part
    return [*shares, (position.id, quantity)] if quantity > ZERO else shares


def _sharing_fills(losers: Sequence[Position]) -> Sequence[Sequence[Position]]:
    """Those that the same trades may account for: of a symbol, unless the venue knows which position a trade closed."""
    groups: dict[tuple[str, str | None], list[Position]] = {}
    for position in losers:
        groups.setdefault((position.symbol, position.handle), []).append(position)
    return list(groups.values())


async def _fills(desk: Desk, broker: Broker, short: Sequence[Position], until: datetime) -> Sequence[Fill]:
    """The closing trades that may account for what is gone; none where the venue cannot say."""
    first = short[0]
    side = first.side.entry_side.opposite
    async with desk.sessions() as session:
        booked = await _last_booked(session, first)
        ours = await _known(session, first)
    opened = min(position.opened_at for position in short)
    try:
        since = max(opened, booked) if booked else opened
        fills = await in_time(broker.fills(first.symbol, since, ours, first.handle))
    except VenueError as failure:
        log.warning("fills_unknown", connection_id=str(first.connection_id), reason=failure.message)
        return []
    return [
        fill
        for fill in fills
        if fill.side is side and opened <= fill.time <= until and (booked is None or fill.time > booked)
    ]


async def _last_booked(session: AsyncSession, position: Position) -> datetime | None:
    """The time of the last trade that was booked here and could be meant again: it must not count twice."""
    booked_here = Order.position_id == position.id if position.handle else Order.symbol == position.symbol
    return await session.scalar(
        select(func.max(Order.filled_at)).where(
            Order.connection_id == position.connection_id,
            booked_here,
            Order.reason.in_((CloseReason.EXTERNAL, CloseReason.LIQUIDATION)),
        )
    )


async def _known(session: AsyncSession, position: Position) -> list[OrderKey]:
    """Our own orders in the symbol whose fills are in our books."""
    rows = await session.scalars(
        select(Order).where(
            Order.connection_id == position.connection_id,
            Order.symbol == position.symbol,
            Order.client_order_id.is_not(None),
            Order.filled_quantity > ZERO,
            Order.updated_at >= position.opened_at,
        )
    )
    return [order.key for order in rows]


async def _book(
    desk: Desk,
    seen: Position,
    parts: Mapping[UUID, Sequence[Departure]],
    handle: str | None,
    doubted: Sequence[Order],
) -> bool:
    now = desk.now()
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, seen.execution_id)
        position = trade.position
        if position is None or position.status is PositionStatus.CLOSED:
            return False
        if position.remaining_quantity != seen.remaining_quantity:
            return False
        settled = [trade.order(order.id) for order in doubted]
        if any(trades.is_undecided(order) for order in trade.orders if order not in settled):
            return False
        if any(order.status is not OrderStatus.NEEDS_REVIEW for order in settled):
            return False
        for order in settled:
            _settle(trade, order, [part for part in parts.get(order.id, ()) if not part.forced], now)
        forced = [part for order in settled for part in parts.get(order.id, ()) if part.forced]
        for part in (*parts.get(position.id, ()), *forced):
            order = _order_for(trade, position, part, now)
            position.funding += order.funding
            session.add(order)
            trade.orders.append(order)
            if not part.ours:
                telling.left_without_us(session, trade.execution, order, now)
            log.warning(
                "left_without_us",
                **naming.of_position(position),
                order_id=str(order.id),
                reason=order.reason,
                quantity=text(order.filled_quantity),
                known=part.price is not None,
            )
        if handle is not None and position.handle == seen.handle:
            recording.rename(trade, handle)
        projecting.refresh(trade, now)
    return True


@exact
def _settle(trade: Trade, order: Order, parts: Sequence[Departure], now: datetime) -> None:
    """Write down what a close in review has sold by what is gone, at the price and fees of the venue's trades."""
    quantity = sum((part.quantity for part in parts), ZERO)
    if quantity == ZERO:
        return
    told = [part.fees for part in parts if part.fees is not None]
    prices = [part.price or _last_price(trade) for part in parts]
    report = OrderReport(
        client_order_id=order.key.client_order_id,
        exchange_order_id=next((part.exchange_order_id for part in parts if part.exchange_order_id), ""),
        status=OrderStatus.FILLED if quantity == order.quantity else OrderStatus.CANCELLED,
        filled_quantity=quantity,
        average_price=sum((p.quantity * price for p, price in zip(parts, prices, strict=True)), ZERO)
        / quantity,
        fees=merged_fees(told),
        time=next((part.time for part in parts if part.time), None),
        message="The venue could not say so; what the account holds does.",
    )
    log.warning("close_settled", **naming.of_order(trade.execution, order), quantity=text(quantity))
    recording.apply(trade, order, report, now, rates={}, holds_coins=False)
    if len(told) < len(parts):
        order.fees_complete = False
        projecting.refresh(trade, now)


def _last_price(trade: Trade) -> Decimal:
    if trade.position is None:
        raise ValueError(f"execution {trade.execution.id} has no position")
    return trade.position.current_price or trade.position.entry_price


def _order_for(trade: Trade, position: Position, part: Departure, now: datetime) -> Order:
    """The order that stands in our books for what somebody else did."""
    entry = trade.entry
    if entry is None:
        raise ValueError(f"position {position.id} has no entry order")
    price = stored(part.price or _last_price(trade))
    taken = {currency: stored(amount) for currency, amount in (part.fees or {}).items()}
    # A fee in coins is in the quantity that is gone: nothing more leaves the position for it.
    fees = value_fees(taken, entry.base, entry.currency, price, {}, holds_coins=False)
    return Order(
        id=new_id(),
        connection_id=position.connection_id,
        execution_id=position.execution_id,
        position_id=position.id,
        purpose=Purpose.CLOSE,
        symbol=entry.symbol,
        base=entry.base,
        currency=entry.currency,
        side=position.side.entry_side.opposite,
        type=OrderType.MARKET,
        quantity=part.quantity,
        reduce_only=True,
        reserved=ZERO,
        reason=_reason(part),
        plan_revision=position.plan_revision,
        status=OrderStatus.FILLED,
        attempt=0,
        exchange_order_id=part.exchange_order_id,
        filled_quantity=part.quantity,
        average_price=price,
        fees={currency: text(amount) for currency, amount in taken.items()},
        base_fee=fees.base,
        fee_value=fees.value,
        fees_complete=part.fees is not None and fees.complete,
        profit=part.profit,
        funding=part.funding,
        message=_TAKEN_ALONG if part.ours else "Not placed by the engine.",
        filled_at=part.time or now,
        created_at=now,
        updated_at=now,
    )


def _reason(part: Departure) -> CloseReason:
    if part.forced:
        return CloseReason.LIQUIDATION
    return CloseReason.MANUAL if part.ours else CloseReason.EXTERNAL
