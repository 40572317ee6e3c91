"""Following: what a later event about a signal means for what is already under way from it.

An update changes stop and targets; a cancel takes back what is not filled; a close also closes what is open, or a
portion of it. What an event means for an entry that is not claimed yet is read by the claim itself (see courses).
"""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import VenueError
from app.desk import Desk
from app.domain.errors import Invalid
from app.domain.exits import CloseReason
from app.domain.money import parse, text
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType, Outcome, Verdict
from app.engine import closing, lapsing, naming, protection, trades, triggers, updating
from app.engine.access import broker_of
from app.engine.courses import updates_of
from app.engine.lapsing import Ending
from app.store.connections import Connection
from app.store.events import Event
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import OPEN, Position
from app.store.signals import id_of

log = structlog.get_logger(__name__)

_MAY_STILL_OPEN = (ExecutionStatus.SENDING, ExecutionStatus.OPEN, ExecutionStatus.NEEDS_REVIEW)
"""An order in doubt may have been accepted, and rest or be filled by now."""
_WHY = {
    EventType.CANCELLED: Ending("signal_cancelled", "The provider cancelled the signal."),
    EventType.CLOSED: Ending("signal_closed", "The provider closed the signal."),
}


async def follow(desk: Desk, event_id: UUID) -> None:
    """Carry out what an event says on everything under way from its signal. Repeating it changes nothing."""
    async with desk.sessions() as session:
        event = await session.get_one(Event, event_id)
        if event.due_at is None or event.provider is None or event.source_id is None:
            return
        signal_id = await id_of(session, event.provider, event.source_id)
    if event.type == EventType.UPDATED:
        await _update(desk, event, signal_id)
        await _finish(desk, event_id)
        return
    if await _end(desk, event, signal_id):
        await _finish(desk, event_id)


async def _end(desk: Desk, event: Event, signal_id: UUID | None) -> bool:
    """Take back what rests and, for a close, close what is open; True when nothing has to be tried again."""
    async with desk.sessions() as session:
        resting = await _resting(session, signal_id)
    for order, connection in resting:
        await _take_back(desk, event, order, connection)
    # Before what is held is read: an entry that fills between the two is found held, or still under way.
    may_still_open = await _may_still_open(desk, signal_id)
    async with desk.sessions() as session:
        held = await _held(session, signal_id) if event.type == EventType.CLOSED else ()
    closed = [await _close(desk, event, execution_id) for execution_id in held]
    return all(closed) and not may_still_open


async def _take_back(desk: Desk, event: Event, order: Order, connection: Connection) -> None:
    """Cancel one resting entry; while it rests the event stays due, so that a venue that fails is asked again."""
    if await _cancelled(desk, order, connection, _WHY[EventType(event.type)]):
        async with desk.sessions.begin() as session:
            trade = await trades.locked(session, order.execution_id)
            if event.type == EventType.CANCELLED and not updating.is_noted(trade.execution, event):
                verdict = Verdict(Outcome.APPLIED, "What was not filled was taken back.")
                updating.note(trade.execution, event, verdict, desk.now())


async def _cancelled(desk: Desk, order: Order, connection: Connection, why: Ending) -> bool:
    try:
        broker = await broker_of(desk, connection)
    except VenueError as failure:
        log.warning("entry_not_cancelled", **await naming.looked_up(desk, order), reason=failure.message)
        return False
    return await lapsing.take_back(desk, broker, order, why)


async def _update(desk: Desk, event: Event, signal_id: UUID | None) -> None:
    """Apply an update to every position that is open from its signal, and to what may still open one.

    What is not claimed yet needs nothing: its claim reads the signal in its present wording.
    """
    async with desk.sessions() as session:
        rows = await session.execute(
            select(Execution.id, Position, Connection)
            .join(Connection, Connection.id == Execution.connection_id)
            .outerjoin(Position, Position.execution_id == Execution.id)
            .where(
                Execution.signal_id == signal_id,
                Connection.deleted_at.is_(None),
                or_(Execution.status.in_(_MAY_STILL_OPEN), Position.status.in_(OPEN)),
            )
            .order_by(Execution.id)
        )
        affected: list[tuple[UUID, Position | None, Connection]] = [
            (execution_id, position, connection) for execution_id, position, connection in rows.all()
        ]
    for execution_id, position, connection in affected:
        mark = None if position is None else await _mark(desk, position, connection)
        await _apply(desk, event, execution_id, connection, mark)


async def _mark(desk: Desk, position: Position, connection: Connection) -> Decimal | None:
    """What a position's stop goes by now, or its last mark where the venue has no fresh price."""
    try:
        price = await triggers.price(desk, await broker_of(desk, connection), position)
    except VenueError as failure:
        log.info("quote_unavailable", **naming.of_position(position), reason=failure.message)
        return position.current_price
    return position.current_price if price is None else price


async def _apply(
    desk: Desk, event: Event, execution_id: UUID, connection: Connection, mark: Decimal | None
) -> None:
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        if updating.is_noted(trade.execution, event):
            return
        updates = await updates_of(session, event.provider or "", event.source_id or "")
        applied = updating.apply(trade, event, updates, mark, desk.now())
    why = None if applied.lapsed is None else lapsing.lapsed(applied.lapsed, desk.now())
    if applied.lapsed is not None and why is not None:
        # Where it is not confirmed, the monitor cancels it: its end has come.
        await _cancelled(desk, applied.lapsed, connection, why)
    if applied.close_id is not None:
        await closing.carry_out(desk, applied.close_id)
    await protection.after(desk, execution_id)


async def _resting(session: AsyncSession, signal_id: UUID | None) -> Sequence[tuple[Order, Connection]]:
    rows = await session.execute(
        select(Order, Connection)
        .join(Connection, Connection.id == Order.connection_id)
        .join(Execution, Execution.id == Order.execution_id)
        .where(
            Execution.signal_id == signal_id,
            Connection.deleted_at.is_(None),
            Order.purpose == Purpose.ENTRY,
            Order.status == OrderStatus.OPEN,
        )
    )
    return [(order, connection) for order, connection in rows.all()]


async def _held(session: AsyncSession, signal_id: UUID | None) -> Sequence[UUID]:
    rows = await session.scalars(
        select(Position.execution_id)
        .join(Connection, Connection.id == Position.connection_id)
        .where(Position.signal_id == signal_id, Position.status.in_(OPEN), Connection.deleted_at.is_(None))
    )
    return rows.all()


async def _close(desk: Desk, event: Event, execution_id: UUID) -> bool:
    """Close what the event asks for of one position, once; False while another close is in the way of it."""
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position = trade.position
        if position is None or position.status is not PositionStatus.OPEN:
            return True
        if updating.is_noted(trade.execution, event):
            return True
        if trade.live_close is not None:
            return False
        now = desk.now()
        try:
            quantity = closing.closing_quantity(position, parse(event.data.get("portion") or "1"))
        except Invalid as too_small:
            updating.note(trade.execution, event, Verdict(Outcome.REFUSED, too_small.message), now)
            return True
        order = closing.start(trade, quantity, CloseReason.SIGNAL, now)
        order.idempotency_key = f"event:{event.id}"
        verdict = Verdict(Outcome.CLOSED, f"{text(quantity)} {position.symbol} is closed at market.")
        updating.note(trade.execution, event, verdict, now)
    await closing.carry_out(desk, order.id)
    return True


async def _may_still_open(desk: Desk, signal_id: UUID | None) -> bool:
    """Whether something of a signal can still open; until then its end stays due."""
    async with desk.sessions() as session:
        opening = await session.scalar(
            select(Execution.id)
            .where(Execution.signal_id == signal_id, Execution.status.in_(_MAY_STILL_OPEN))
            .limit(1)
        )
    return opening is not None


async def _finish(desk: Desk, event_id: UUID) -> None:
    async with desk.sessions.begin() as session:
        event = await session.get_one(Event, event_id)
        event.due_at = None
