"""Losses: what breaching `max_daily_loss` does. The connection only reduces until the next UTC day.

The automatic `reducing` is a time on the connection, beside the mode that people set: it lifts itself when the time
has come and never touches a mode. The claim counts the loss by itself, so nothing is entered in between.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.desk import Desk
from app.domain.errors import Denied
from app.domain.exits import CloseReason
from app.domain.positions import PositionStatus
from app.domain.risk import Limits, OnDailyLoss, check_daily_loss
from app.engine import closing, telling, withdrawing
from app.engine.lapsing import Ending
from app.engine.rooms import AT_ONCE, Room, side_by_side
from app.store import audit, connections, positions
from app.store.audit import Action
from app.store.connections import Connection
from app.store.positions import Position

log = structlog.get_logger(__name__)


async def enforce(desk: Desk) -> None:
    """Put every connection whose loss has reached its limit into `reducing`, and close what its owner wants closed.

    Any number of workers may do this at once: each connection is put there once, and each position closed once.
    """
    now = desk.now()
    async with desk.sessions() as session:
        breached = await positions.beyond_daily_loss(session, now)
    reduced: list[tuple[UUID, Denied]] = []

    async def reduce(connection_id: UUID) -> None:
        if (denial := await _reduce(desk, connection_id)) is not None:
            reduced.append((connection_id, denial))

    failures = await side_by_side(map(reduce, breached), Room(AT_ONCE))
    async with desk.sessions() as session:
        unwanted = await _unwanted(session, now)
    failures += await side_by_side(
        [
            *(closing.leave(desk, each, CloseReason.RISK) for each in unwanted),
            *(withdrawing.cancel_entries(desk, each, Ending.of(denial)) for each, denial in reduced),
        ],
        Room(AT_ONCE),
    )
    if failures:
        raise ExceptionGroup("a day's loss was not acted upon everywhere", failures)


def next_day(now: datetime) -> datetime:
    """00:00 UTC of tomorrow."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


async def _reduce(desk: Desk, connection_id: UUID) -> Denied | None:
    """Let a connection only reduce, unless it does already; answers why its entries are to be taken back."""
    now = desk.now()
    async with desk.sessions.begin() as session:
        connection = await connections.locked(session, connection_id)
        if connection is None or connection.reduces_by_itself(now):
            return None
        denial = await _denial(session, connection, now)
        if denial is None:
            return None
        connection.reducing_until = next_day(now)
        connection.updated_at = now
        audit.record(
            session,
            Action.DAILY_LOSS,
            None,
            denial.message,
            now,
            connection_id=connection_id,
            until=connection.reducing_until.isoformat(),
        )
        telling.daily_loss_reached(session, connection, denial, now)
        await withdrawing.deny_waiting(session, connection_id, denial, now)
    log.warning("daily_loss_reached", connection_id=str(connection_id), reason=denial.message)
    return denial


async def _denial(session: AsyncSession, connection: Connection, now: datetime) -> Denied | None:
    """Why an entry would be denied for today's loss; None while there is room."""
    lost = await positions.lost_today(session, connection.id, now)
    try:
        check_daily_loss(Limits.read(connection.limits), lost)
    except Denied as denial:
        return denial
    return None


async def _unwanted(session: AsyncSession, now: datetime) -> Sequence[UUID]:
    """The executions of open positions whose owners want none after a day's loss."""
    rows = await session.scalars(
        select(Position.execution_id)
        .join(Connection, Connection.id == Position.connection_id)
        .where(
            Connection.reducing_until > now,
            Connection.limits["on_daily_loss"].astext == OnDailyLoss.CLOSE.value,
            Connection.deleted_at.is_(None),
            Position.status == PositionStatus.OPEN,
        )
        .order_by(Position.id)
    )
    return rows.all()
