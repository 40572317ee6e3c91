"""Following: what a later event about a signal means for what is already under way from it.

A cancel takes back what is not filled; a close also closes what is open, or a portion of it. What an event means
for an entry that is not claimed yet is read by the claim itself (see courses).
"""

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk
from app.domain.errors import Invalid
from app.domain.exits import CloseReason
from app.domain.money import parse
from app.domain.orders import OrderStatus, Purpose
from app.domain.positions import PositionStatus
from app.domain.signals import EventType
from app.engine import closing, placing, protection, trades
from app.engine.access import broker_of
from app.store.connections import Connection
from app.store.events import Event
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order
from app.store.positions import OPEN, Position
from app.store.signals import id_of

log = structlog.get_logger(__name__)

_MAY_STILL_OPEN = (ExecutionStatus.SENDING, ExecutionStatus.OPEN)


async def follow(desk: Desk, event_id: UUID) -> None:
    """Carry out what an event says on everything under way from its signal. Repeating it changes nothing."""
    async with desk.sessions() as session:
        event = await session.get_one(Event, event_id)
        if event.due_at is None or event.provider is None or event.source_id is None:
            return
        signal_id = await id_of(session, event.provider, event.source_id)
        resting = await _resting(session, signal_id)
        held = await _held(session, signal_id) if event.type == EventType.CLOSED else ()
    for order, connection in resting:
        await placing.cancel(desk, await broker_of(desk, connection), order)
        await protection.after(desk, order.execution_id)
    for execution_id in held:
        await _close(desk, event, execution_id)
    await _finish(desk, event_id, signal_id)


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


async def _close(desk: Desk, event: Event, execution_id: UUID) -> None:
    """Close what the event asks for of one position; the event's own id as the key makes it once."""
    key = f"event:{event.id}"
    portion = parse(event.data.get("portion") or "1")
    async with desk.sessions.begin() as session:
        trade = await trades.locked(session, execution_id)
        position = trade.position
        if position is None or position.status is not PositionStatus.OPEN or trade.live_close is not None:
            return
        if any(order.idempotency_key == key for order in trade.orders):
            return
        try:
            quantity = closing.closing_quantity(position, portion)
        except Invalid as too_small:
            log.info("close_too_small", position_id=str(position.id), reason=too_small.message)
            return
        order = closing.start(trade, quantity, CloseReason.SIGNAL, desk.now())
        order.idempotency_key = key
    await closing.carry_out(desk, order.id)


async def _finish(desk: Desk, event_id: UUID, signal_id: UUID | None) -> None:
    """The event is done with once nothing of its signal can open any more; until then it stays due."""
    async with desk.sessions.begin() as session:
        still_opening = await session.scalar(
            select(Execution.id)
            .where(Execution.signal_id == signal_id, Execution.status.in_(_MAY_STILL_OPEN))
            .limit(1)
        )
        if still_opening is None:
            event = await session.get_one(Event, event_id)
            event.due_at = None
