"""Reporting: the daily rows of every connection, and what the venues say of their accounts when a day ends.

A row's figures are computed from positions, so a day may be reported at any time and as often as one likes.
What a venue said at 00:00 UTC nobody can ask again: it is taken right then, and never overwritten.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.brokers import port
from app.brokers.port import VenueError
from app.desk import Desk
from app.domain import portfolios
from app.domain.errors import EngineError, Invalid
from app.domain.performance import utc_day
from app.domain.portfolios import ONE_DAY, HistoryKey, midnight
from app.engine import strikes
from app.engine.access import broker_of, snapshots_of
from app.store import analytics
from app.store.connections import Connection, ConnectionStatus
from app.vault import CannotOpen

log = structlog.get_logger(__name__)

BATCH: Final = 500
"""Connections that are asked together, and read, computed and written in one transaction."""

ASKED_AT_ONCE: Final = 16
"""Venue accounts that are asked for at the same time; fewer than a process has database connections."""

ANSWER_WITHIN: Final = timedelta(seconds=20)
"""How long a venue has to answer for one account."""

SNAPSHOT_WITHIN: Final = timedelta(minutes=15)
"""How long after 00:00 UTC an answer still counts as what the venue said then."""

UNREACHABLE: Final = "The account could not be reached at the last check."
"""The `last_error` of an active connection whose venue does not answer."""

CATCH_UP_DAYS: Final = 31
"""How far back missed days are looked for."""


async def report_day(desk: Desk, day: date) -> int:
    """Compute the rows of a completed UTC day, again if need be; answers how many there are.

    Every connection that is active or traded that day has one in each currency that it began with or has
    traded in. Raises Invalid for a day that is not over.
    """
    _check_over(desk, day)
    rows, after = 0, None
    while True:
        async with desk.sessions.begin() as session:
            batch = await analytics.connections_to_report(session, day, after=after, limit=BATCH)
            rows += await _record(desk, session, batch, day, {})
        if len(batch) < BATCH:
            log.info("day_reported", day=day.isoformat(), rows=rows)
            return rows
        after = batch[-1]


async def catch_up(desk: Desk) -> list[date]:
    """Report the days of the last month that were missed, and yesterday in any case; answers which.

    The month is `CATCH_UP_DAYS` long and begins no earlier than the first activation of all.
    """
    yesterday = utc_day(desk.now()) - ONE_DAY
    async with desk.sessions() as session:
        activated_at = await analytics.first_activation(session)
        if activated_at is None:
            return []
        first_day = max(yesterday - (CATCH_UP_DAYS - 1) * ONE_DAY, utc_day(activated_at))
        reported = await analytics.reported_days(session, first_day, yesterday)
    days = [first_day + n * ONE_DAY for n in range((yesterday - first_day).days + 1)]
    missed = [day for day in days if day not in reported or day == yesterday]
    for day in missed:
        await report_day(desk, day)
    return missed


async def snapshot_balances(desk: Desk, day: date) -> int:
    """Ask the venues of all active connections for their accounts; answers how many of them said.

    To be called right after 00:00 UTC, for the day that has just ended: balance and equity go into its rows,
    unless they are known already, and into the connections. A later answer goes into the connections only.
    Raises Invalid for another day.
    """
    if day != utc_day(desk.now()) - ONE_DAY:
        raise Invalid("day", "Balances can only be asked for the day that has just ended.")
    said, after = 0, None
    while True:
        batch = await _active_connections(desk, after)
        accounts = await _ask_all(desk, batch)
        async with desk.sessions.begin() as session:
            await _keep(session, accounts)
            await _record(desk, session, [connection.id for connection in batch], day, accounts)
        said += len(accounts)
        if len(batch) < BATCH:
            log.info("balances_taken", day=day.isoformat(), connections=said)
            return said
        after = batch[-1].id


async def check_health(desk: Desk) -> int:
    """Ask the venues of all active connections for their accounts and note what they said; answers how many did.

    A connection that cannot be reached says so in `last_error`; its status is its owner's to change.
    """
    said, after = 0, None
    while True:
        batch = await _active_connections(desk, after)
        accounts = await _ask_all(desk, batch)
        silent = [connection.id for connection in batch if connection.id not in accounts]
        async with desk.sessions.begin() as session:
            await _keep(session, accounts)
            await session.execute(
                update(Connection).where(Connection.id.in_(silent)).values(last_error=UNREACHABLE)
            )
        said += len(accounts)
        if len(batch) < BATCH:
            return said
        after = batch[-1].id


def _check_over(desk: Desk, day: date) -> None:
    """A day that has not ended has no final figures."""
    if day >= utc_day(desk.now()):
        raise Invalid("day", f"{day.isoformat()} is not over yet; only completed UTC days are reported.")


async def _record(
    desk: Desk,
    session: AsyncSession,
    connection_ids: Sequence[UUID],
    day: date,
    accounts: Mapping[UUID, port.Account],
) -> int:
    """Compute and write the rows of some connections; answers how many there are."""
    histories = await analytics.histories_on(session, connection_ids, day)
    figures = {
        history.key: statistics
        for history in histories
        for statistics in portfolios.daily([history], [day]).values()
    }
    snapshots = {
        HistoryKey(connection_id, currency): snapshot
        for connection_id, account in accounts.items()
        if account.as_of <= midnight(day + ONE_DAY) + SNAPSHOT_WITHIN
        for currency, snapshot in snapshots_of(account).items()
    }
    await analytics.record(session, day, figures, snapshots, desk.now())
    return len(figures)


async def _active_connections(desk: Desk, after: UUID | None) -> Sequence[Connection]:
    """The next batch of active connections by id, with what it takes to open their brokers."""
    wanted = (
        select(Connection)
        .where(Connection.status == ConnectionStatus.ACTIVE, Connection.deleted_at.is_(None))
        .order_by(Connection.id)
        .limit(BATCH)
    )
    if after is not None:
        wanted = wanted.where(Connection.id > after)
    async with desk.sessions() as session:
        return (await session.scalars(wanted)).all()


async def _ask_all(desk: Desk, connections: Sequence[Connection]) -> dict[UUID, port.Account]:
    """The accounts of those connections whose venues answered, a bounded number of them asked at a time."""
    gate = asyncio.Semaphore(ASKED_AT_ONCE)
    accounts: dict[UUID, port.Account] = {}

    async def ask(connection: Connection) -> None:
        async with gate:
            account = await _ask(desk, connection)
        if account is not None:
            accounts[connection.id] = account

    async with asyncio.TaskGroup() as tasks:
        for connection in connections:
            tasks.create_task(ask(connection))
    return accounts


async def _ask(desk: Desk, connection: Connection) -> port.Account | None:
    """The account as its venue describes it; None when it does not answer."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            broker = await broker_of(desk, connection)
            account = await broker.account()
    except (VenueError, EngineError, CannotOpen, TimeoutError) as failure:
        log.warning(
            "balance_unknown",
            connection_id=str(connection.id),
            reason=type(failure).__name__,
            message=str(failure),
        )
        if isinstance(failure, VenueError):
            await strikes.of_read(desk, connection.id, failure)
        return None
    await strikes.clear(desk, connection)
    return account


async def _keep(session: AsyncSession, accounts: Mapping[UUID, port.Account]) -> None:
    """Write what the venues said into the connections, by id so that no two writers wait for each other."""
    said = [
        {
            "id": connection_id,
            "balances": {
                currency: snapshot.text()
                for currency, snapshot in snapshots_of(accounts[connection_id]).items()
            },
            "balances_at": accounts[connection_id].as_of,
            "last_error": None,
        }
        for connection_id in sorted(accounts)
    ]
    if said:
        await session.execute(update(Connection), said)
