"""Withdrawing: entries that are not filled are taken back, those that wait and those that rest at a venue.

What is still on its way, or cannot be confirmed, the monitor takes back when it sees it resting.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers.port import Unreachable, VenueError
from app.desk import Desk
from app.domain.errors import Conflict, Denied, NotFound
from app.domain.orders import OrderStatus
from app.domain.owners import Owner
from app.engine import lapsing, projecting, telling, trades
from app.engine.access import broker_of
from app.engine.execution import deny
from app.engine.lapsing import Ending
from app.engine.trades import Trade
from app.store import executions, orders
from app.store.audit import Action
from app.store.connections import Connection
from app.store.executions import Execution, ExecutionStatus
from app.store.orders import Order

log = structlog.get_logger(__name__)


async def deny_waiting(session: AsyncSession, connection_id: UUID, denial: Denied, now: datetime) -> int:
    """Deny every execution that waits on a connection, whose lock is held; answers how many."""
    waiting = await _waiting(session, connection_id)
    for execution_id in waiting:
        deny(await trades.locked(session, execution_id), denial, now)
    return len(waiting)


async def withdraw_waiting(
    session: AsyncSession, connection_id: UUID, message: str, now: datetime
) -> Sequence[UUID]:
    """Cancel every execution that waits on a connection, whose lock is held; answers which."""
    waiting = await _waiting(session, connection_id)
    for execution_id in waiting:
        withdraw(await trades.locked(session, execution_id), message, now)
    return waiting


def withdraw(trade: Trade, message: str, now: datetime) -> None:
    """Cancel a pending execution: nothing of it is at the venue, and nothing will be."""
    execution = trade.execution
    if trade.entry is not None:
        trade.entry.status = OrderStatus.CANCELLED
        trade.entry.message = message
        trade.entry.due_at = None
        trade.entry.updated_at = now
        projecting.refresh(trade, now)
        return
    execution.status = ExecutionStatus.CANCELLED
    execution.message = message
    execution.due_at = None
    execution.updated_at = now
    telling.execution_withdrawn(trade.session, execution, now)


async def cancel_entries(desk: Desk, connection_id: UUID, why: Ending) -> None:
    """Take back the entries of a connection that rest at its venue."""
    async with desk.sessions() as session:
        connection = await session.get_one(Connection, connection_id)
        resting = await orders.resting_entries(session, [connection_id])
    if not resting:
        return
    try:
        broker = await broker_of(desk, connection)
    except VenueError as failure:
        log.warning("entries_not_cancelled", connection_id=str(connection_id), reason=failure.message)
        return
    for order in resting:
        await lapsing.take_back(desk, broker, order, why)


async def cancel(desk: Desk, owner: Owner, execution_id: UUID) -> None:
    """Take back one entry that waits or rests; what was filled of it stays.

    Raises NotFound, Conflict when there is nothing to take back any more or nobody can say, and VenueError when
    the venue did not confirm it.
    """
    async with desk.sessions.begin() as session:
        known = await executions.of_owner(session, owner, execution_id)
        if known is None:
            raise NotFound("execution")
        connection = await session.get_one(Connection, known.connection_id)
        trade = await trades.locked(session, execution_id)
        before, now = trade.execution.status, desk.now()
        entry = _withdrawn(trade, connection, now)
        trades.write_down(trade, Action.CANCEL, owner, now, before=before)
    if entry is None:
        return
    broker = await broker_of(desk, connection)
    if not await lapsing.take_back(desk, broker, entry, Ending(None, "Taken back by its owner.")):
        raise Unreachable("It did not confirm the cancellation; look at the execution and try again.")


def _withdrawn(trade: Trade, connection: Connection, now: datetime) -> Order | None:
    """Withdraw what waits; answers the order that has to be cancelled at the venue. Raises Conflict."""
    match trade.execution.status:
        case ExecutionStatus.PENDING:
            withdraw(trade, "Taken back before it was sent.", now)
            return None
        case ExecutionStatus.OPEN if connection.deleted_at is None:
            return trade.entry
        case ExecutionStatus.OPEN:
            raise Conflict("conflict", "Its connection was deleted; the order is no longer managed here.")
        case ExecutionStatus.SENDING:
            raise Conflict("conflict", "The entry is on its way to the venue; try again in a moment.")
        case ExecutionStatus.NEEDS_REVIEW:
            raise Conflict("conflict", "Nobody knows whether the entry was placed; resolve it first.")
        case status:
            raise Conflict("conflict", f"There is nothing to take back: the execution is {status}.")


async def _waiting(session: AsyncSession, connection_id: UUID) -> Sequence[UUID]:
    rows = await session.scalars(
        select(Execution.id)
        .where(Execution.connection_id == connection_id, Execution.status == ExecutionStatus.PENDING)
        .order_by(Execution.id)
    )
    return rows.all()
